"""The page in a real browser, with the network blocked."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from graphs import CircuitGraph, CircuitInfo, Metrics, ScoredNode, style, top_edges
from graphs.inside import CurvePoint, Inside, InsidePrompt, Word
from graphs.page import READABLE, InteractiveCircuit, beside, to_html
from graphs.schema import from_json
from graphs.view import Group, View
from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.sites import Site, head, mlp
from tests.graphs import chromium
from tests.graphs.strategies import SMALL, circuit, large, scores_of, with_metrics
from tests.graphs.test_layout import deep

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="no Chromium on the PATH; Debian's package chromium has one"
)

SHOWN = "document.querySelectorAll('#world > path:not([display=none])').length"
NODES = "document.querySelectorAll('#world .node:not([display=none])').length"
MESSAGE = "document.getElementById('message').textContent"
STATUS = "document.getElementById('status').textContent"
PANEL = "document.getElementById('panel').textContent"


def sample(**info):
    graph = circuit(
        ("input->a0.h0<q>", 0.5),
        ("input->a0.h0<v>", -2.0),
        ("input->m0", 0.1),
        ("a0.h0->m1", 2.5),
        ("m0->m1", 0.3),
        ("m1->logits", 3.0),
        ("input->logits", 1.0),
        **info,
    )
    return with_metrics(graph, full=3.0, empty=-1.0, circuit=2.0)


def enter(name, value):
    """JavaScript that types into a control."""
    field = f"document.getElementById('{name}')"
    return f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input'))"


def slide(count):
    """JavaScript that moves the slider to the step of this many of the strongest."""
    at = f"data.steps.findIndex((step) => step.asked === {count})"
    return f"slider.value = {at}; slider.dispatchEvent(new Event('input')); state.step === {at}"


def node(name, event="click"):
    """JavaScript that does something to a node."""
    found = f"document.querySelector('[data-name={json.dumps(name)}]')"
    return f"{found}.dispatchEvent(new MouseEvent('{event}'))"


def click(selector, label):
    """JavaScript that clicks what has this label."""
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return f"{found}.find(e => e.textContent === {json.dumps(label)}).click()"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    running = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page and, at the end, checks that it neither complained nor asked for anything."""
    pages = []

    def opened(html):
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(html, encoding="utf-8")
        pages.append(path)
        browser.open(path)
        return browser

    yield opened
    assert browser.complaints() == []
    own = tuple(page.as_uri() for page in pages)
    asked = [url for url in browser.requests() if not url.startswith("blob:")]
    assert [url for url in asked if url not in own] == []


def test_the_watch_on_the_page_sees_requests_and_complaints(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<img src='https://example.org/x.png'><script>missing()</script>")
    browser.open(path)
    assert browser.requests() == [path.as_uri(), "https://example.org/x.png"]
    assert "missing is not defined" in json.dumps(browser.complaints())


def test_everything_is_shown_at_first(show):
    page = show(to_html(sample(task="ioi", model="nano")))
    assert page.run("document.title") == page.run("document.querySelector('h1').textContent")
    assert page.run(SHOWN) == 7
    assert page.run(NODES) == 5
    assert page.run(STATUS).startswith("7 of 7 edges and 5 of 5 nodes shown, |score| at least 0.1")
    assert "faithfulness 0.75, as measured" in page.run(PANEL)


def test_what_was_not_measured_is_told_from_what_is_undefined(show):
    undefined = Metrics(0.02, 0.03, 0.025, None, "corrupted")
    for metrics, told in ((undefined, "is undefined: the model"), (Metrics(), "was not measured")):
        page = show(to_html(sample().with_info(metrics=metrics)))
        assert f"faithfulness {told}" in page.run(PANEL)


def test_the_slider_keeps_what_is_connected_and_knows_its_faithfulness(show):
    graph = sample()
    curve = [
        CurvePoint(asked=2, kept=2, faithfulness=0.5),
        CurvePoint(asked=3, kept=3, faithfulness=0.7),
    ]
    page = show(to_html(graph, Inside(curve=curve)))
    spots = page.run("JSON.stringify(step().spots)")
    assert page.run(slide(3))
    assert page.run(SHOWN) == len(graph.top(3)) > 0
    assert page.run("JSON.stringify(step().spots)") != spots
    assert page.run(STATUS).startswith(f"{len(graph.top(3))} of 7 edges")
    handle = "document.getElementById('handle').dataset.value"
    assert page.run(handle) == ("0.7" if len(graph.top(3)) == 3 else "null")


def test_every_step_s_nodes_have_an_input_and_an_output(show):
    page = show(to_html(large(400)))
    loose = """(() => {
        const bad = [];
        for (let at = 0; at < data.steps.length - 1; at += 1) {
            slider.value = at;
            slider.dispatchEvent(new Event('input'));
            const shown = edges.filter((edge) => edge.shape
                && edge.shape.getAttribute('display') !== 'none');
            const into = new Set(shown.map((e) => e.target));
            const from = new Set(shown.map((e) => e.source));
            for (const each of document.querySelectorAll('#world .node:not([display=none])')) {
                const { name } = each.dataset;
                if (name !== 'input' && !into.has(name)) bad.push([at, name]);
                if (name !== 'logits' && !from.has(name)) bad.push([at, name]);
            }
        }
        return bad;
    })()"""
    assert page.run("data.steps.length") > 3
    assert page.run(loose) == []


def test_filters_by_port_kind_and_sign(show):
    page = show(to_html(sample()))
    for label, left in (("q", 6), ("MLPs", 2), ("pushes away from it", 1)):
        page.run(click("#controls label", label))
        assert page.run(SHOWN) == left
    for label in ("q", "MLPs", "pushes away from it"):
        page.run(click("#controls label", label))
    assert page.run(SHOWN) == 7


def test_search_zooms_to_its_match_and_says_when_there_is_none(show):
    page = show(to_html(sample()))
    page.run(enter("search", "a0.H"))
    lit = "[...document.querySelectorAll('.node[opacity=\"1\"] title')].map(t => t.textContent)"
    assert page.run(lit) == ["a0.h0: head"]
    middle = """(() => {
        const box = document.querySelector('[data-name="a0.h0"] .frame').getBoundingClientRect();
        const all = document.getElementById('picture').getBoundingClientRect();
        return [box.x + box.width / 2 - all.x - all.width / 2,
                box.y + box.height / 2 - all.y - all.height / 2];
    })()"""
    assert page.run(middle) == [pytest.approx(0, abs=1), pytest.approx(0, abs=1)]
    page.run(enter("search", "a77"))
    assert 'no node shown has "a77" in its name' in page.run(MESSAGE)
    assert page.run(NODES) == 5


def test_a_node_that_is_clicked_says_what_it_reads_by_port(show):
    page = show(to_html(sample()))
    page.run(node("a0.h0"))
    told = page.run(PANEL)
    parts = ["reads at q", "input->a0.h0<q>", "reads at v", "input->a0.h0<v>", "strongest outputs"]
    assert sorted(parts, key=told.index) == parts
    assert told.index("strongest outputs") < told.index("a0.h0->m1")
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
    assert "strongest edges" in page.run(PANEL)
    page.run(node("m1", "mouseenter"))
    assert page.run("document.getElementById('focus').textContent") == "m1: MLP"


def test_pins_groups_and_undo_are_in_the_address_and_in_the_saved_file(show):
    page = show(to_html(sample()))
    page.run(click("#group button", "group the pinned"))
    assert "a supernode needs nodes" in page.run(MESSAGE)
    for name in ("a0.h0", "m1"):
        page.run(node(name))
    page.run("document.getElementById('group-name').value = 'movers </script>'")
    page.run("document.getElementById('group-note').value = 'a note'")
    page.run(click("#group button", "group the pinned"))
    assert "movers </script>" in page.run(PANEL)
    assert "a note" in page.run(PANEL)
    page.run(node("m0"))
    view = View(("m0",), (Group("movers </script>", ("a0.h0", "m1"), "a note"),))
    saved = from_json(page.run(CATCH % "save-json").encode())
    assert saved.info.view == view
    assert saved.with_info(view=View()) == sample()
    address = page.run("location.hash")
    page.run("document.getElementById('undo').click()")
    assert page.run("marks.pinned.length") == 0
    page.run("document.getElementById('undo').click()")
    assert page.run("marks.groups.length") == 0
    page.run(f"location.hash = {json.dumps(address)}; new Promise((go) => setTimeout(go, 50))")
    assert page.run("marks.groups[0].name") == "movers </script>"
    assert page.run("marks.pinned") == ["m0"]
    opened = show(to_html(saved))
    assert opened.run("marks.groups[0].members") == ["a0.h0", "m1"]


def test_an_address_of_another_page_does_no_harm(show):
    page = show(to_html(sample()))
    page.run(
        "location.hash = 'pin=[1,%22a9.h9%22]&groups=[{}]&at=group%207&step=x&prompt=9';"
        "new Promise((go) => setTimeout(go, 50))"
    )
    assert page.run("[marks.pinned, marks.groups]") == [[], []]
    assert page.run(SHOWN) == 7


SCALE = "d3.zoomTransform(document.getElementById('picture')).k"


def test_zoom_and_fit(show):
    page = show(to_html(sample()))
    before = page.run(SCALE)
    wheel = (
        "new WheelEvent('wheel', { deltaY: -200, clientX: 300, clientY: 300, cancelable: true })"
    )
    page.run(f"document.getElementById('picture').dispatchEvent({wheel})")
    assert page.run(SCALE) > before
    page.run(click("button", "fit"))
    assert page.run(SCALE) == before
    key = "new KeyboardEvent('keydown', { key: '+', bubbles: true, cancelable: true })"
    page.run(f"document.getElementById('picture').dispatchEvent({key})")
    assert page.run(SCALE) > before


def touch(page, kind, *points):
    told = [{"x": x, "y": y, "id": order} for order, (x, y) in enumerate(points)]
    page.call("Input.dispatchTouchEvent", type=kind, touchPoints=told)


def test_on_a_telephone_nodes_can_be_touched_and_two_fingers_zoom(show):
    pieces = ["<s>", *["Once", "upon", "a", "time", "there", "was", "a", "girl"] * 3]
    inside = Inside(prompts=[InsidePrompt(clean=pieces)])
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page = show(to_html(deep()))
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        page = show(to_html(deep(), inside))
        assert page.run("document.documentElement.scrollWidth") <= 375
        sizes = """[...document.querySelectorAll('.frame')].flatMap((frame) => {
            const { width, height } = frame.getBoundingClientRect();
            return [width, height];
        })"""
        assert min(page.run(sizes)) >= 23.99
        assert page.run("document.getElementById('panel').getBoundingClientRect().top") < 520
        before = page.run(SCALE)
        x, y = page.run(
            "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
            "(document.getElementById('picture').getBoundingClientRect())"
        )
        touch(page, "touchStart", (x - 20, y), (x + 20, y))
        for spread in (40, 60, 80):
            touch(page, "touchMove", (x - spread, y), (x + spread, y))
        touch(page, "touchEnd")
        assert page.run(SCALE) == pytest.approx(before * 4, rel=0.05)
    finally:
        page.call("Emulation.setTouchEmulationEnabled", enabled=False)
        page.call("Emulation.clearDeviceMetricsOverride")


def test_thirty_layers_can_be_read_when_the_page_opens(show):
    page = show(to_html(deep()))
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=1400,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    try:
        page = show(to_html(deep()))
        texts = "[...document.querySelectorAll('#world text')].filter((t) => t.textContent)"
        small = page.run(f"Math.min(...{texts}.map((t) => Number(t.getAttribute('font-size'))))")
        assert small * page.run(SCALE) >= 9
        ends = """(() => {
            const all = document.getElementById('picture').getBoundingClientRect();
            const frames = [...document.querySelectorAll('.frame')];
            const spots = frames.map((frame) => frame.getBoundingClientRect());
            return [Math.min(...spots.map((s) => s.left - all.left)),
                    Math.min(...spots.map((s) => all.right - s.right)),
                    Math.min(...spots.map((s) => all.bottom - s.bottom))];
        })()"""
        assert min(page.run(ends)) >= 0
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


CATCH = """(async () => {
  const blobs = [];
  const old = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blobs.push(blob); return old(blob); };
  HTMLAnchorElement.prototype.click = () => {};
  document.getElementById('%s').click();
  return await blobs[0].text();
})()"""


def test_the_saved_json_is_the_circuit(show):
    graph = sample(task="ioi")
    page = show(to_html(graph))
    assert from_json(page.run(CATCH % "save-json").encode()) == graph


def test_the_saved_svg_is_a_picture_of_what_is_shown(show):
    page = show(to_html(sample()))
    root = ET.fromstring(page.run(CATCH % "save-svg"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("./*/{http://www.w3.org/2000/svg}path")) == 7
    strokes = {path.get("stroke") for path in root.iter("{http://www.w3.org/2000/svg}path")}
    assert strokes == {style.POSITIVE, style.NEGATIVE}
    told = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert told[-1].startswith("7 of 7 edges")
    assert "faithfulness 0.75 (clean 3, ablated \u22121, circuit 2)" in told


def test_heads_have_the_inputs_that_shown_edges_enter(show):
    graph = large(20)
    page = show(to_html(graph))
    slots = """Object.fromEntries([...document.querySelectorAll('#world .node')].map((each) => {
        const ports = [...each.querySelectorAll('.port')].map((port) => port.textContent);
        return [each.dataset.name, ports.join('')];
    }))"""
    entered = {(item.edge.receiver.name, item.edge.port) for item in graph.scored_edges}
    drawn = page.run(slots)
    assert any(drawn.values())
    assert drawn == {
        name: "".join(port for port in "qkv" if (name, port) in entered) for name in drawn
    }


def test_hostile_text_is_shown_as_text(show):
    script = "<script>alert(1)</script>"
    node = ScoredNode(mlp(0).at(script), 1.0)
    hostile = CircuitInfo(SMALL, level="node", task=script, model="</script>", method="<img src=x>")
    page = show(to_html(CircuitGraph(hostile, (), [node, ScoredNode(head(0, 1), -2.0)])))
    assert script in page.run("document.querySelector('#picture').textContent")
    assert page.run("document.querySelector('h1').textContent") == f"{script} on </script>"
    assert (
        page.run(
            "document.querySelectorAll('main script, header script, img, #prompt script').length"
        )
        == 0
    )
    assert page.run(NODES) == 2


def test_prompts_are_stepped_through_and_positions_filter(show):
    graph = circuit(
        ("input@S1->a0.h1@S2<v>", 1.0),
        ("input@2->a1.h1@S2<v>", 2.0),
        ("a0.h1@S2->logits", 1.0),
    )
    prompts = [
        InsidePrompt(
            clean=["<b>", "When", " Mary", " gave"],
            corrupted=["<b>", "When", " John", " gave"],
            positions={"S1": 1, "S2": 3},
            words=[Word(token=1, text="<i>", role="answer", clean=0.5, corrupted=0.1)],
        ),
        InsidePrompt(clean=["Then", " John"], positions={"S1": 0, "S2": -1}),
    ]
    page = show(to_html(graph, Inside(prompts=prompts)))
    line = "document.querySelector('#prompt .{}').textContent"
    used = "[...document.querySelectorAll('#prompt .used')].map(t => t.textContent)"
    assert page.run(line.format("clean")) == "clean<b>When Mary gave \u2192 <i>"
    assert page.run(line.format("corrupted")) == "corrupted<b>When John gave"
    differs = "[...document.querySelectorAll('#prompt .differs')].map(t => t.textContent)"
    assert page.run(differs) == [" Mary", " John"]
    assert page.run(used) == ["When", " Mary", " gave"]
    page.run("document.querySelectorAll('#prompt .used')[0].click()")
    assert page.run(SHOWN) == 1
    page.run("document.querySelector('[aria-label=\"next prompt\"]').click()")
    assert page.run(used) == ["Then", " John"]
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))")
    assert page.run(SHOWN) == 3


def test_a_large_page_is_usable_at_once(show):
    anatomy = Anatomy(12, 12, 12, 768, 64, 3072)
    names = [edge.name for edge in edges(anatomy)]
    values = [((i * 7919) % 104729) / 104729 - 0.3 for i in range(len(names))]
    html = to_html(top_edges(scores_of(names, values, anatomy), 2500, fill=True))
    assert len(html.encode()) < 3_000_000
    page = show(html)
    assert 0 < page.run(SHOWN) <= READABLE
    assert "500 weaker edges are not in this page" in page.run(STATUS)
    before = page.run("performance.now()")
    assert page.run(slide(2000))
    assert page.run("performance.now()") - before < 2000
    assert page.run(SHOWN) == 2000
    # The quickest of three: what else the machine does at the time says nothing about the page.
    assert min(opening(page) for _ in range(3)) < 2000


def opening(page):
    """Milliseconds from asking for the page again until it shows its edges and has all of them."""
    page.call("Page.reload")
    while page.run(f"document.readyState === 'complete' && {SHOWN} > 0") is not True:
        pass
    return page.run("performance.now()")


def test_many_nodes_open_with_the_strongest(show):
    units = [Site("neuron", layer, unit) for layer in (0, 1) for unit in range(80)]
    nodes = [ScoredNode(site, site.unit - 20.5) for site in units]
    anatomy = replace(SMALL, d_mlp=80)
    page = show(to_html(CircuitGraph(CircuitInfo(anatomy, level="node"), (), nodes)))
    assert page.run(NODES) == READABLE
    assert page.run(slide(160))
    assert page.run(NODES) == 160


def test_in_a_notebook_the_page_runs_in_a_sandboxed_frame(show):
    framed = InteractiveCircuit(to_html(sample(task="ioi")))._repr_html_()
    page = show(f"<!DOCTYPE html><meta charset='utf-8'><title>notebook</title>{framed}")
    inside = page.frame()
    assert page.run("document.querySelector('h1').textContent", inside) == "ioi"
    assert page.run(SHOWN, inside) == 7
    reach = "(() => { try { return parent.document.title } catch (e) { return e.name } })()"
    assert page.run(reach, inside) == "SecurityError"


def test_the_saved_file_survives_the_round_trip_through_the_page(show):
    graph = sample().with_info(options={"</script>": "\u2028"})
    saved = json.loads(show(to_html(graph)).run(CATCH % "save-json"))
    assert saved["graph"]["options"] == {"</script>": "\u2028"}


def test_two_circuits_stand_beside_each_other(show):
    left, right = sample(), sample().top(3)
    pages = [to_html(left, other=right), to_html(right, other=left)]
    page = show(beside(pages, "left and right", ["<b>what differs"]))
    assert page.run("document.querySelector('p').textContent") == "<b>what differs"
    assert page.run("document.querySelectorAll('iframe').length") == 2
    inside = page.frame()
    assert inside
    shown = page.run(SHOWN, inside)
    assert shown in (7, len(right))


def test_what_both_circuits_have_can_be_hidden(show):
    left, right = sample(), sample().top(3)
    page = show(to_html(left, other=right))
    page.run(click("#controls label", "what both have"))
    assert page.run(SHOWN) == 7 - len(right) < 7


def test_without_prompts_the_page_says_what_is_missing(show):
    page = show(to_html(sample()))
    assert "tokens, attention and words cannot be shown" in page.run(
        "document.getElementById('prompt').textContent"
    )
