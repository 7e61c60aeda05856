"""A whole study of a real small model that knows no emotion task, and input that stops it early."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.studies.emotion.circuit import Components
from circuits.studies.emotion.control import enhance, silence, steer
from circuits.studies.emotion.folder import FILES
from circuits.studies.emotion.prompts import Concept, emotions, read_concept
from graphs import CircuitGraph
from patching.anatomy import Anatomy
from tasks.errors import FormatError, MethodError, TaskError
from tasks.scenarios import VALENCES

ANATOMY = Anatomy(2, 4, 4, 8, 2, 16)
LABELS = {"girl": ["she", "her"], "boy": ["he", "his", "him"]}


def rows():
    openings = {
        "discovery": ("Once upon a time,", "One day,"),
        "test": ("Once there was a park, and", "In a big house,"),
    }
    heroes = {None: "dog named Max", "girl": "girl named Lily", "boy": "boy named Tim"}
    return [
        {
            "text": f"{opening} there was a little {hero}.",
            "group": opening,
            "label": label,
            "split": split,
        }
        for split, starts in openings.items()
        for opening in starts
        for label, hero in heroes.items()
    ]


@pytest.fixture
def concept_file(tmp_path):
    path = tmp_path / "mood.json"
    path.write_text(json.dumps({"labels": LABELS, "prompts": rows()}))
    return path


def test_a_study_from_the_command_line_on_another_architecture(shared, concept_file, tmp_path):
    out, folder = tmp_path / "study", shared / "models" / "stories260K"
    arguments = ["--model", folder, "--prompts", concept_file, "--out", out]
    arguments += ["--new-tokens", 8, "--heads", 8, "--neurons", 20, "--draws", 2, "--layers", "2,3"]
    done = CliRunner().invoke(app, ["emotion", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert len(report["trials"]) == 9
    assert report["random_draws"] == 2
    assert {len(row["all"].get("draws", [0])) for row in report["trials"]} == {1, 2}
    curve = report["probes"]["conditions"]["as they are"]["accuracy"]
    assert len(curve) == len(report["probes"]["points"]) == 10
    assert max(curve) > report["probes"]["chance"]
    assert report["closed_form"]["largest_difference"] < 1e-5
    assert all(FILES.fullmatch(path.name) for path in out.iterdir())
    # It is there now, and is not done again unless that is asked for.
    again = CliRunner().invoke(app, ["emotion", *map(str, arguments)])
    assert again.exit_code == 2
    assert "holds a study already; choose another --out, or replace it with --force" in again.stderr
    graph = CircuitGraph.load(out / "circuit-0.json")
    assert len(graph) == 28
    assert not graph.edges
    tensors = load_file(out / "directions.safetensors")
    assert tensors["vectors"].shape == tensors["probe_weights"].shape
    assert tensors["probe_biases"].shape == (2, 10)
    assert "| circuit |" in (out / "report.md").read_text()


def test_the_emotion_task_is_a_concept_with_whole_groups():
    found = emotions()
    assert found.labels[0] == "anger"
    assert found.test[0].text.endswith(" Reply: I feel")
    few = found.take("test", 3)
    assert len({p.group for p in few}) == 3
    assert len(few) == 21
    for groups in (20, 40):
        drawn = Counter(p.kind for p in found.take("test", groups))
        assert min(drawn[kind] for kind in VALENCES) > 7 * groups / 6


def test_a_concept_from_a_file(concept_file):
    found = read_concept(concept_file)
    assert (found.name, found.labels) == ("mood", ("girl", "boy"))
    assert found.judged("She smiled.") == "girl"
    assert len(found.discovery) == 6


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (
            lambda d: d["prompts"].pop(1),
            TaskError,
            "group 'Once upon a time,': 0 prompts for 'girl', needs 1",
        ),
        (lambda d: d["labels"].pop("boy"), TaskError, "1 labels; directions are differences"),
        (lambda d: d["prompts"][0].pop("group"), FormatError, r"prompts\[0\]: 'group' must be"),
        (lambda d: d["prompts"][0].update(split="x"), FormatError, "'split' must be discovery"),
        (lambda d: d["labels"].update(boy="he"), FormatError, "label 'boy': give a list"),
        (lambda d: d["labels"].update(boy=["her"]), TaskError, "belong to two emotions: her"),
        (lambda d: d.pop("prompts"), FormatError, "'prompts' must be a list"),
        (
            lambda d: [
                row.update(group="One day,") for row in d["prompts"] if row["split"] == "test"
            ],
            TaskError,
            "groups of both splits, so nothing would be held out: One day,",
        ),
    ],
)
def test_concepts_that_cannot_be_studied(concept_file, change, error, told):
    data = json.loads(concept_file.read_text())
    change(data)
    concept_file.write_text(json.dumps(data))
    with pytest.raises(error, match=told):
        read_concept(concept_file)


def test_a_concept_from_a_file_that_is_none(tmp_path):
    with pytest.raises(TaskError, match="there is no file"):
        read_concept(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"labels": ')
    with pytest.raises(FormatError, match="is not valid JSON: Expecting value"):
        read_concept(tmp_path / "half.json")
    for text, why in (
        ('{"labels": {}, "labels": {}}', "key 'labels' appears 2 times in one object"),
        ("[" * 5000, "nested too deeply"),
    ):
        (tmp_path / "odd.json").write_text(text)
        with pytest.raises(FormatError, match=f"is not valid JSON: {why}"):
            read_concept(tmp_path / "odd.json")


def test_a_judge_that_answers_something_else():
    known = emotions()
    with pytest.raises(TaskError, match="the judge answered 3; it must answer one of anger"):
        Concept("emotion", known.labels, known.discovery, known.test, lambda text: 3)


def test_random_components_are_as_many_and_others():
    chosen = Components(((1, 2, 3), ()), ((0,), (1, 2, 3)))
    others = chosen.random_others(ANATOMY, seed=0)
    assert [len(row) for row in (*others.neurons, *others.heads)] == [3, 0, 1, 3]
    assert not set(others.neurons[0]) & {1, 2, 3}
    assert others == chosen.random_others(ANATOMY, seed=0)


def test_taps_change_what_they_name_and_nothing_else():
    chosen = Components(((2,), ()), ((), (1, 3)))
    neurons, heads = np.full((2, 16), 2.0), np.full((2, 4, 2), 3.0)
    mlp, z = torch.ones(1, 3, 16), torch.ones(1, 3, 4, 2)
    add = enhance(chosen, neurons, heads, strength=0.5)
    assert add("mlp_post", 0, mlp)[0, :, 2].tolist() == [1, 1, 2]
    assert add("mlp_post", 0, mlp).sum() == mlp.sum() + 1
    assert add("mlp_post", 1, mlp) is mlp
    assert add("z", 1, z)[0, 2, :, 0].tolist() == [1, 2.5, 1, 2.5]
    cut = silence(chosen, "all")("z", 1, z)
    assert cut[0, :, 1].abs().sum() == 0
    assert cut.sum() == z.sum() / 2
    assert mlp.sum() == 48
    with pytest.raises(MethodError, match="unknown positions 'first'"):
        silence(chosen, "first")


def test_steering_is_in_units_of_the_streams_norm():
    x = torch.ones(1, 2, 4)
    push = steer(np.eye(2, 4), [1], 0.5)
    assert push("resid_post", 1, x)[0].tolist() == [[1, 1, 1, 1], [1, 2, 1, 1]]
    assert push("resid_post", 0, x) is x
    with pytest.raises(MethodError, match="layers \\[2\\] are outside the model's 0 to 1"):
        steer(np.eye(2, 4), [2], 0.5)
