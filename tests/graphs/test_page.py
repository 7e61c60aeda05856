import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import page
from graphs.layout import layout, rows_of
from graphs.page import InteractiveCircuit, Prompt, to_html
from graphs.schema import from_document
from tests.graphs.strategies import SMALL, circuit, circuits, large, node_circuits

GRAPH = circuit(("input->a0.h0<q>", 0.5), ("a0.h0->logits", -2.0), task="ioi")


class Elements(HTMLParser):
    """The elements of a page, and the text in them."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data


def embedded(html):
    text = next(t for tag, attrs, t in Elements(html).found if attrs.get("id") == "data")
    return json.loads(text)


@pytest.mark.parametrize("graph", [GRAPH, circuit(task="https://x.y/z")], ids=["small", "empty"])
def test_there_is_no_address_in_the_page(graph):
    html = to_html(graph.with_info(task="ioi"))
    assert re.findall(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|url\(", html) == []


def test_scripts_are_allowed_by_their_digest_only():
    html = to_html(GRAPH)
    policy = next(a["content"] for t, a, _ in Elements(html).found if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 1 + len(re.findall("<script>", html))


@given(circuits() | node_circuits())
def test_the_page_holds_the_circuit_to_the_last_bit(graph):
    html = to_html(graph)
    assert from_document(embedded(html)["circuit"]) == graph
    assert html == to_html(graph)


@given(st.text(st.characters(codec="utf-8")))
def test_text_cannot_leave_its_place(text):
    hostile = f"{text}</script><script>alert(1)</script><!--"
    graph = GRAPH.with_info(task=hostile, model=hostile, options={hostile: hostile})
    html = to_html(graph, prompts=[Prompt([hostile], {hostile: 0})])
    tags = [tag for tag, *_ in Elements(html).found]
    assert tags == [tag for tag, *_ in Elements(to_html(GRAPH)).found]
    assert embedded(html)["prompts"][0]["tokens"] == [hostile]


def test_pages_stay_small():
    assert len(to_html(large(100)).encode()) < 100_000
    assert len(to_html(large(2000)).encode()) < 1_000_000


def test_the_strongest_edges_are_embedded_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(page, "MOST_EDGES", 50)
    graph = large(120)
    data = embedded(to_html(graph))
    names = [f"{e['source']}->{e['target']}" for e in data["circuit"]["edges"]]
    assert len(names) == 50
    assert data["left_out"] == len(graph) - 50
    weakest = min(abs(edge["score"]) for edge in data["circuit"]["edges"])
    assert sum(abs(graph[name]) > weakest for name in graph) < 50


def test_a_notebook_gets_a_frame_that_may_run_scripts_and_nothing_else():
    shown = GRAPH.interactive(height=300)
    assert isinstance(shown, InteractiveCircuit)
    (frame,) = Elements(shown._repr_html_()).found
    assert frame[0] == "iframe"
    assert frame[1]["sandbox"] == "allow-scripts allow-downloads"
    assert frame[1]["srcdoc"] == to_html(GRAPH)
    assert frame[1]["height"] == "300"
    assert "html" not in repr(shown).replace("HTML", "")


@given(circuits() | node_circuits())
def test_rows_follow_the_order_of_computation_and_nothing_overlaps(graph):
    spots = layout(graph).spots
    assert set(spots) == set(graph.nodes)
    height = -1.0
    for row in rows_of(graph):
        (y,) = {spots[node.name].y for node in row}
        assert y > height
        height = y
        placed = sorted((spots[node.name] for node in row), key=lambda spot: spot.x)
        for one, other in pairwise(placed):
            assert one.x + one.width / 2 < other.x - other.width / 2 + 0.2


def test_long_edges_pass_between_the_nodes():
    graph = large(100)
    placed = layout(graph)
    assert placed.routes
    for points in placed.routes.values():
        for x, y in points:
            row = [spot for spot in placed.spots.values() if spot.y == y]
            assert all(abs(x - spot.x) > spot.width / 2 for spot in row)


def test_every_edge_goes_down():
    graph = circuit(("input->a0.h0<q>", 0.5), ("a0.h0->m0", 1.0), ("m0->logits", 1.0))
    spots = layout(graph).spots
    for item in graph.scored_edges:
        assert spots[item.edge.sender.name].y < spots[item.edge.receiver.name].y
    assert SMALL.n_layers == 2


def test_a_page_opens_with_as_many_edges_as_can_be_read():
    graphs = large(20), large(400)
    assert len(graphs[0]) <= page.MOST_AT_FIRST < len(graphs[1])
    few, many = (embedded(to_html(graph)) for graph in graphs)
    assert few["opening"] == len(graphs[0])
    assert [part["size"] for part in few["layouts"]] == [len(graphs[0])]
    assert many["opening"] == page.READABLE
    first, whole = many["layouts"]
    assert (first["size"], whole["size"]) == (page.READABLE, len(graphs[1]))
    assert set(first["spots"]) <= set(whole["spots"])
    edges_of = many["circuit"]["edges"]
    strongest = sorted(edges_of, key=lambda edge: -abs(edge["score"]))[: page.READABLE]
    assert {e["source"] for e in strongest} | {e["target"] for e in strongest} <= set(
        first["spots"]
    )
