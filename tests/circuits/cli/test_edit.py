"""`edit` and `mitigate` from the command line: bad input is refused whole, nothing half-written."""

import json

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.edits import edit as e
from circuits.edits.plan import plan_for

BAD = """
kind = "circuits edit plan"
schema_version = "1.0"
model = "0000"
basis = "folded_centered"
[[edits]]
kind = "scale"
site = "a9.h1"
factor = nan
[[edits]]
kind = "project"
site = "m3.n17"
direction = { tokens = { " A" = 1.0 } }
[[edits]]
kind = "scale"
site = "m3.n17"
factor = 0.0
[[edits]]
kind = "steer"
site = "m3.n1"
direction = { tokens = { " A" = 0.0 } }
"""
OF_ANY_MODEL = (
    "unknown basis 'folded_centered'; did you mean 'folded_centred'",
    "edit 0 (scale): factor is nan",
    "edits 1 and 2 conflict: both change m3.n17",
    "edit 3 (steer): 'm3.n1' is no place for this edit",
)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "bad.toml").write_text(BAD)
    return tmp_path / "bad.toml"


@pytest.fixture
def good(tmp_path):
    plan_for(circuits.load_model("nano"), (e.remove("m3.n1"),)).save(tmp_path / "good.toml")
    return tmp_path / "good.toml"


def test_a_plan_is_checked_without_a_model_as_far_as_that_goes(bad, good):
    refused = run("edit", "check", bad)
    assert refused.exit_code == 2
    for part in OF_ANY_MODEL:
        assert part in refused.stderr
    fine = run("edit", "check", good)
    assert fine.exit_code == 0
    assert "1 edit, nothing wrong; give --model" in fine.stdout


def test_with_a_model_everything_is_told_at_once_and_nothing_is_written(bad, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    before = sorted(tmp_path.rglob("*"))
    refused = run("edit", "apply", bad, "--model", "nano", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    for part in (
        *OF_ANY_MODEL,
        "the plan is for model 0000",
        "layers are 0 to 3",
        "exists already",
        "edit 3 (steer) changes activations",
    ):
        assert part in refused.stderr, part
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("under", ["good.toml", "good.toml/model"])
def test_where_nothing_can_be_written_nothing_is(good, tmp_path, under):
    before = sorted(tmp_path.rglob("*"))
    refused = run("edit", "apply", good, "--out", tmp_path / under)
    assert refused.exit_code == 2
    assert "choose another --out" in refused.stderr or "cannot be written" in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_while_a_model_is_written_leaves_nothing(good, tmp_path, monkeypatch):
    from circuits.edits import save_model

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(save_model, "_verify", interrupt)
    stopped = run("edit", "apply", good, "--out", tmp_path / "model")
    assert stopped.exit_code == 130
    assert "interrupted" in stopped.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["good.toml"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema_version": "2.0", "edits": []}', "schema version 2.0; this version of"),
        ('{"model": "", "basis": "raw", "edits": [{"kind": "zap"}]}', "unknown kind of edit 'zap'"),
        (
            '{"model": "", "basis": "raw", "edits": [{"kind": "scale", "site": "m0", "x": 1}]}',
            "x: there is no such field",
        ),
        ('{"model": "", "basis": "raw", "edits": [{"kind": "scale"}]}', "factor: is missing"),
        ("{", "not valid JSON"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_words(tmp_path, text, says):
    (tmp_path / "plan.json").write_text(text)
    refused = run("edit", "check", tmp_path / "plan.json")
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not(good):
    schema = json.loads(run("edit", "schema").stdout)
    valid = Draft202012Validator(schema).is_valid
    plan = json.loads(circuits.read_plan(good).to_json())
    assert valid(plan)
    assert not valid({**plan, "schema_version": "2.0"})
    assert not valid({**plan, "edits": [{"kind": "zap"}]})
    assert not valid({**plan, "edits": [{"kind": "scale", "site": "m0", "factr": 1}]})


def test_a_mitigation_says_everything_wrong_with_its_options_before_it_starts(tmp_path):
    out = tmp_path / "out"
    given = ["--train", 1, "--test", 0, "--seed", -1, "--file", "no.jsonl", "--recipe", "zeros"]
    refused = run("mitigate", "mcq_bias", "--out", out, *given)
    assert refused.exit_code == 2
    for part in ("train is 1", "test is 0", "seed is -1", "'no.jsonl'", "did you mean 'zero'"):
        assert part in refused.stderr
    assert not out.exists()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_mitigation_never_replaces_what_is_not_one(tmp_path, force):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    refused = run("mitigate", "mcq_bias", "--out", tmp_path / "out", *force)
    assert refused.exit_code == 2
    assert "not a mitigation; choose another --out" in refused.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_model_without_letters_is_refused_in_words(shared, tmp_path):
    model = shared / "models" / "gpt-nano-sort"
    refused = run("mitigate", "mcq_bias", "--model", model, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "no tokenizer" in refused.stderr
    assert not (tmp_path / "out").exists()
