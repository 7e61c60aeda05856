"""How well a model does every task: shares and means against the metric measured by hand."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import circuits
import tasks
from circuits.abilities import abilities
from circuits.cli.app import app
from patching.metrics import METRICS
from patching.runs import Batch
from tasks.errors import MethodError, TaskError
from tests.families import opened

FORM = "mental_math:form=-"


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.mark.parametrize("name", ["ioi", FORM, "sva"])
def test_it_is_the_metric_and_the_top_token_of_the_clean_prompts(nano, name):
    (found,) = abilities(nano, [name], n=8, seed=4, batch_size=3)
    pairs = tasks.get(name).pairs(nano.tokenizer, n=found.n, seed=4)
    batch = Batch.of(nano, pairs)
    with torch.no_grad():
        logits = nano.run(batch.clean, batch.mask)
    top = logits.argmax(-1).numpy()
    right = [token in answer for token, answer in zip(top, pairs.answer, strict=True)]
    assert (found.task, found.metric, found.refused) == (name, pairs.metric, "")
    assert found.right == np.mean(right)
    assert found.preferred == (METRICS["logit_diff"](logits, pairs) > 0).double().mean().item()
    assert found.value == pytest.approx(
        METRICS[pairs.metric](logits, pairs).mean().item(), abs=1e-5
    )
    low, high = found.interval
    assert low <= found.value <= high


def test_chat_turns_and_a_beginning_are_put_as_elsewhere(nano):
    (found,) = abilities(nano, ["ioi"], n=8, bos=False)
    pairs = tasks.get("ioi").pairs(nano.tokenizer, n=8, bos=False)
    batch = Batch.of(nano, pairs)
    value = METRICS[pairs.metric](nano.run(batch.clean, batch.mask), pairs).mean().item()
    assert found.value == pytest.approx(value, abs=1e-5)
    with pytest.raises(TaskError) as caught:
        tasks.get("ioi").pairs(nano.tokenizer, n=2, chat="plain")
    command = ["tasks", "ioi", "--model", "nano", "--n", "2"]
    done = CliRunner().invoke(app, [*command, "--chat-plain", "--json"])
    assert json.loads(done.stdout)[0]["refused"] == str(caught.value)
    done = CliRunner().invoke(app, [*command, "--chat"])
    assert (done.exit_code, "no chat template" in done.stderr) == (2, True)


def test_a_task_with_few_prompts_is_asked_with_as_many_as_it_has(nano):
    (found,) = abilities(nano, ["sva"], n=16)
    assert found.n == 8
    with pytest.raises(TaskError, match="8 of"):
        tasks.get("sva").pairs(nano.tokenizer, n=16)


def test_a_task_that_cannot_be_asked_says_why(nano):
    first, second = abilities(nano, ["docstring", "ioi"], n=4)
    assert (first.n, first.value) == (0, None)
    assert "words that it does not know" in first.refused
    assert second.right == 1.0
    (without,) = abilities(opened("gpt2"), ["ioi"], n=4)
    assert "this model has no tokenizer" in without.refused


@pytest.mark.parametrize("options", [{"n": 1}, {"seed": -1}, {"batch_size": 0}])
def test_numbers_that_cannot_be_meant_are_refused(nano, options):
    with pytest.raises(MethodError, match="give at least"):
        list(abilities(nano, ["ioi"], **options))


def test_the_command_prints_a_table_or_json(nano):
    command = ["tasks", "ioi", "docstring", "--model", "nano", "--n", "6"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "100%" in done.stdout
    assert "cannot be asked: task docstring" in done.stdout
    listed = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    (found,) = abilities(nano, ["ioi"], n=6)
    assert listed[0] == json.loads(json.dumps(found.to_json()))
    assert [row["task"] for row in listed] == ["ioi", "docstring"]


def test_a_misspelt_task_is_refused_before_a_model_is_opened():
    done = CliRunner().invoke(app, ["tasks", "iou", "--model", "no/such/model/here"])
    assert done.exit_code == 2
    done = CliRunner().invoke(app, ["tasks", "iou", "--model", "nano"])
    assert (done.exit_code, "did you mean 'ioi'" in done.stderr) == (2, True)
    done = CliRunner().invoke(app, ["tasks", "ioi"])
    assert (done.exit_code, "--model nano" in done.stderr) == (2, True)
