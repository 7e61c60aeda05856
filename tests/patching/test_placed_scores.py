"""Scores at places: estimates add up to the plain ones, exact effects are one run each."""

import numpy as np
import pytest

from patching.circuit_run import run_circuits
from patching.nodes.layout import layout_of
from patching.placed import PlacedEdges
from patching.places import places_of
from patching.scoring import score
from tasks.errors import MethodError
from tests import families

CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.mark.parametrize("method", ["attribution", "secant", "ig:steps=2"])
def test_estimates_of_all_places_add_up_to_the_edges_and_the_heads(model, pairs, method):
    found = score(model, pairs, method, "placed", positions="named")
    layout, places = layout_of(model.anatomy), places_of("named", pairs)
    size = layout.n_edges * len(places)
    edges = found.values[:size].reshape(-1, len(places)).sum(1)
    np.testing.assert_allclose(edges, score(model, pairs, method, "edge").values, **CLOSE)
    heads = found.values[size:].reshape(-1, len(places) ** 2).sum(1)
    nodes = score(model, pairs, method, "node")
    expected = [nodes[name] for name in nodes.names if name.startswith("a")]
    np.testing.assert_allclose(heads, expected, **CLOSE)


def test_at_named_positions_both_kinds_are_the_single_ones(model, pairs, direction):
    for method in ("secant", "activation"):
        found = score(model, pairs, method, "placed", direction, positions="named")
        for level in ("edge", "attention_edge"):
            alone = score(model, pairs, method, level, direction, positions="named")
            here = [found[name] for name in alone.names]
            np.testing.assert_allclose(here, alone.values, **CLOSE)


def test_exact_effects_at_places_are_one_circuit_run_each(model, pairs):
    """Denoising: a circuit of one way through one edge cannot be compared, noising can."""
    if model.blocks[0].ln1_post is not None:
        pytest.skip("under a post-norm one head's output changes what all others write")
    found = score(model, pairs, "activation", "placed", positions="named")
    every = PlacedEdges.all(layout_of(model.anatomy), places_of("named", pairs))
    names = [edge.name for edge in every]
    assert set(names) == set(found.names)
    some = [n for n in names if n.endswith("->logits@END") or n.startswith("a1")][::3]
    without = [PlacedEdges.of(set(names) - {n}, model.anatomy, every.places) for n in some]
    full, *cut = run_circuits(model, pairs, [every, *without]).mean(1)
    np.testing.assert_allclose([found[n] for n in some], full - np.array(cut), **CLOSE)


def test_what_cannot_be_scored_at_places_is_refused(gpt2, pairs):
    with pytest.raises(MethodError, match="between heads and whole MLPs"):
        score(gpt2, pairs, "secant", "placed", positions="named", nodes="neurons")
    with pytest.raises(MethodError, match="places are token or named"):
        score(gpt2, pairs, "secant", "placed")
    alone = families.make_pairs(n=2, length=7, padding=(0,), differing=(2,))
    assert score(gpt2, alone, "auto", "placed", positions="token").method == "secant"
