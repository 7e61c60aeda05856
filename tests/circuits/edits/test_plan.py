"""Edit plans: read, written, checked as a whole before anything is changed."""

import json

import pytest
import torch
from jsonschema import Draft202012Validator

import circuits
from circuits.edits import edit as e
from circuits.edits.plan import EditPlan, plan_for, plan_schema, read_plan
from tasks.errors import EditError, FormatError
from tests.families import make_pairs, one_batch, opened

TOML = """
kind = "circuits edit plan"
schema_version = "1.0"
model = "{model}"
basis = "{basis}"
[[edits]]
kind = "scale"
site = "a0.h1"
factor = {factor}
[[edits]]
kind = "add"
site = "m1.n3"
direction = {{ tokens = {{ "#5" = -1.0, "#7" = 0.5 }} }}
strength = 0.25
"""


@pytest.fixture
def plan():
    edits = (e.scale("a0.h1", 0.5), e.add("m1.n3", {"#5": -1.0, "#7": 0.5}, 0.25))
    return plan_for(opened("gpt2"), edits)


def test_toml_and_json_say_the_same(plan, tmp_path):
    model = opened("gpt2")
    (tmp_path / "plan.toml").write_text(
        TOML.format(model=model.hash, basis="folded_centred", factor=0.5)
    )
    plan.save(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    assert read_plan(tmp_path / "plan.toml").edits == plan.edits
    Draft202012Validator(plan_schema()).validate(json.loads(plan.to_json()))


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_what_is_saved_is_read_back_with_every_kind_of_edit(tmp_path, ending):
    model = opened("gpt2")
    edits = (
        e.add("m1.n3", {"#5": -1.0, "#7": 1 / 3}, 0.25),
        e.project("m1.n4", {"#5": 1.0}, 0.1),
        e.scale("a1.h0", 0.5),
        e.RankOne(site="m0", keys=(0.1, 1e-9), direction=e.Direction(vector=(0.5,) * 4)),
        e.SwapAttention(site="a0.h0", first=1, second="gold"),
    )
    plan = plan_for(model, edits)
    plan.save(tmp_path / f"plan.{ending}")
    assert read_plan(tmp_path / f"plan.{ending}") == plan


def test_plans_are_written_as_what_they_are_read_from(plan, tmp_path):
    with pytest.raises(FormatError, match=r"written as \.json or \.toml"):
        plan.save(tmp_path / "plan.yaml")


def test_a_plan_in_force_changes_the_model_and_then_not(plan):
    model = opened("gpt2")
    batch = one_batch(model, make_pairs())
    before = model.run(batch.clean, batch.mask)
    with plan.applied(model):
        assert not torch.equal(model.run(batch.clean, batch.mask), before)
    assert torch.equal(model.run(batch.clean, batch.mask), before)


def test_everything_wrong_is_listed_at_once(tmp_path):
    (tmp_path / "plan.toml").write_text(
        TOML.format(model="0" * 64, basis="folded_centred", factor="nan").replace("m1.n3", "m1.n99")
        + '[[edits]]\nkind = "scale"\nsite = "a0.h2"\nfactor = 2.0\n'
        + '[[edits]]\nkind = "scale"\nsite = "a0.h2"\nfactor = 2.0\n'
        + '[[edits]]\nkind = "swap_attention"\nsite = "a0.h0"\nfirst = 1\nsecond = "gold"\n'
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "something").write_text("")
    with pytest.raises(EditError) as told:
        read_plan(tmp_path / "plan.toml").check(opened("llama"), out)
    for part in (
        "the plan is for model 000000000000",
        "does not remove",
        "factor is nan",
        "neurons are 0 to 47",
        "edits 2 and 3 conflict: the same edit twice",
        "exists already",
        "edit 4 (swap_attention) changes activations",
    ):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("plan.toml", "kind = ", "not valid TOML"),
        ("plan.json", '{"kind": "circuits run"}', "no edit plan"),
        ("plan.yaml", "", "from .toml or .json"),
        ("plan.json", '{"schema_version": "2.0", "model": "", "basis": "raw", "edits": []}', "1"),
        ("missing.json", None, "cannot read"),
    ],
)
def test_files_that_are_no_plans_are_refused(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=says):
        read_plan(tmp_path / name)


def test_misspelt_fields_are_all_named(tmp_path):
    edits = [{"kind": "scale", "site": "a0.h1", "factr": 1}, {"kind": "zero", "site": "m0"}]
    whole = {"model": "", "basis": "raw", "edits": edits}
    (tmp_path / "plan.json").write_text(json.dumps(whole))
    with pytest.raises(FormatError) as told:
        read_plan(tmp_path / "plan.json")
    for part in ("factr", "factor", "'zero'"):
        assert part in str(told.value)


def test_an_empty_plan_is_no_plan():
    plan = EditPlan(model=opened("gpt2").hash, basis="raw", edits=())
    with pytest.raises(EditError, match="no edits"):
        plan.check(opened("gpt2"))


def test_a_plan_of_one_edit_says_one_edit():
    edit = circuits.remove("a1.h0")
    plan = circuits.EditPlan(model="0" * 64, basis="raw", edits=edit)
    assert plan == circuits.EditPlan(model="0" * 64, basis="raw", edits=(edit,))
    assert repr(plan) == "EditPlan(1 edit of 000000000000, basis raw)"
