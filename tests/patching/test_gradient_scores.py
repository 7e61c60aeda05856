"""Estimates against their definitions: the rate at which the metric moves with a site or edge."""

import copy
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from patching import sites
from patching.gradient_scores import edge_kinds, edge_scores, site_scores
from patching.linearised import Kinds
from patching.methods import get, linearisation
from patching.model import Model
from patching.nodes.edges import edges as all_edges
from patching.nodes.layout import layout_of
from patching.ops import PLAIN
from patching.rules import RelevanceOps, Rules
from patching.runs import record_gradients
from patching.scoring import score
from patching.secant import SecantOps
from patching.setting import Setting
from patching.sitesets import kinds_of, label_columns, site_set
from tests import definitions, families

METHODS = {
    "attribution": {},
    "relevance": {"rules": "relp"},
    "secant": {},
    "ig": {"steps": 2},
}
CASES = [
    ("attribution", "noising"),
    ("attribution", "denoising"),
    ("relevance", "denoising"),
    ("secant", "noising"),
    ("ig", "noising"),
]
EVERY = 7


def linearised(model, pairs, method, direction, kinds):
    kinds = kinds if isinstance(kinds, Kinds) else Kinds.scoring(kinds)
    batch = families.one_batch(model, pairs)
    setting = Setting(model, batch, families.LOGIT_DIFF, direction)
    return batch, linearisation(method, get(method).check(METHODS[method]))(setting, kinds)


def by_definition(runs, method, target, *columns):
    if method == "ig":
        return definitions.along(slope_of(target), runs, target, METHODS["ig"]["steps"])
    ops = {
        "attribution": PLAIN,
        "relevance": RelevanceOps(Rules.relp()),
        "secant": SecantOps(runs.there),
    }[method]
    return slope_of(target)(runs, target, *columns, ops=ops)


def slope_of(target):
    is_edge = isinstance(target, sites.Edge)
    return definitions.slope_edge if is_edge else definitions.slope_site


def assert_close(found, expected, msg):
    """To 1e-5 of the largest score."""
    torch.testing.assert_close(
        found, expected, rtol=0, atol=1e-5 * (float(expected.abs().max()) + 0.1), msg=msg
    )


@pytest.mark.parametrize(("method", "direction"), CASES)
def test_edges_are_rates_of_change(model, pairs, direction, method):
    batch, found = linearised(model, pairs, method, direction, edge_kinds(layout_of(model.anatomy)))
    scores = edge_scores(model, found, layout_of(model.anatomy))
    edges = list(all_edges(model.anatomy))
    assert scores.shape == (len(pairs), len(edges))
    runs = definitions.Runs.of(model, batch, direction)
    first = CASES.index((method, direction))
    for i in range(first, len(edges), EVERY):
        assert_close(scores[:, i], by_definition(runs, method, edges[i]), f"{edges[i]}")


@pytest.mark.parametrize(("method", "direction"), CASES)
def test_sites_are_rates_of_change(model, pairs, direction, method):
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for number, kind in enumerate(kinds_of(model.anatomy)):
        wanted = site_set(kind, model.anatomy, pairs)
        batch, found = linearised(model, pairs, method, direction, wanted.kinds)
        scores = site_scores(found, wanted, batch)
        places = [site for group in wanted.groups for site in group.sites]
        assert scores.shape == (len(pairs), len(places))
        for i in range(number % 2, len(places), 41 if kind == "neuron" else 5):
            expected = by_definition(runs, method, places[i])
            assert_close(scores[:, i], expected, f"{method} {places[i]}")


@pytest.mark.parametrize("method", ["attribution", "secant"])
def test_sites_at_named_positions(model, pairs, method):
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), "noising")
    for kind in ("resid_pre", "q", "v", "pattern"):
        wanted = site_set(kind, model.anatomy, pairs, "named")
        batch, found = linearised(model, pairs, method, "noising", wanted.kinds)
        scores = site_scores(found, wanted, batch)
        site = wanted.groups[-1].sites[-1]
        for label, column in zip(wanted.labels, scores.T[-2:], strict=True):
            columns = label_columns([label], batch)[:, 0]
            assert_close(column, by_definition(runs, method, site, columns), f"{site}@{label}")


@pytest.mark.parametrize("method", METHODS)
def test_positions_add_up_to_the_whole_site(gpt2, method):
    pairs = families.make_pairs(padding=(0,))
    for kind in ("node", "resid_mid", "k", "pattern"):
        whole = score(gpt2, pairs, method, "site", sites=kind)
        each = score(gpt2, pairs, method, "site", sites=kind, positions="token")
        summed = each.values.reshape(len(whole), -1).sum(1)
        np.testing.assert_allclose(summed, whole.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "direction"), CASES)
def test_edges_out_of_a_sender_add_up_to_its_node(model, pairs, direction, method):
    """A head under a post-norm shares its scale with the others, so there only all heads add up."""
    node = score(model, pairs, method, "node", direction, **METHODS[method])
    edge = score(model, pairs, method, "edge", direction, **METHODS[method])
    sums = dict.fromkeys(node, 0.0)
    for name in edge:
        sums[name.split("->")[0]] += edge[name]
    for name in node:
        if model.blocks[0].ln1_post is not None and name.startswith("a"):
            continue
        assert sums[name] == pytest.approx(node[name], abs=1e-5), name


@pytest.mark.parametrize("family", families.GROUPED)
def test_edges_into_query_heads_add_up_to_the_shared_key_value_head(family, pairs):
    """What all query heads read through their shared key is what the key itself changes.

    Exactly so for secants, which carry the difference itself through the norm before it.
    """
    model = families.opened(family)
    a = model.anatomy
    edge = score(model, pairs, "secant", "edge")
    for port in ("k", "v"):
        node = score(model, pairs, "secant", "site", sites=port)
        for name in node:
            layer, kv = (int(part[1:]) for part in name.split(".")[:2])
            readers = [h for h in range(a.n_heads) if a.kv_head(h) == kv]
            assert len(readers) == 2
            ends = tuple(f"->a{layer}.h{head}<{port}>" for head in readers)
            into = sum(edge[name] for name in edge if name.endswith(ends))
            assert into == pytest.approx(node[name], abs=1e-5), name


@pytest.mark.parametrize("family", families.GROUPED)
def test_gradients_of_query_heads_add_up_to_the_shared_key_value_head(family, pairs):
    model = families.opened(family)
    batch = families.one_batch(model, pairs)
    found = record_gradients(
        model, batch, "clean", families.LOGIT_DIFF, ("k", "k_read", "v", "v_read")
    )
    for (kind, layer), shared in found.grads.items():
        if kind in ("k", "v"):
            each = found.grads[f"{kind}_read", layer]
            grouped = each.unflatten(2, (model.anatomy.n_kv_heads, -1)).sum(3)
            torch.testing.assert_close(grouped, shared, rtol=1e-5, atol=1e-6)


def test_tiles_change_nothing(model, pairs, monkeypatch):
    expected = score(model, pairs, "secant", "edge")
    for size in (4096, 20_000):
        monkeypatch.setattr("patching.gradient_scores.TILE_BYTES", size)
        again = score(model, pairs, "secant", "edge")
        np.testing.assert_allclose(again.values, expected.values, rtol=0, atol=1e-6)


def test_the_error_of_integrated_gradients_falls_with_the_square_of_the_steps(pairs):
    model = families.opened("gpt2")

    def error(steps):
        scores = score(model, pairs, "ig", "node", steps=steps)
        return abs(scores["input"] - scores.total_effect)

    errors = [error(steps) for steps in (10, 20, 40)]
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def bridge_with_gradients(family):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    hf = copy.deepcopy(families.original(family))
    return build_bridge_from_module(
        hf, architecture=type(hf).__name__, hf_config=hf.config, tokenizer=None
    )


def name_of(node):
    """Their node as ours, and the port if it is one."""
    ports = {"q_input": "q", "k_input": "k", "v_input": "v"}
    plain = {"embed": "input", "mlp_out": f"m{node.layer}", "mlp_in": f"m{node.layer}"}
    plain |= {"attn_head_out": f"a{node.layer}.h{node.head}", "logits": "logits"}
    if node.kind in ports:
        return f"a{node.layer}.h{node.head}<{ports[node.kind]}>"
    return plain[node.kind]


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_edges_agree_with_transformer_lens(family, direction):
    """Their attribution patching takes the gradient at the run they call corrupt: our denoising.

    Their difference points from corrupt to clean, as ours does, so denoising scores are theirs as
    they are. With the runs swapped theirs is minus our noising.
    """
    from transformer_lens.tools.analysis.attribution_patching import (
        EdgeAttributionConfig,
        attribution_patch,
    )

    pairs = families.make_pairs(n=2, padding=(0,))
    ours = score(families.opened(family), pairs, "attribution", "edge", direction)
    bridge, theirs = bridge_with_gradients(family), dict.fromkeys(ours.names, 0.0)
    for i in range(len(pairs)):
        clean, corrupted = (torch.tensor(ids[i : i + 1]) for ids in (pairs.clean, pairs.corrupted))
        runs = (clean, corrupted) if direction == "denoising" else (corrupted, clean)
        right, wrong = int(pairs.answer[i, 0]), int(pairs.counterfactual[i, 0])
        found = attribution_patch(
            bridge,
            *runs,
            lambda logits, r=right, w=wrong: logits[0, -1, r] - logits[0, -1, w],
            EdgeAttributionConfig(granularity="edge"),
        )
        for (writer, reader), value in found.edge_scores.items():
            theirs[f"{name_of(writer)}->{name_of(reader)}"] += value / len(pairs)
    sign = 1 if direction == "denoising" else -1
    expected = sign * np.array([theirs[name] for name in ours.names])
    assert len(theirs) == len(ours)
    np.testing.assert_allclose(ours.values, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_model_with_one_layer():
    """Nothing reads a head of the only layer but its MLP and the logits."""
    model = Model.open(families.build("gpt2", n_layer=1))
    pairs = families.make_pairs()
    exact = score(model, pairs, "activation", "edge")
    secant = score(model, pairs, "secant", "edge")
    assert len(exact) == 12 + 5 + 6
    cut = sum(secant[name] for name in secant if name.endswith("->logits"))
    assert cut == pytest.approx(exact.total_effect, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_that_run_twice_give_the_same_to_the_bit(model, pairs, method):
    """Only one block's graph is held at a time; the derivatives are those of the same values."""
    batch, layout = families.one_batch(model, pairs), layout_of(model.anatomy)
    linearise = linearisation(method, get(method).check(METHODS[method]))
    once, twice = (
        edge_scores(
            model,
            linearise(
                Setting(model, batch, families.LOGIT_DIFF, "noising", again), edge_kinds(layout)
            ),
            layout,
        )
        for again in (False, True)
    )
    assert torch.equal(once, twice)


def test_a_graph_is_held_for_one_block_at_a_time(gpt2, pairs):
    """What autograd keeps at once: of all blocks, or with ``again`` of one."""
    batch = families.one_batch(gpt2, pairs)
    held = {}
    for again in (False, True):
        kept = weakref.WeakSet()
        sizes = []

        class Saved:
            def __init__(self, value):
                self.value = value

        def pack(value, kept=kept, sizes=sizes, kind=Saved):
            kept.add(saved := kind(value))
            sizes.append(len(kept))
            return saved

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.value):
            record_gradients(gpt2, batch, "clean", families.LOGIT_DIFF, ("q",), again=again)
        held[again] = max(sizes)
    assert gpt2.anatomy.n_layers == 2
    assert held[True] < 0.7 * held[False]


def test_passes_that_speak_for_the_same_add_up_before_their_products(gpt2, pairs):
    """Integrated gradients: the sum of every step's scores."""
    batch, layout = families.one_batch(gpt2, pairs), layout_of(gpt2.anatomy)
    setting = Setting(gpt2, batch, families.LOGIT_DIFF, "noising")

    def linearised():
        return linearisation("ig", {"steps": 3, "on": "inputs"})(setting, edge_kinds(layout))

    together = edge_scores(gpt2, linearised(), layout)
    steps = list(linearised().passes)
    each = [edge_scores(gpt2, replace(linearised(), passes=iter([step])), layout) for step in steps]
    assert len(each) == 3
    assert_close(together, sum(each), "three steps")
