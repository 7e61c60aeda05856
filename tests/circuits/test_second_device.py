"""Whole studies on another device: nothing is forgotten on the CPU, and the same is found."""

import json
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.edits import edit as e
from circuits.edits.live import editing
from circuits.held_out.evaluation import evaluate_held_out
from circuits.models import computing_on
from circuits.studies.bias.mitigate import find_mitigation
from circuits.studies.bias.report import report_card
from circuits.studies.bias.settings import Settings as Search
from circuits.studies.emotion.pipeline import study
from patching.model import Model
from tests import families, tiny_emotion
from tests.known import interchange
from tests.second_device import second_device

VECTOR = tuple(float(i % 5) - 1.7 for i in range(32))
EDITS = {
    "add": e.add("m1.n3", {"#5": -1.0, "#7": 0.5}),
    "project": e.project("m1.n3", VECTOR),
    "scale head": e.scale("a0.h1", -0.5),
    "swap": e.swap_attention("a1.h2", "X", "END"),
    "steer": e.steer("resid_post.0@X", VECTOR),
    "clamp": e.clamp("resid_pre.1", VECTOR, low=-0.1, high=0.1),
    "affine": e.affine("attn_out.1", offset=VECTOR),
}


@cache
def nano():
    with second_device() as device, computing_on(device):
        return circuits.load_model("nano")


@cache
def pairs(task="ioi"):
    return circuits.load_task(task).pairs(nano().tokenizer, n=12, seed=0)


@pytest.mark.parametrize("select", ["top", "iterated", "bootstrap"])
def test_circuits_are_found_and_tested_there(select):
    def found(model):
        graph = circuits.discover(pairs(), model, select=select)
        tested = circuits.evaluate(graph, model, pairs(), ablation="mean")
        return [len(graph.ranked()), tested.circuit]

    expected = found(circuits.load_model("nano"))
    with second_device():
        np.testing.assert_allclose(found(nano()), expected, rtol=1e-4)


def test_circuits_are_examined_there():
    def faithfulness(model):
        some, others = interchange.pairs(12), interchange.pairs(20, 2)
        scores = circuits.score(model, some)
        graph = circuits.discover(some, model, top=8)
        curve = evaluate_held_out(graph, scores, model, others).curves[0]
        return curve.to_frame()["faithfulness"]

    expected = faithfulness(interchange.opened())
    with second_device() as device:
        there = Model.open(interchange.SHIPPED, device=device)
        np.testing.assert_allclose(faithfulness(there), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", EDITS)
def test_edits_act_there(name):
    def logits(model):
        with editing(model, EDITS[name]) as edited:
            return edited.logits(families.make_pairs()).cpu()

    expected = logits(families.opened("llama"))
    with second_device() as device:
        there = Model.open(families.build("llama"), device=device)
        np.testing.assert_allclose(logits(there), expected, rtol=0, atol=1e-5)


def test_a_concept_is_studied_there():
    with second_device() as device:
        model = Model.open(families.build("gpt2"), tokenizer=tiny_emotion.Letters(), device=device)
        found = study(model, tiny_emotion.concept(), tiny_emotion.settings())
    expected = {trial.name: trial.share.value for trial in tiny_emotion.found().trials}
    assert {trial.name: trial.share.value for trial in found.trials} == expected


def test_a_bias_is_mitigated_there():
    recipes = ("least squares", "unibias", "unibias heads")
    with second_device():
        found = find_mitigation(nano(), Search(train=4, test=4, others=4, recipes=recipes))
        assert report_card(nano(), found).to_frame().shape[0] > 1


@pytest.mark.parametrize(
    "look",
    [
        lambda model: circuits.af1(model, "mental_math", n=16, samples=8),
        lambda model: circuits.localise_bias(model, pairs("mcq_bias")),
        lambda model: circuits.validate(model, pairs(), kinds=["z", "q"]),
    ],
    ids=["af1", "localise_bias", "validate"],
)
def test_a_model_is_looked_into_there(look):
    with second_device():
        assert look(nano()).to_frame().size


def test_the_command_line_computes_there():
    arguments = ["ablate", "ioi", "m0", "--n", "8", "--json"]
    near = CliRunner().invoke(app, arguments)
    with second_device() as device:
        far = CliRunner().invoke(app, [*arguments, "--device", device])
    assert far.exit_code == 0, far.output
    assert json.loads(far.stdout)["effect"] == pytest.approx(json.loads(near.stdout)["effect"])


def test_outside_the_block_models_are_on_the_cpu_again():
    with second_device() as device, computing_on(device):
        pass
    assert circuits.load_model("nano").device.type == "cpu"


@pytest.mark.parametrize("command", ["discover", "ablate", "validate", "means", "af1", "mitigate"])
def test_a_device_that_is_not_there_is_refused_by_every_command(command):
    task = {"mitigate": "mcq_bias", "af1": "mental_math"}.get(command, "ioi")
    done = CliRunner().invoke(app, [command, task, "--device", "cuda:7"])
    assert done.exit_code == 2
    assert "torch sees no device 'cuda:7'" in done.stderr
