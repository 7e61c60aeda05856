"""Trained models from beside the project: what the methods say of behaviour that is there."""

import numpy as np
import pytest

from patching import Model, baselines, run_circuits
from patching.methods import EFFECTS
from patching.nodes.edges import edges
from patching.scoring import score
from tasks.pairs import PromptPairs

GIRLS, BOYS = ("Lily", "Sue", "Amy", "Mia", "Sara"), ("Tim", "Max", "Bob")
LENGTHS = {"Lily": 1, "Tim": 1}
TEMPLATES = (
    "Once upon a time, there was a little {kind} named {name}. One day,",
    "There was a {kind} named {name}. Every day,",
    "Once there was a {kind} named {name}. One morning,",
)


def opened(shared, name):
    directory = shared / "models" / name
    if not directory.is_dir():
        pytest.skip(f"the model {name} is not beside the project")
    return Model.open(directory)


@pytest.fixture(scope="module")
def stories(shared):
    """A Llama of 5 layers, with 8 heads on 4 key/value heads, that tells stories."""
    return opened(shared, "stories260K")


@pytest.fixture(scope="module")
def pronouns(stories):
    """A girl or a boy of equally many tokens, and whether she or he follows."""
    texts = [
        [template.format(kind=kind, name=name) for kind, name in (("girl", girl), ("boy", boy))]
        for template in TEMPLATES
        for girl in GIRLS
        for boy in BOYS
        if LENGTHS.get(girl, 3) == LENGTHS.get(boy, 3)
    ]
    girl, boy = zip(*texts, strict=True)
    return PromptPairs.from_texts(
        stories.tokenizer, girl, boy, [" she"] * len(girl), [" he"] * len(girl)
    )


@pytest.fixture(scope="module")
def sorter(shared):
    """A GPT-2 without a tokenizer that reads six of 0, 1, 2 and then writes them in order."""
    return opened(shared, "gpt-nano-sort")


@pytest.fixture(scope="module")
def letters():
    """Six letters whose smallest is 0, or 1 after all their zeros became ones."""
    rows = np.random.default_rng(0).integers(0, 3, (40, 6))
    rows = rows[(rows == 0).any(1)][:24]
    return PromptPairs.from_tokens(
        clean=rows,
        corrupted=np.where(rows == 0, 1, rows),
        answer=[0] * len(rows),
        counterfactual=[1] * len(rows),
    )


def test_the_behaviour_is_there(stories, pronouns, sorter, letters):
    assert len(pronouns) == 27
    assert stories.anatomy.n_kv_heads == 4
    assert sorter.tokenizer is None
    for model, pairs in ((stories, pronouns), (sorter, letters)):
        clean, corrupted = baselines(model, pairs)
        assert (clean > 0).all()
        assert (corrupted < 0).all()


@pytest.mark.parametrize("which", ["stories", "sorter"])
def test_secants_are_complete(which, request, direction):
    model = request.getfixturevalue(which)
    pairs = request.getfixturevalue({"stories": "pronouns", "sorter": "letters"}[which])
    edge = score(model, pairs, "secant", "edge", direction)
    for end in ("input->", "->logits"):
        cut = sum(edge[name] for name in edge if end in name)
        assert cut == pytest.approx(edge.total_effect, rel=1e-4)
    stream = score(model, pairs, "secant", "site", direction, sites="resid_post")
    np.testing.assert_allclose(stream.values, edge.total_effect, rtol=1e-4)


@pytest.fixture(scope="module", params=["stories", "sorter"])
def exact(request):
    """The exact effects of nodes both ways, and of edges one way, on a third of the pairs."""
    model = request.getfixturevalue(request.param)
    pairs = request.getfixturevalue({"stories": "pronouns", "sorter": "letters"}[request.param])
    pairs = pairs[::3]
    wanted = [("node", "noising"), ("node", "denoising"), ("edge", "noising")]
    found = [score(model, pairs, "activation", level, direction) for level, direction in wanted]
    return model, pairs, found


@pytest.mark.parametrize("method", [name for name in EFFECTS if name != "activation"])
def test_estimates_follow_the_exact_effects(exact, method):
    """Pearson over all nodes and all edges; attribution alone is known to be poor on nodes."""
    model, pairs, effects = exact
    for effect in effects:
        found = score(model, pairs, method, effect.level, effect.direction)
        pearson = np.corrcoef(found.values, effect.values)[0, 1]
        assert pearson > (0.6 if method == "attribution" else 0.8), f"{effect} {pearson:.3f}"


def test_a_circuit_of_the_strongest_edges_keeps_the_behaviour(stories, pronouns):
    scores = score(stories, pronouns, "secant", "edge")
    strongest = scores.ranked()[:200]
    every = [edge.name for edge in edges(stories.anatomy)]
    weakest = scores.ranked()[-200:]
    kept, full, empty, other = run_circuits(
        stories, pronouns, [strongest, every, [], weakest]
    ).mean(1)
    assert (kept - empty) / (full - empty) > 0.8
    assert abs(other - empty) / (full - empty) < 0.1
