"""Places and ways: nothing overlaps, everything goes forward, names can be read."""

import math

import pytest
from hypothesis import given

from graphs.choose import strongest
from graphs.layout import layout
from graphs.page import to_html
from graphs.steps import steps
from patching.anatomy import Anatomy
from tests.graphs.strategies import SMALL, circuit, circuits, large, node_circuits
from tests.graphs.test_page import embedded


def overlap(one, other):
    across = abs(one.x - other.x) < (one.width + other.width) / 2 - 0.2
    return across and abs(one.y - other.y) < (one.height + other.height) / 2 - 0.2


@given(circuits() | node_circuits())
def test_every_node_has_a_place_of_its_own_and_every_edge_a_way(graph):
    placed = layout(graph)
    assert set(placed.spots) == set(graph.nodes)
    assert set(placed.paths) == set(graph.edges)
    spots = list(placed.spots.values())
    for number, spot in enumerate(spots):
        assert not any(overlap(spot, other) for other in spots[number + 1 :])
    for path in placed.paths.values():
        assert len(path) % 3 == 1
        assert all(math.isfinite(value) for point in path for value in point)


def test_edges_go_forward_and_end_at_their_nodes():
    graph = large(100)
    placed = layout(graph)
    for item in graph.scored_edges:
        here, there = (placed.spots[site.name] for site in (item.edge.sender, item.edge.receiver))
        (start, *_, end) = placed.paths[item.name]
        assert here.x < there.x
        for (x, y), spot in ((start, here), (end, there)):
            assert abs(x - spot.x) <= spot.width / 2 + 0.1
            assert abs(y - spot.y) <= spot.height / 2 + 0.1


def test_edges_into_different_ports_end_at_different_heights_in_their_order():
    graph = circuit(*((f"input->a0.h0<{port}>", 1.0) for port in "vqk"), ("a0.h0->logits", 1.0))
    paths = layout(graph).paths
    heights = [paths[f"input->a0.h0<{port}>"][-1][1] for port in "qkv"]
    assert heights == sorted(set(heights))


def test_long_edges_pass_between_the_heads():
    graph = large(40)
    placed = layout(graph)
    heads = [spot for name, spot in placed.spots.items() if name.startswith("a")]
    for path in placed.paths.values():
        for x, y in path[3:-1:3]:
            assert not any(x == h.x and abs(y - h.y) < h.height / 2 for h in heads)


def test_with_positions_columns_are_positions_and_layers_go_up():
    graph = circuit(
        ("input@S1->a0.h1@S2<v>", 1.0), ("a0.h1@S2->m1@END", 2.0), ("m1@END->logits", 1.0)
    )
    placed = layout(graph)
    assert [column.label for column in placed.columns] == ["all positions", "S1", "S2", "END"]
    heights = [placed.spots[n].y for n in ("input@S1", "a0.h1@S2", "m1@END", "logits")]
    assert heights == sorted(heights, reverse=True)
    assert SMALL.n_layers == 2


def deep():
    """A circuit of some hundred edges in thirty layers, with an MLP in each."""
    anatomy = Anatomy(30, 9, 9, 576, 64, 1536)
    chain = [f"m{i}->m{i + 1}" for i in range(29)] + ["input->m0", "m29->logits"]
    heads = [f"m{i}->a{i + 3}.h{i % 9}<{'qkv'[i % 3]}>" for i in range(27)]
    out = [f"a{i}.h{(i - 3) % 9}->logits" for i in range(3, 30)]
    names = [*chain, *heads, *out]
    return circuit(*((name, 1.0 + i) for i, name in enumerate(names)), anatomy=anatomy)


def test_thirty_layers_fit_a_screen_with_names_that_can_be_read():
    graph = deep()
    assert len({node.site.layer for node in graph.scored_nodes}) >= 30
    placed = layout(graph)
    left, _, right, _ = placed.box
    # On a screen of 1400 pixels the picture has 1074; names of 10 points are then 9 pixels high.
    assert (right - left + 32) * 0.9 <= 1074


def test_the_same_circuit_has_the_same_layout():
    assert layout(large(100)) == layout(large(100))


@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_strongest_are_kept_as_they_are(size):
    graph = large(100)
    part = strongest(graph, size)
    assert {*part} == {*graph.ranked()[:size]}


def test_steps_of_nothing_and_of_one_edge():
    empty = circuit()
    assert [len(step.graph) for step in steps(empty)] == [0]
    one = circuit(("input->logits", 1.0))
    assert [len(step.graph) for step in steps(one)] == [1]
    assert embedded(to_html(empty))["opening"] == 0
