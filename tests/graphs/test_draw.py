import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings

from graphs import (
    CircuitGraph,
    CircuitInfo,
    Metrics,
    ScoredNode,
    Selection,
    draw,
    engine,
    style,
    top_edges,
)
from graphs.dot import to_dot
from graphs.draw import picture, to_svg
from patching.nodes.edges import edges
from patching.sites import Site, mlp
from tasks.errors import FormatError
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


def skeleton(svg):
    """What is drawn, without the measures that differ with fonts and versions of Graphviz."""
    lines = []
    for part in ET.fromstring(svg).iter():
        kept = {k: v for k, v in part.attrib.items() if k.startswith(("stroke", "fill"))}
        told = " ".join([part.tag.removeprefix(SVG), *(f"{k}={v}" for k, v in kept.items())])
        lines.append(f"{told}: {(part.text or '').strip()}")
    return "\n".join(lines) + "\n"


def test_dot_is_as_it_was():
    assert to_dot(sample()) == (GOLDEN / "circuit.dot").read_text()


def test_svg_is_as_it_was():
    assert skeleton(to_svg(sample())) == (GOLDEN / "circuit.svg.txt").read_text()


def test_same_circuit_same_picture():
    assert to_svg(sample()) == to_svg(sample())
    assert picture(sample(), "png") == picture(sample(), "png")


def test_sign_is_told_by_colour_and_by_dashes():
    root = ET.fromstring(to_svg(sample()))
    drawn = {}
    for group in root.iter(f"{SVG}g"):
        title, path = group.find(f"{SVG}title"), group.find(f"{SVG}path")
        if title is not None and path is not None:
            drawn[title.text] = path.attrib
    negative = drawn["input->a0.h1<v>  \u22122"]
    positive = drawn["a0.h1->m1  2.5"]
    assert "stroke-dasharray" in negative
    assert "stroke-dasharray" not in positive
    assert positive["stroke"] == style.POSITIVE
    assert negative["stroke"] not in (positive["stroke"], style.NEGATIVE)
    widths = {title: float(path.get("stroke-width", 1)) for title, path in drawn.items()}
    assert widths["a0.h1->m1  2.5"] == style.THICKEST
    assert min(widths.values()) == pytest.approx(style.THINNEST, abs=0.1)


def test_the_legend_says_what_was_left_out():
    told = skeleton(to_svg(sample()))
    assert "top 5 by |score|: 4 of 46 edges, 42 left out" in told
    assert "relevance, noising; metric logit_diff; 64 prompt pairs" in told
    assert "faithfulness 0.75 (clean 3, ablated \u22121, circuit 2, outside: corrupted)" in told


def test_the_legend_says_where_there_is_nothing_to_recover():
    undefined = sample().with_info(metrics=Metrics(0.02, 0.03, 0.025, None, "corrupted"))
    told = "faithfulness undefined (clean 0.02, ablated 0.03, circuit 0.025, outside: corrupted)"
    assert told in skeleton(to_svg(undefined))
    assert "faithfulness" not in skeleton(to_svg(sample().with_info(metrics=Metrics())))


def test_the_legend_of_other_studies_speaks_of_no_clean_answer():
    neurons = [ScoredNode(Site("neuron", 0, unit), 1.5 - unit) for unit in range(4)]
    info = CircuitInfo(SMALL, level="node", method="seen", metric="what is said", prompts=2)
    told = skeleton(to_svg(CircuitGraph(info, (), neurons)))
    assert "seen; metric what is said; 2 prompts" in told
    assert "raises the metric" in told
    assert "hexagons: neurons" in told
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


def test_there_is_no_outside_reference_in_the_svg():
    svg = to_svg(sample())
    addresses = set(re.findall(r"https?://[^\"'\s]+", svg))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "href" not in svg


def test_too_many_edges_are_cut_and_the_legend_says_so(monkeypatch):
    monkeypatch.setattr(draw, "MOST_EDGES", 20)
    names = [edge.name for edge in edges(SMALL)]
    svg = to_svg(top_edges(scores_of(names, range(1, len(names) + 1), SMALL), len(names)))
    assert "46 of 46 edges, 0 left out; only the 20 strongest of them drawn" in svg
    assert len(re.findall(r'<g id="e\d+"', svg)) == 20


def test_jupyter_gets_a_picture_and_text():
    bundle = sample()._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(sample())
    assert bundle["image/svg+xml"] == to_svg(sample())


def test_without_graphviz_jupyter_gets_text_and_drawing_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FormatError, match="install pygraphviz"):
        to_svg(sample())
    assert sample()._repr_mimebundle_() == {"text/plain": repr(sample())}


def test_a_dot_program_on_the_path_serves_as_well(monkeypatch, tmp_path):
    """The program is played by a script that hands its input to pygraphviz."""
    for name in ("dot", "neato"):
        script = tmp_path / name
        script.write_text(
            f"#!{sys.executable}\n"
            "import sys, pygraphviz\n"
            "form = next(a[2:] for a in sys.argv if a.startswith('-T'))\n"
            "prog = 'nop2' if '-n2' in sys.argv else 'dot'\n"
            "graph = pygraphviz.AGraph(string=sys.stdin.read())\n"
            "sys.stdout.buffer.write(graph.draw(format=form, prog=prog))\n"
        )
        script.chmod(0o755)
    expected = to_svg(sample())
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert to_svg(sample()) == expected


def test_a_failing_graphviz_is_a_format_error():
    with pytest.raises(FormatError, match="Graphviz could not draw"):
        engine.run("digraph {", "dot", "svg")
    with pytest.raises(FormatError, match="Graphviz could not draw"):
        engine.run("digraph {}", "dot", "nothing")


@settings(max_examples=15)
@given(circuits() | node_circuits())
def test_any_circuit_can_be_drawn(graph):
    root = ET.fromstring(to_svg(graph))
    titles = [part.text for part in root.iter(f"{SVG}title")]
    assert [name for name in titles if name in graph.nodes] == list(graph.nodes)
    numbers = [part.get("id", "") for part in root.iter(f"{SVG}g")]
    assert sum(bool(re.fullmatch(r"e\d+", n)) for n in numbers) == len(graph.edges)


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
