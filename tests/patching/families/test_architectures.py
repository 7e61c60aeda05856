"""Every architecture that opens computes what transformers computes, part by part."""

import copy

import numpy as np
import pytest
import torch

from patching import baselines, run_circuits
from patching.families import MODULES, known
from patching.forward import Write
from patching.generate import generate
from patching.nodes.edges import edges
from patching.scoring import score
from tests import definitions, families
from tests.families_page import page

pytestmark = pytest.mark.filterwarnings("ignore:.*torchdynamo.*")


@pytest.fixture(params=families.ARCHITECTURES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def opened(name):
    return families.single(name)


@pytest.fixture(scope="module")
def theirs(name):
    """The transformers model, with the attention that the family means."""
    hf = copy.deepcopy(families.original(name))
    hf.config._attn_implementation = families.single(name).parts.right_attention or "eager"
    return hf


def prompts(length, n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, families.VOCABULARY, (n, length), generator=generator)


@pytest.mark.parametrize("length", [12, 40, 100])
def test_logits_are_those_of_transformers(opened, theirs, length):
    tokens = prompts(length)
    with torch.no_grad():
        ours = opened.run(tokens, torch.ones_like(tokens, dtype=torch.bool))
        wanted = theirs(tokens).logits[:, -1]
    assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_padding_on_the_left_changes_nothing(opened):
    tokens = prompts(14)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, :6] = False
    with torch.no_grad():
        padded = opened.run(tokens, mask)[1]
        alone = opened.run(tokens[1:, 6:], mask[1:, 6:])[0]
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def test_every_tapped_value_is_alive(opened):
    tokens = prompts(6)
    mask, everything = torch.ones_like(tokens, dtype=torch.bool), definitions.Everything()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        base = opened.run(tokens, mask, everything)
        for point, value in everything.values.items():
            factor = 1 + torch.rand(value.shape, generator=generator)
            edited = opened.run(tokens, mask, Write({point: lambda v, f=factor: v * f}))
            assert (edited - base).abs().max() > 1e-5, f"{point} is dead"


def test_generation_is_the_greedy_one_of_transformers(opened, theirs):
    """Step by step with a cache of keys and values, against whole forward passes."""
    tokens = prompts(7)
    made = generate(opened, tokens, torch.ones_like(tokens, dtype=torch.bool), 6)
    whole = tokens
    with torch.no_grad():
        for _ in range(6):
            whole = torch.cat([whole, theirs(whole).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(made, whole[:, 7:])


def test_the_circuit_of_all_edges_is_the_clean_run(opened):
    """Patching every edge exactly restores the run; patching none leaves the corrupted one."""
    pairs = families.make_pairs()
    every = [edge.name for edge in edges(opened.anatomy)]
    kept, none = run_circuits(opened, pairs, [every, []])
    clean, corrupted = baselines(opened, pairs)
    np.testing.assert_allclose(kept, clean, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(none, corrupted, rtol=1e-5, atol=2e-5)
    part = every[::2]
    wanted = definitions.circuit_metric(opened, families.one_batch(opened, pairs), part)
    np.testing.assert_allclose(run_circuits(opened, pairs, [part])[0], wanted, atol=5e-5)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_secants_sum_to_the_total(name, direction):
    """Over edges from the input, over edges into the logits, and over every whole layer."""
    model, pairs = families.opened(name), families.make_pairs()
    found = score(model, pairs, "secant", "edge", direction)
    for end in ("input->", "->logits"):
        cut = sum(found[edge] for edge in found if end in edge)
        assert cut == pytest.approx(found.total_effect, abs=1e-5 * max(1, abs(found.total_effect)))
    stream = score(model, pairs, "secant", "site", direction, sites="resid_post")
    np.testing.assert_allclose(stream.values, found.total_effect, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["attribution", "secant"])
def test_edges_out_of_a_sender_add_up_to_its_node(name, method):
    """Query heads keep their own edges where they share keys and values."""
    model, pairs = families.opened(name), families.make_pairs()
    node, edge = (score(model, pairs, method, level) for level in ("node", "edge"))
    sums = dict.fromkeys(node, 0.0)
    for each in edge:
        sums[each.split("->")[0]] += edge[each]
    for each in node:
        # A head under a post-norm shares its scale with the others: only all heads add up there.
        if model.blocks[0].ln1_post is None or not each.startswith("a"):
            assert sums[each] == pytest.approx(node[each], abs=1e-7), each


def test_single_edges_are_those_of_the_definition(opened):
    pairs = families.make_pairs(n=3)
    batch = families.one_batch(opened, pairs)
    runs = definitions.Runs.of(opened, batch, "noising")
    found = score(opened, pairs, "activation", "edge")
    for edge in list(edges(opened.anatomy))[::7]:
        exact = float(definitions.exact_edge(runs, edge).mean())
        assert found[edge.name] == pytest.approx(exact, abs=2e-5), edge.name


def test_every_module_of_the_package_teaches_families_that_are_tested(root):
    taught = {path.stem for path in (root / "patching" / "families").glob("*.py")}
    machinery = {"__init__", "description", "take_apart", "refusals", "mixtures"}
    traits = {"alibi", "fused", "rotary", "windows"}
    assert taught - machinery - traits == set(MODULES)
    assert set(known()) == {kind for kind, _ in families.ARCHITECTURES.values()}


def test_the_page_of_families_is_that_of_the_table(root):
    """Made by ``make families``."""
    assert (root / "circuits" / "FAMILIES.md").read_text(encoding="utf-8") == page()
