import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import page
from graphs.inside import Inside, InsidePrompt
from graphs.page import InteractiveCircuit, to_html
from graphs.schema import from_document
from graphs.view import Group, View
from tests.graphs.strategies import circuit, circuits, large, node_circuits

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
    # Namespaces of SVG and XML are names: nothing is asked for there.
    html = re.sub(r"http://www\.w3\.org/[\w/]+", "", html)
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
    told = InsidePrompt(clean=[hostile], positions={hostile: 0})
    html = to_html(graph, Inside(prompts=[told]))
    tags = [tag for tag, *_ in Elements(html).found]
    assert tags == [tag for tag, *_ in Elements(to_html(GRAPH)).found]
    assert embedded(html)["prompts"][0]["clean"] == [hostile]


def test_pages_stay_small():
    assert len(to_html(large(100)).encode()) < 200_000
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


def test_a_page_opens_with_as_many_edges_as_can_be_read():
    few, many = (embedded(to_html(graph)) for graph in (large(20), large(400)))
    assert few["opening"] == len(few["steps"]) - 1
    shown = [len(step["items"]) for step in many["steps"]]
    assert max(count for count in shown if count <= page.READABLE) == shown[many["opening"]]
    assert shown == sorted(set(shown))


def test_every_step_but_the_last_is_connected():
    graph = large(400)
    names = list(graph)
    for step in embedded(to_html(graph))["steps"][:-1]:
        kept = [names[number] for number in step["items"]]
        part = graph.top(step["asked"])
        assert kept == list(part)
        assert set(step["spots"]) == set(part.nodes)


def test_the_vendored_script_is_the_one_that_was_built():
    script = page._asset("d3-zoom.min.js")
    digest = hashlib.sha256(script.encode()).hexdigest()
    assert digest == "c495ba67566f962f19964b1b008020abe2c13bd49ca7dc2712ea3780a4737154"
    licences = page._asset("d3-zoom.LICENSE")
    assert licences.count("Mike Bostock") == 9


def test_marks_go_into_the_page_and_out_again():
    view = View(("a0.h0",), (Group("readers", ("a0.h0", "logits"), "</script>"),))
    graph = GRAPH.with_info(view=view)
    data = embedded(to_html(graph))
    assert data["view"]["pinned"] == ["a0.h0"]
    assert from_document(data["circuit"]) == graph
    assert from_document(data["circuit"]).info.view == view
