"""Which pairs a model knows, against its definition; leaving out those it does not."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.knowledge import Knowledge, describe_known, knowledge, only_known
from circuits.prompts import prompts_of
from tasks.errors import TaskError


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def mixed(nano):
    """Pairs with right answers, the same ones the wrong way round, and half wrong."""
    pairs = circuits.load_task("ioi").pairs(nano.tokenizer, n=6, seed=0)
    rows = {
        name: np.concatenate([getattr(pairs, name)] * 2)
        for name in ("clean", "corrupted", "mask", "answer", "counterfactual")
    }
    rows["answer"][6:], rows["counterfactual"][6:] = pairs.counterfactual, pairs.answer
    kinds = ("given",) * 6 + ("turned",) * 6
    return circuits.PromptPairs(**rows, task="mixed", templates=kinds)


def prefers(model, ids, mask, one, other):
    logits = model.run(torch.tensor(ids[mask])[None], torch.ones(1, mask.sum(), dtype=torch.bool))
    return float(logits[0, one] - logits[0, other]) > 0


@torch.no_grad()
def test_a_pair_is_known_where_both_runs_prefer_their_own_answer(nano, mixed):
    found = knowledge(nano, mixed, batch_size=5)
    for i in range(len(mixed)):
        right, wrong = int(mixed.answer[i, 0]), int(mixed.counterfactual[i, 0])
        wanted = prefers(nano, mixed.clean[i], mixed.mask[i], right, wrong)
        wanted &= prefers(nano, mixed.corrupted[i], mixed.mask[i], wrong, right)
        assert found.known[i] == wanted
    assert found.by_template["turned"] == (0, 6)
    assert found.by_template["given"][0] > 3


def test_only_what_is_known_is_left_and_templates_stay_with_their_pairs(nano, mixed):
    left = only_known(nano, mixed)
    assert set(left.templates) == {"given"}
    assert len(left) == knowledge(nano, mixed).known.sum()
    assert left.digest == mixed[knowledge(nano, mixed).known.nonzero()[0]].digest
    with pytest.raises(TaskError, match="knows none of 6 pairs"):
        only_known(nano, mixed[6:])


def test_templates_that_are_not_known_are_counted_and_named():
    known = np.array([True, True, False, False, False, True])
    found = Knowledge(known, ("a [X]", "a [X]", "b [X]", "b [X]", "c [X]", "c [X]"))
    assert describe_known(found.to_json()) == (
        'the model knows 3 of 6 pairs; not 1 of 3 templates: "b [X]" (0 of 2). '
        "'discover --model-correct' leaves such pairs out"
    )
    assert describe_known(Knowledge(known, ("",) * 6).to_json()) == "the model knows 3 of 6 pairs"
    every = Knowledge(known[:2], ("a [X]",) * 2)
    assert describe_known(every.to_json()) == "the model knows 2 of 2 pairs, and all 1 template"


def test_scenes_carry_their_template(nano):
    pairs = circuits.load_task("ioi").pairs(nano.tokenizer, n=8, seed=0)
    assert all("{" in name for name in pairs.templates)
    with pytest.raises(TaskError, match="2 templates for 1 pairs"):
        circuits.PromptPairs(
            clean=[[1]],
            corrupted=[[2]],
            mask=[[True]],
            answer=[[3]],
            counterfactual=[[4]],
            templates=("a", "b"),
        )


def test_the_choice_is_recorded_and_carries_over_to_held_out_prompts(tmp_path):
    out = str(tmp_path / "run")
    arguments = ["discover", "mental_math", "--n", "12", "--top", "5", "--model-correct"]
    done = CliRunner().invoke(app, [*arguments, "--out", out])
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["model_correct"] is True
    known = record["prompts"]["known"]
    assert known["pairs"] == known["of"] == record["prompts"]["n"] <= 12
    assert "the model knows" in done.stdout
    again = CliRunner().invoke(app, ["evaluate", out, "--n", "6"])
    assert again.exit_code == 0, again.stderr
    held_out = json.loads((tmp_path / "run" / "evaluation.json").read_text())["prompts"]
    assert held_out["known"]["pairs"] == held_out["n"] > 0


def test_a_choice_among_given_pairs(nano, mixed):
    some = circuits.discover(mixed, nano, top=5, model_correct=True)
    assert some.info.prompts == knowledge(nano, mixed).known.sum()
    config = Config(task="ioi", n=4, model_correct=True)
    assert knowledge(nano, prompts_of(config, nano)).known.all()


def test_a_model_that_knows_nothing_is_told_so():
    done = CliRunner().invoke(app, ["discover", "mcq_bias", "--n", "4", "--model-correct"])
    assert done.exit_code == 2
    assert "knows none of 4 pairs" in done.stderr
