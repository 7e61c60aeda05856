"""Edges at single positions, and edges that cross from one position to another."""

import numpy as np
import pytest
import torch

from patching import sites
from patching.model import Model
from patching.scoring import score
from patching.sites import Edge, crosses, parse_edge
from patching.sitesets import label_columns
from tasks.errors import MethodError, SiteError
from tests import definitions, families

CLOSE = {"rtol": 0, "atol": 2e-5}
ESTIMATES = ("attribution", "relevance", "secant", "ig")


@pytest.fixture(scope="module")
def even_pairs():
    """Two pairs of one length, so that every token position is common to both."""
    return families.make_pairs(n=2, length=6, padding=(0,), differing=(1, 3))


def test_exact_edges_at_positions_are_what_one_patched_run_each_gives(model, pairs, direction):
    found = score(model, pairs, "activation", "edge", direction, positions="named")
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for name in found.names[:: len(found) // 40]:
        edge = parse_edge(name, model.anatomy)
        at = label_columns([edge.sender.position], runs.batch)[:, 0]
        ends = Edge(edge.sender.at(None), edge.receiver.at(None), edge.port)
        there, here = (
            definitions.sender_write(model, v, ends.sender) for v in (runs.there, runs.here)
        )
        change = torch.zeros_like(here)
        rows = torch.arange(len(at))
        change[rows, at] = (there - here)[rows, at]
        tap = definitions.through_edge(
            model, runs.batch, ends, runs.here, change, definitions.PLAIN
        )
        expected = runs.effect(runs.run(tap), runs.run())
        assert found[name] == pytest.approx(float(expected.mean()), abs=2e-5), name


@pytest.mark.parametrize("method", ESTIMATES)
def test_estimates_over_all_positions_add_up_to_the_whole_edge(model, even_pairs, method):
    whole = score(model, even_pairs, method, "edge")
    each = score(model, even_pairs, method, "edge", positions="token")
    summed = each.values.reshape(len(whole), -1).sum(1)
    np.testing.assert_allclose(summed, whole.values, **CLOSE)
    assert each.names[0] == "input@0->a0.h0@0<q>"


def crossing_effect(runs, layer, unit, source, query):
    """The definition: one summand of one head's output comes from the other run."""

    def summand(found):
        pattern, v = found["pattern", layer], found["v_read", layer]
        rows = torch.arange(len(source))
        return pattern[rows, unit, query, source][:, None] * v[rows, source, unit]

    change = summand(runs.there) - summand(runs.here)

    def tap(kind, at, value):
        if (kind, at) != ("z", layer):
            return value
        value = value.clone()
        value[torch.arange(len(query)), query, unit] += change
        return value

    return runs.effect(runs.run(tap), runs.run())


def test_exact_crossing_edges_are_what_one_patched_run_each_gives(model, pairs, direction):
    found = score(model, pairs, "activation", "attention_edge", direction, positions="named")
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for name in found.names[:: max(1, len(found) // 40)]:
        edge = parse_edge(name, model.anatomy)
        source, query = (
            label_columns([end.position], runs.batch)[:, 0] for end in (edge.sender, edge.receiver)
        )
        expected = crossing_effect(runs, edge.sender.layer, edge.sender.unit, source, query)
        assert found[name] == pytest.approx(float(expected.mean()), abs=2e-5), name


@pytest.mark.parametrize("method", ESTIMATES)
def test_crossing_estimates_add_up_to_the_head(model, even_pairs, method):
    nodes = score(model, even_pairs, method, "node")
    crossing = score(model, even_pairs, method, "attention_edge", positions="token")
    heads = [name for name in nodes.names if name.startswith("a")]
    summed = crossing.values.reshape(len(heads), -1).sum(1)
    np.testing.assert_allclose(summed, [nodes[name] for name in heads], **CLOSE)


@pytest.mark.parametrize("method", ["activation", *ESTIMATES])
def test_the_only_head_of_a_layer_carries_all_that_crosses(pairs, method):
    model = Model.open(families.build("gpt2", n_head=1))
    found = score(model, pairs, method, "attention_edge", positions="named")
    assert len(found) == 2 * 4
    assert np.abs(found.values).max() > 1e-3


def test_a_crossing_edge_is_read_back_and_belongs_to_one_head(gpt2):
    edge = parse_edge("a1.h2@3->a1.h2@5<v>", gpt2.anatomy)
    assert crosses(edge)
    assert edge.name == "a1.h2@3->a1.h2@5<v>"
    for wrong in ("a1.h2->a1.h2<v>", "a1.h2@3->a1.h2@5<k>", "a1.h2@3->a1.h1@5<v>"):
        with pytest.raises(SiteError, match="does not come after"):
            parse_edge(wrong, gpt2.anatomy)


def test_crossing_edges_need_positions(gpt2, pairs):
    with pytest.raises(MethodError, match="between positions"):
        score(gpt2, pairs, "attribution", "attention_edge")


def test_names_follow_the_order_of_edges(gpt2, even_pairs):
    found = score(gpt2, even_pairs, "attribution", "edge", positions="token")
    plain = [edge.name for edge in sites.edges(gpt2.anatomy)]
    assert len(found) == 6 * len(plain)
