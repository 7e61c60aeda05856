"""Influence, pruning and scores against their definitions on graphs made by hand or drawn."""

import numpy as np
import pytest

from patching.traces.influence import (
    Adjacency,
    fold,
    folded,
    graph_scores,
    influence,
    least,
    prune,
)
from patching.traces.nodes import ERROR, LATENT, LOGIT, TOKEN, Nodes


def made(groups, effects):
    """Nodes from (kind, layer, count) and their effects."""
    nodes = Nodes.joined(
        [
            Nodes.group(
                kind,
                layer,
                np.zeros(count) if kind != TOKEN else np.arange(count),
                np.arange(count),
                np.full(count, 1 / count),
            )
            for kind, layer, count in groups
        ]
    )
    zeros = np.zeros(len(nodes.targets))
    return Adjacency(nodes, np.asarray(effects, dtype=float), zeros, zeros)


def drawn(seed=0, latents=6, layers=3):
    """A graph of several layers whose effects are drawn; layers read only what is before them."""
    rng = np.random.default_rng(seed)
    groups = [(TOKEN, -1, 3)]
    for layer in range(layers):
        groups += [(ERROR, layer, 1), (LATENT, layer, latents)]
    found = made([*groups, (LOGIT, layers, 2)], np.zeros((layers * latents + 2, 0)))
    nodes = found.nodes
    effects = rng.normal(size=(len(nodes.targets), nodes.n_sources))
    effects *= nodes.layer[nodes.targets][:, None] > nodes.layer[: nodes.n_sources][None]
    return made([*groups, (LOGIT, layers, 2)], effects)


def whole(found):
    """|A| with rows that sum to 1, as a square matrix of all nodes."""
    size = len(found.nodes)
    matrix = np.zeros((size, size))
    matrix[found.nodes.targets, : found.nodes.n_sources] = np.abs(found.effects)
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-10)


def slow_influence(found):
    """By the inverse, as the paper writes it."""
    n = whole(found)
    return found.weights @ (np.linalg.inv(np.eye(len(n)) - n) - np.eye(len(n)))


@pytest.mark.parametrize("seed", range(5))
def test_one_pass_backwards_is_the_inverse(seed):
    found = drawn(seed)
    v = influence(found.nodes, found.nodes.targets, found.effects)
    np.testing.assert_allclose(v, slow_influence(found), atol=1e-12)


def test_a_graph_of_four_nodes():
    """Token and error write to a latent, token and latent to the logit; by hand."""
    found = made(
        [(TOKEN, -1, 1), (ERROR, 0, 1), (LATENT, 1, 1), (LOGIT, 2, 1)], [[3, -1, 0], [1, 0, 3]]
    )
    v = influence(found.nodes, found.nodes.targets, found.effects)
    # The logit: 1/4 from the token, 3/4 from the latent, of which 3/4 token and 1/4 error.
    np.testing.assert_allclose(v, [1 / 4 + 9 / 16, 3 / 16, 3 / 4, 0])
    scores = graph_scores(found)
    assert scores.replacement == pytest.approx(13 / 16)
    assert scores.completeness == pytest.approx(1 - (3 / 4 * 1 / 4) / (1 + 3 / 4 + 1))


def test_a_graph_of_errors_alone_scores_zero():
    found = made([(TOKEN, -1, 1), (ERROR, 0, 2), (LOGIT, 1, 1)], [[0, 2, 1]])
    assert graph_scores(found).replacement == 0


def test_scores_are_their_formulas():
    found = drawn(3)
    n, v, p = whole(found), slow_influence(found), found.weights
    errors, tokens = found.nodes.of(ERROR), found.nodes.of(TOKEN)
    scores = graph_scores(found)
    both = v[tokens].sum() + v[errors].sum()
    assert scores.replacement == pytest.approx(v[tokens].sum() / both)
    completeness = ((v + p) * (1 - n[:, errors].sum(1))).sum() / (v + p).sum()
    assert scores.completeness == pytest.approx(completeness)


def slow_prune(found, node_share, edge_share):
    """circuit-tracer's steps on a square matrix."""
    nodes, size = found.nodes, len(found.nodes)
    matrix = np.zeros((size, size))
    matrix[nodes.targets, : nodes.n_sources] = found.effects
    v = slow_influence(found)
    ends = nodes.of(TOKEN) | nodes.of(LOGIT)
    kept = (v >= slow_least(v, node_share)) | ends
    matrix[~kept] = 0
    matrix[:, ~kept] = 0
    n = np.abs(matrix) / np.maximum(np.abs(matrix).sum(1, keepdims=True), 1e-10)
    inner = found.weights @ (np.linalg.inv(np.eye(size) - n) - np.eye(size))
    strength = n * (inner + found.weights)[:, None]
    edges = (strength >= slow_least(strength.ravel(), edge_share)) & (strength > 0)
    while True:
        before = kept.copy()
        kept &= ends | edges.any(0)
        kept &= ~nodes.of(LATENT) | edges.any(1)
        edges[~kept] = False
        edges[:, ~kept] = False
        if (before == kept).all():
            return kept, edges * matrix


def slow_least(values, share):
    ranked, total = sorted(values, reverse=True), 0.0
    for value in ranked:
        total += value / sum(ranked)
        if total >= share:
            return value
    return ranked[-1]


@pytest.mark.parametrize("shares", [(0.8, 0.98), (0.5, 0.7), (0.3, 0.3), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(4))
def test_pruning_is_circuit_tracers(seed, shares):
    found = drawn(seed)
    kept, matrix = slow_prune(found, *shares)
    pruned = prune(found, *shares)
    ours = np.zeros_like(matrix)
    ours[pruned.rows, pruned.columns] = pruned.effects
    assert (pruned.kept == kept).all()
    np.testing.assert_allclose(ours, matrix)
    assert 0 < kept.sum() <= len(kept)


def test_the_smallest_of_the_largest():
    assert least(np.array([1.0, 5.0, 2.0, 2.0]), 0.5) == 5.0
    assert least(np.array([1.0, 5.0, 2.0, 2.0]), 0.69) == 2.0
    assert least(np.array([]), 0.5) == 0.0


def test_what_is_dropped_is_added_to_its_error():
    found = drawn(1)
    latents = np.flatnonzero(found.nodes.of(LATENT))
    gone = latents[[0, 3, 8]]
    kept = np.ones(len(found.nodes), dtype=bool)
    kept[gone] = False
    part = folded(found, kept)
    np.testing.assert_allclose(
        part.effects.sum(1), found.effects[kept[found.nodes.targets]].sum(1), atol=1e-12
    )
    error = np.flatnonzero(found.nodes.of(ERROR))[0]
    moved = fold(found.nodes, found.effects, gone)[:, error]
    np.testing.assert_allclose(moved, found.effects[:, [error, gone[0], gone[1]]].sum(1))
    assert graph_scores(part).replacement <= graph_scores(found).replacement
