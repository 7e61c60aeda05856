import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from graphs import (
    CircuitGraph,
    CircuitInfo,
    Metrics,
    ScoredNode,
    Selection,
    draw,
    style,
    top_edges,
)
from graphs.dot import to_dot
from graphs.draw import Options, picture, to_svg
from graphs.fold import folded
from graphs.layout import layout
from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.sites import Site, mlp
from tasks.errors import FormatError, SiteError
from tests.graphs.strategies import (
    SMALL,
    circuit,
    circuits,
    large,
    node_circuits,
    scores_of,
    with_metrics,
)

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script>&amp;\\N\\l\x00\n]]>${y}'


def sample():
    graph = circuit(
        ("input->a0.h1<q>", 0.5),
        ("input->a0.h1<v>", -2.0),
        ("a0.h1->m1", 2.5),
        ("m1->logits", 1e-3),
        task="ioi",
        method="relevance",
        metric="logit_diff",
        model="nano",
        prompts=64,
        selection=Selection("top", True, 5, None, 46, 5, 4),
    )
    return with_metrics(graph, full=3.0, empty=-1.0, circuit=2.0, ablation="corrupted")


def words(svg):
    """Every line of text that is drawn."""
    return [part.text for part in ET.fromstring(svg).iter(f"{SVG}text")]


def written(svg):
    """All text as one line, however it is broken into lines."""
    return " ".join(words(svg))


def titled(svg, kind):
    """What is drawn of every node or edge, by its title."""
    groups = (g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("class") == kind)
    return {g.find(f"{SVG}title").text: [mark.attrib for mark in list(g)[1:]] for g in groups}


def placed():
    """A circuit with positions."""
    return circuit(
        ("input@S1->a0.h1@S2<q>", 1.0),
        ("input@S1->a0.h1@S2<v>", -1.5),
        ("a0.h1@S2->m1@END", 2.0),
        ("m1@END->logits", 1.0),
    )


def scored_nodes():
    """A circuit of nodes without edges."""
    nodes = [ScoredNode(Site("head", 0, 1), 1.5), ScoredNode(mlp(1), -0.5)]
    return CircuitGraph(CircuitInfo(SMALL, level="node", task="ioi"), (), nodes)


def test_dot_is_as_it_was():
    assert to_dot(sample()) == (GOLDEN / "circuit.dot").read_text()


@pytest.mark.parametrize(
    ("name", "graph"),
    [("circuit", sample()), ("positions", placed()), ("nodes", scored_nodes())],
)
def test_svg_is_as_it_was(name, graph):
    assert to_svg(graph) == (GOLDEN / f"{name}.svg").read_text(encoding="utf-8")


def test_sign_is_told_by_colour_and_by_dashes():
    drawn = {title: marks[0] for title, marks in titled(to_svg(sample()), "edge").items()}
    negative = drawn["input->a0.h1<v>  \u22122"]
    positive = drawn["a0.h1->m1  2.5"]
    assert "stroke-dasharray" in negative
    assert "stroke-dasharray" not in positive
    assert (positive["stroke"], negative["stroke"]) == (style.POSITIVE, style.NEGATIVE)
    widths = {title: float(mark["stroke-width"]) for title, mark in drawn.items()}
    assert widths["a0.h1->m1  2.5"] == style.THICKEST
    assert min(widths.values()) == pytest.approx(style.THINNEST, abs=0.1)
    strengths = {title: float(mark.get("opacity", 1)) for title, mark in drawn.items()}
    assert strengths["m1->logits  0.001"] < strengths["input->a0.h1<q>  0.5"] < 1


def test_picture_and_page_have_the_same_places():
    graph = large(25)
    assert not folded(graph, frozenset())[1]
    places, svg = layout(graph), to_svg(graph)
    drawn = titled(svg, "edge")
    for item in graph.scored_edges:
        path = drawn[f"{item.name}  {style.number(item.score)}"][0]["d"]
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        assert numbers == [value for point in places.paths[item.name] for value in point]
    for name, (frame, *_) in titled(svg, "node").items():
        spot = places.spots[name]
        assert float(frame["width"]) == pytest.approx(spot.width, abs=0.06)
        left = spot.x - spot.width / 2
        assert float(frame["x"]) == pytest.approx(left, abs=0.06)


def test_same_circuit_same_picture():
    assert to_svg(sample()) == to_svg(sample())
    assert picture(sample(), "png") == picture(sample(), "png")


def test_the_legend_says_what_was_left_out():
    told = written(to_svg(sample()))
    assert "top 5 by |score|: 4 of 46 edges, 42 left out" in told
    assert "relevance, noising; metric logit_diff; 64 prompt pairs" in told
    assert "faithfulness 0.75 (clean 3, ablated \u22121, circuit 2, outside: corrupted)" in told


def test_the_legend_says_where_there_is_nothing_to_recover():
    undefined = sample().with_info(metrics=Metrics(0.02, 0.03, 0.025, None, "corrupted"))
    told = "faithfulness undefined (clean 0.02, ablated 0.03, circuit 0.025, outside: corrupted)"
    assert told in written(to_svg(undefined))
    assert "faithfulness" not in written(to_svg(sample().with_info(metrics=Metrics())))


def test_the_legend_of_other_studies_speaks_of_no_clean_answer():
    neurons = [ScoredNode(Site("neuron", 0, unit), 1.5 - unit) for unit in range(4)]
    info = CircuitInfo(SMALL, level="node", method="seen", metric="what is said", prompts=2)
    told = written(to_svg(CircuitGraph(info, (), neurons)))
    assert "seen; metric what is said; 2 prompts" in told
    assert "raises the metric" in told
    assert "rounded boxes: neurons" in told
    assert "clean" not in told
    assert "MLPs" not in told


def test_thresholds_are_told_in_few_digits():
    one = Selection("threshold", threshold=0.29549584321677685, considered=9, kept=3)
    assert one.describe() == "|score| at least 0.295: 3 of 9 edges, 6 left out"


@pytest.mark.parametrize(
    ("form", "start"),
    [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<svg"), ("dot", b"digraph")],
)
def test_pictures_are_what_their_name_says(tmp_path, form, start):
    path = tmp_path / f"circuit.{form}"
    sample().draw(path)
    assert path.read_bytes().startswith(start)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_unknown_picture_formats_are_refused(tmp_path):
    with pytest.raises(FormatError, match="unknown picture format 'svgz'; did you mean 'svg'"):
        sample().draw(tmp_path / "circuit.svgz")
    with pytest.raises(FormatError, match="No such file or directory"):
        sample().draw(tmp_path / "missing" / "circuit.dot")


def test_text_from_files_is_shown_as_text():
    graph = circuit(
        ('input->m0@a"b&c\\', 1.0),
        ('m0@a"b&c\\->a1.h0@\u00e9 \u00fc<q>', -1e308),
        task=HOSTILE,
        model="\u65e5\u672c",
        method=HOSTILE,
        metric=HOSTILE,
    )
    svg = to_svg(graph)
    texts = [part.text for part in ET.fromstring(svg).iter() if part.text]
    assert 'm0@a"b&c\\' in texts
    assert any(text.startswith('<script>alert("x")</script>&amp;\\N') for text in texts)
    assert "<script" not in svg
    node = ScoredNode(mlp(0).at("<script>alert(1)</script>"), 1.0)
    hostile = CircuitGraph(CircuitInfo(SMALL, level="node"), (), [node])
    assert "<script" not in to_svg(hostile)


def test_jupyter_gets_a_picture_and_text():
    bundle = sample()._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(sample())
    assert bundle["image/svg+xml"] == to_svg(sample())


def test_opening_and_drawing_is_quick_and_needs_no_torch(root, tmp_path):
    large(100).save(tmp_path / "circuit.json")
    code = (
        "import sys, time; from graphs import CircuitGraph\n"
        "CircuitGraph.load(sys.argv[1]).draw(sys.argv[2])\n"
        "print(time.process_time()); print(*sys.modules)"
    )
    ends = [str(tmp_path / name) for name in ("circuit.json", "circuit.svg")]
    command = [sys.executable, "-c", code, *ends]
    seconds = []
    # The first run may have to compile the modules, and the machine may be busy.
    for _ in range(3):
        told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        assert told.stderr == ""
        taken, modules = told.stdout.splitlines()
        assert not set(modules.split()) & {"torch", "transformers", "transformer_lens", "pandas"}
        seconds.append(float(taken))
    # A third of a second on a quick processor, five times that on the slowest seen.
    assert min(seconds) < 3
    assert (tmp_path / "circuit.svg").exists()


def test_there_is_no_outside_reference_in_the_svg():
    svg = to_svg(sample())
    assert set(re.findall(r"https?://[^\"'\s]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "href" not in svg


def test_too_many_edges_are_cut_and_the_legend_says_so(monkeypatch):
    monkeypatch.setattr(draw, "MOST_EDGES", 20)
    names = [edge.name for edge in edges(SMALL)]
    graph = top_edges(scores_of(names, range(1, len(names) + 1), SMALL), len(names))
    svg = to_svg(graph)
    told = written(svg)
    assert "46 of 46 edges, 0 left out; only the 20 strongest of them drawn" in told
    assert len(titled(svg, "edge")) == 20
    with pytest.raises(SiteError, match="is not among the 20 strongest edges"):
        picture(graph, "svg", Options(highlight=graph.ranked()[-1]))


@settings(max_examples=15)
@given(circuits() | node_circuits())
def test_any_circuit_can_be_drawn(graph):
    svg = to_svg(graph)
    _, folds, _ = folded(graph, frozenset())
    drawn = [title.partition("  ")[0] for title in titled(svg, "node")]
    hidden = {name for others in folds.values() for name in others}
    assert len(drawn) == len(graph.nodes) - len(hidden)
    if not folds:
        assert drawn == [style.clean(name) for name in graph.nodes]
        assert len(titled(svg, "edge")) == len(graph.edges)


def test_edges_into_the_ports_of_a_head_share_their_way_until_they_part():
    ports = [f"input->a0.h1<{port}>" for port in "qkv"]
    graph = circuit(*((name, 1.0) for name in ports), ("a0.h1->logits", 1.0))
    paths = layout(graph).paths
    assert len({paths[name][:-3] for name in ports}) == 1
    assert len({paths[name][-1] for name in ports}) == 3
    upright = placed()
    one, other = (layout(upright).paths[f"input@S1->a0.h1@S2<{port}>"] for port in "qv")
    assert one[:-3] == other[:-3]
    assert one[-1] != other[-1]


def crowded():
    """Twelve heads in each of two layers, each joined to the next layer and to the ends."""
    anatomy = Anatomy(2, 12, 12, 24, 2, 8)
    names = [f"input->a0.h{h}<v>" for h in range(12)]
    names += [f"a0.h{h}->a1.h{h}<{'qkv'[h % 3]}>" for h in range(12)]
    names += [f"a1.h{h}->logits" for h in range(12)]
    scores = [(-1) ** h * (1.0 + h) for h in range(12)] * 3
    return circuit(*zip(names, scores, strict=True), anatomy=anatomy)


def test_weak_heads_of_a_crowded_layer_are_one_box_with_the_sums_of_their_scores():
    graph = crowded()
    small, folds, note = folded(graph, frozenset())
    assert folds == {
        f"a{layer}.h6": tuple(f"a{layer}.h{h}" for h in (5, 4, 3, 2, 1, 0)) for layer in (0, 1)
    }
    assert note == "14 weak heads drawn as 2 boxes, with the sums of their edges' scores"
    # The slow way: the sum over every edge whose ends are in the two boxes.
    inside = {name: name for name in graph.nodes}
    inside |= {name: first for first, others in folds.items() for name in others}
    for item in small.scored_edges:
        expected = sum(
            each.score
            for each in graph.scored_edges
            if inside[each.edge.sender.name] == item.edge.sender.name
            and inside[each.edge.receiver.name] == item.edge.receiver.name
            and each.edge.port == item.edge.port
        )
        assert item.score == pytest.approx(expected, rel=1e-12)
    total = sum(item.score for item in small.scored_edges)
    assert total == pytest.approx(sum(item.score for item in graph.scored_edges), rel=1e-12)
    drawn = to_svg(graph)
    assert note in written(drawn)
    assert "7 heads" in words(drawn)
    assert "a0.h6, a0.h5, a0.h4, a0.h3, a0.h2, a0.h1, a0.h0" in titled(drawn, "node")


def test_what_is_highlighted_is_not_folded():
    graph = crowded()
    _, folds, _ = folded(graph, {"a0.h0", "input->a0.h1<v>"})
    hidden = {name for first, others in folds.items() for name in (first, *others)}
    assert not hidden & {"a0.h0", "a0.h1"}
    assert folded(sample(), frozenset()) == (sample(), {}, "")
    assert folded(placed(), frozenset())[1] == {}


def test_the_rest_of_what_is_highlighted_is_faint():
    svg = picture(sample(), "svg", Options(highlight="m1")).decode()
    edges_drawn = {t.partition("  ")[0]: m[0] for t, m in titled(svg, "edge").items()}
    assert float(edges_drawn["input->a0.h1<v>"]["opacity"]) == 0.2
    assert float(edges_drawn["a0.h1->m1"].get("opacity", 1)) > 0.9
    nodes = {title: marks[0] for title, marks in titled(svg, "node").items()}
    assert nodes["input"]["opacity"] == "0.2"
    assert "opacity" not in nodes["a0.h1"]
    strongest = sample().paths(1)[0].edges
    assert picture(sample(), "svg", Options(highlight=strongest)) != to_svg(sample()).encode()
    with pytest.raises(SiteError, match=r"'a0\.h0' is not in this circuit"):
        sample().draw("never.svg", highlight=["a0.h0"])


def size_of(png):
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def test_width_is_in_inches_and_dots_are_dots(tmp_path):
    svg = picture(large(60), "svg", Options(width=6.5)).decode()
    assert ET.fromstring(svg).get("width") == "6.5in"
    across, _ = size_of(picture(large(60), "png", Options(width=3.25, dpi=200)))
    assert across == pytest.approx(650, abs=1)
    sample().draw(tmp_path / "small.png", width=3, dpi=72)
    assert size_of((tmp_path / "small.png").read_bytes())[0] == pytest.approx(216, abs=1)


def test_a_caption_can_be_given_or_left_out():
    given = words(picture(sample(), "svg", Options(caption="One line\nand another")).decode())
    assert {"One line", "and another"} <= {*given}
    assert not any("faithfulness" in line for line in given)
    none = words(picture(sample(), "svg", Options(caption="")).decode())
    assert "One line" not in none
    assert "pushes towards the clean answer" in none


def test_a_font_is_used_where_it_is_installed(tmp_path):
    svg = picture(sample(), "svg", Options(font="My Font")).decode()
    assert ET.fromstring(svg).get("font-family") == f"My Font,{style.FONT}"
    assert picture(sample(), "pdf", Options(font="DejaVu Serif")).startswith(b"%PDF")
    with pytest.raises(
        FormatError, match="no font 'DejaVu Serf' is installed; did you mean 'DejaV"
    ):
        sample().draw(tmp_path / "x.pdf", font="DejaVu Serf")
    assert not [*tmp_path.iterdir()]


def test_options_that_cannot_be_used_are_refused_at_once():
    with pytest.raises(FormatError) as found:
        Options(width="6in", dpi=0, caption=3, font=4)
    told = str(found.value)
    assert "width is '6in'; give inches, from 1 to 100" in told
    assert "dpi is 0; give at least 1" in told
    assert "caption is 3; give text" in told
    assert "font is 4; give text" in told
    with pytest.raises(FormatError, match="give at most 2400"):
        Options(dpi=10**6)


def pdf_text(data):
    """The words of a PDF by its own tables: what a reader that searches it would see."""
    shown = ""
    for found in re.finditer(rb"(?<!end)stream\r?\n", data):
        # A decompressor stops by itself at the end of what was compressed.
        with suppress(zlib.error):
            stream = zlib.decompressobj().decompress(data[found.end() :])
            shown += stream.decode("latin-1") if b"BT" in stream else ""
    # Letters are two bytes each, the codes of Unicode; between them stand kerns.
    lines = re.findall(r"\[([^\]]*)\]\s*TJ|(\([^)]*\)) Tj", shown)
    return ["".join(re.findall(r"\(([^)]*)\)", "".join(one))).replace("\0", "") for one in lines]


def test_a_pdf_has_its_text_as_text_in_fonts_that_it_carries():
    data = picture(sample(), "pdf")
    assert b"/CIDFontType2" in data or b"/TrueType" in data
    assert b"/Type3" not in data.replace(b" ", b"")
    assert b"/FontFile2" in data
    told = pdf_text(data)
    assert {"a0.h1", "input", "logits", "pushes towards the clean answer"} <= {*told}
    assert b"/ToUnicode" in data
    assert b"CreationDate" not in data


@pytest.mark.parametrize("graph", [large(25), large(200), crowded(), placed(), sample()])
def test_no_band_of_a_third_of_the_picture_is_empty(graph):
    """Neither across nor down, whatever is written below."""
    import io

    from PIL import Image

    drawn = np.asarray(Image.open(io.BytesIO(picture(graph, "png", Options(dpi=72)))).convert("L"))
    for ink in ((drawn < 250).any(axis=0), (drawn < 250).any(axis=1)):
        empty = longest = 0
        for used in ink:
            empty = 0 if used else empty + 1
            longest = max(longest, empty)
        assert longest < len(ink) / 8


def test_two_hundred_edges_on_a_page_have_names_that_can_be_read():
    """At the width of a page of text no name is smaller than 6 points, and none leaves its box."""
    svg = ET.fromstring(picture(large(200), "svg", Options(width=6.5)).decode())
    scale = 6.5 * 72 / float(svg.get("viewBox").split()[2])
    assert min(float(t.get("font-size")) for t in svg.iter(f"{SVG}text")) * scale >= 6
