import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import CircuitGraph
from graphs.formats import FORMATS, find_format, render
from graphs.schema import from_json, to_json
from tasks.errors import FormatError
from tests.graphs.strategies import circuit, circuits, node_circuits

GRAPH = circuit(("input->a0.h1<q>", 0.5), ("a0.h1->logits", -2.0), task="ioi")
READABLE = [name for name, form in FORMATS.items() if form.read]


def test_every_format_says_what_it_is_and_what_it_loses():
    for name, form in FORMATS.items():
        assert form.name == name
        assert form.suffix.startswith(".")
        assert form.description
        assert form.loses
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_saving_by_suffix_and_by_name_gives_the_same_file(tmp_path, name):
    form = FORMATS[name]
    GRAPH.save(tmp_path / f"circuit{form.suffix}")
    GRAPH.save(tmp_path / "circuit", format=name)
    data = (tmp_path / "circuit").read_bytes()
    assert (tmp_path / f"circuit{form.suffix}").read_bytes() == data == render(GRAPH, name)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", READABLE)
def test_what_is_saved_is_loaded(tmp_path, name):
    path = tmp_path / f"circuit{FORMATS[name].suffix}"
    GRAPH.save(path)
    assert CircuitGraph.load(path) == GRAPH
    assert CircuitGraph.load(str(path), format=name) == GRAPH


def test_json_of_the_benchmark_is_known_by_its_content(tmp_path):
    GRAPH.save(tmp_path / "importances.json", format="mib")
    assert CircuitGraph.load(tmp_path / "importances.json") == GRAPH


@pytest.mark.parametrize("name", ["c.pt", "c.pkl", "c.ckpt", "c.json", "c.mib.json"])
@pytest.mark.parametrize("content", [b"PK\x03\x04torch", b"\x80\x02}q\x00."])
def test_a_pickle_is_named_and_never_opened(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=r"a pickle, as PyTorch .* never opened.*to_json"):
        CircuitGraph.load(tmp_path / name)


def test_unknown_formats_and_suffixes_are_refused_with_the_choices(tmp_path):
    with pytest.raises(FormatError, match="unknown format 'grafml'; did you mean 'graphml'"):
        GRAPH.save(tmp_path / "c", format="grafml")
    with pytest.raises(FormatError, match=r"unknown suffix '.jsn'; did you mean '.json'"):
        GRAPH.save(tmp_path / "c.jsn")
    with pytest.raises(FormatError, match=r"unknown suffix 'circuit'"):
        find_format("circuit")
    assert list(tmp_path.iterdir()) == []


def test_formats_that_are_only_written_say_so(tmp_path):
    GRAPH.save(tmp_path / "c.csv")
    with pytest.raises(FormatError, match="csv files are only written; read graphml, json, mib"):
        CircuitGraph.load(tmp_path / "c.csv")


def test_files_that_are_not_there_and_folders(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*c.json: No such file"):
        CircuitGraph.load(tmp_path / "c.json")
    (tmp_path / "d.json").mkdir()
    with pytest.raises(FormatError, match=r"cannot read .*d.json: Is a directory"):
        CircuitGraph.load(tmp_path / "d.json")
    with pytest.raises(FormatError, match="cannot write"):
        GRAPH.save(tmp_path / "d.json")


def test_huge_files_are_refused_before_they_are_parsed(tmp_path, monkeypatch):
    from graphs import files

    monkeypatch.setattr(files.read_bytes, "__defaults__", (100, "save it again with fewer edges"))
    GRAPH.save(tmp_path / "c.json")
    with pytest.raises(FormatError, match=r"larger than 100 bytes, the most that is read; save it"):
        CircuitGraph.load(tmp_path / "c.json")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.mib.json"
    GRAPH.save(path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="whole heads and MLPs only"):
        circuit(("input->m0@S1", 1.0)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", READABLE)
@given(data=st.binary(max_size=300) | st.text().map(str.encode))
def test_random_bytes_never_give_anything_but_a_format_error(name, data):
    with pytest.raises(FormatError):
        FORMATS[name].read(data, "c")


@pytest.mark.parametrize("name", READABLE)
@given(
    spans=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=6)), max_size=4)
)
def test_damaged_files_are_read_or_refused(name, spans):
    data = render(GRAPH, name)
    for place, length, new in spans:
        start = int(place * len(data))
        data = data[:start] + new + data[start + length :]
    try:
        graph = FORMATS[name].read(data, "c")
    except FormatError:
        return
    assert from_json(to_json(graph).encode()) == graph


@given(circuits() | node_circuits())
def test_same_circuit_same_bytes(graph):
    for name in ("json", "graphml", "gexf", "cytoscape", "csv", "dot"):
        assert render(graph, name) == render(graph, name)
