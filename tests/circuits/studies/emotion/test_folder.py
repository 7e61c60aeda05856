"""A study's folder: whole or not there, replaced only when asked, and only by its like."""

import json

import pytest

import circuits
from circuits.studies.emotion.folder import KIND, OUTPUT, REPORT, write
from graphs import CircuitGraph
from tasks.errors import MethodError, RunError
from tests import tiny_emotion


@pytest.fixture
def done(tmp_path):
    write(tmp_path / "study", tiny_emotion.found())
    return tmp_path / "study"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_holds_circuits_report_directions_and_pictures(done):
    assert names(done) == [
        *("circuit-0.json", "circuit-1.json", "circuit.json", "circuit.svg", "control.svg"),
        *("directions.safetensors", "geometry.svg", "layers.svg", "report.json", "report.md"),
    ]
    report = json.loads((done / REPORT).read_text(encoding="utf-8"))
    assert report["kind"] == KIND
    graph = CircuitGraph.load(done / "circuit-0.json")
    assert len(graph) == 11
    assert not graph.edges


def test_the_public_function_studies_and_writes(tmp_path):
    given = {"groups": 6, "tests": 4, "new_tokens": tiny_emotion.NEW, "neurons": 8, "heads": 3}
    given |= {"draws": 2, "tuning": 2}
    model, concept = tiny_emotion.opened(), tiny_emotion.concept()
    study = circuits.emotion(model, tmp_path / "study", concept, **given)
    assert study.results["trials"] == tiny_emotion.found().results["trials"]
    assert json.loads((tmp_path / "study" / REPORT).read_text("utf-8"))["labels"] == list(
        tiny_emotion.LABELS
    )
    assert "driving the circuit less steering" in str(study)
    with pytest.raises(RunError, match="holds a study already"):
        circuits.emotion(model, tmp_path / "study", concept, **given)
    with pytest.raises(MethodError, match="did you mean 'groups'"):
        circuits.emotion(model, group=2)


def test_new_and_empty_folders_are_free(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with OUTPUT.reserved(tmp_path / name):
            pass
    assert names(tmp_path) == ["empty"]


def test_a_study_is_replaced_only_when_asked(done):
    with pytest.raises(RunError, match=r"holds a study already.*--force"), OUTPUT.reserved(done):
        pass
    before = (done / REPORT).read_bytes()
    (done / "report.md").write_text("old")
    with OUTPUT.reserved(done, force=True):
        write(done, tiny_emotion.found())
    assert (done / REPORT).read_bytes() == before
    assert (done / "report.md").read_text(encoding="utf-8") != "old"
    assert names(done.parent) == ["study"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "mine.txt").write_text(""), r"files beside its study \(mine.txt"),
        (lambda folder: (folder / REPORT).unlink(), "something that is not a study"),
        (lambda folder: (folder / REPORT).write_text('{"kind": 1}'), "that is not a study"),
    ],
)
def test_what_is_no_study_is_never_replaced(done, change, told, force):
    change(done)
    with pytest.raises(RunError, match=told), OUTPUT.reserved(done, force):
        pass
    before = names(done)
    with pytest.raises(RunError, match=told):
        write(done, tiny_emotion.found())
    assert names(done) == before
    assert names(done.parent) == ["study"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    refused = OUTPUT.reserved(tmp_path / "file", force=True)
    with pytest.raises(RunError, match="is a file"), refused:
        pass


def test_an_interrupted_study_leaves_the_old_one(done, monkeypatch):
    monkeypatch.setattr(
        "circuits.studies.emotion.text.page", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        write(done, tiny_emotion.found())
    assert len(names(done)) == 10
    assert names(done.parent) == ["study"]
