"""Arguments of another kind than is wanted: one sentence that says what to give instead."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import circuits
from tasks.errors import CircuitsError, EditError, FormatError, ModelError, SiteError, TaskError
from tests.known import interchange


@pytest.fixture(scope="module")
def model():
    return interchange.opened()


@pytest.fixture(scope="module")
def pairs():
    return interchange.pairs(4)


@pytest.fixture(scope="module")
def graph(model, pairs):
    return circuits.discover(pairs, model=model, top=10)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (
            lambda m, p, g: circuits.evaluate(g, "nano", p),
            ModelError,
            "model is the text 'nano'; op",
        ),
        (
            lambda m, p, g: circuits.evaluate(g, m, "ioi"),
            TaskError,
            "pairs is the text 'ioi'; make",
        ),
        (
            lambda m, p, g: circuits.evaluate(None, m, p),
            FormatError,
            "graph is None; circuits.disc",
        ),
        (
            lambda m, p, g: circuits.evaluate(m, g, p),
            CircuitsError,
            "(?s)graph is of the kind Model;.*model is of the kind CircuitGraph;",
        ),
        (lambda m, p, g: circuits.ablate("nano", p, "m0"), ModelError, "model is the text 'nano'"),
        (lambda m, p, g: circuits.ablate(m, p, [3]), SiteError, "3 is no part of a model; name"),
        (lambda m, p, g: circuits.discover(7, model=m), TaskError, "pairs is of the kind int"),
        (lambda m, p, g: circuits.discover(p, model=m, n=9), TaskError, "n is 9, and there are 4"),
        (lambda m, p, g: circuits.discover("nano", model=m), TaskError, "'nano' is a model, not a"),
        (lambda m, p, g: circuits.af1("ioi", "nano"), ModelError, "'ioi' is a task, not a model"),
        (lambda m, p, g: circuits.af1(m, None), TaskError, "pairs is None"),
        (lambda m, p, g: circuits.probe("nano", ["a"], ["b"]), ModelError, "the text 'nano'"),
        (lambda m, p, g: circuits.localise_bias(m, "ioi"), TaskError, "pairs is the text 'ioi'"),
        (
            lambda m, p, g: circuits.load_model(None),
            ModelError,
            "the model is None; models are nano",
        ),
        (lambda m, p, g: circuits.load_model(7), ModelError, "the model is of the kind int"),
        (
            lambda m, p, g: circuits.load_model(m, device="cpu"),
            ModelError,
            "this model is open already and takes no device",
        ),
        (lambda m, p, g: circuits.load_task(7), TaskError, "by a text such as 'ioi', given 7"),
        (lambda m, p, g: circuits.remove(3), EditError, "3 is no circuit and no site's name"),
        (lambda m, p, g: circuits.keep("a3.h0"), EditError, "'a3.h0' is no circuit"),
        (lambda m, p, g: circuits.scale("m0", "x"), EditError, "'m0' cannot be scaled by 'x'"),
        (
            lambda m, p, g: circuits.editing(m, ["m0"]).__enter__(),
            EditError,
            "edit 0 is 'm0', which is no edit; make edits with circuits.scale",
        ),
        (lambda m, p, g: circuits.editing(m, "m0").__enter__(), EditError, "edit 0 is 'm0'"),
        (lambda m, p, g: circuits.editing("nano", ()).__enter__(), ModelError, "text 'nano'"),
    ],
)
def test_what_is_wrong_and_what_to_give(model, pairs, graph, call, error, told):
    with pytest.raises(error, match=told):
        call(model, pairs, graph)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n": "8"}, "n is '8'; give a whole number of at least 1"),
        ({"n": 2.0}, "n is 2.0; give a whole number"),
        ({"seed": None}, "seed is None; give a whole number of at least 0"),
        ({"batch_size": 2.5, "top": "x"}, "(?s)top is 'x'.*batch size is 2.5"),
    ],
)
def test_numbers_that_are_none(model, given, told):
    with pytest.raises(CircuitsError, match=told):
        circuits.discover("ioi", model=model, **given)


def test_numbers_paths_and_devices_of_other_libraries_are_taken(model, pairs):
    import torch

    three = circuits.discover(pairs, model=model, top=np.int64(3), n=np.int32(4))
    assert three == circuits.discover(pairs, model=model, top=3, n=4)
    folder = circuits.load_model(Path(circuits.load_model("nano").path), device=torch.device("cpu"))
    assert folder.hash == circuits.load_model("nano").hash


def test_a_task_itself_may_be_given_as_well_as_its_name():
    model, task = circuits.load_model("nano"), circuits.load_task("ioi")
    by_task = circuits.discover(task, model=model, n=4, top=5)
    assert by_task.edges == circuits.discover("ioi", model=model, n=4, top=5).edges


def test_long_values_are_counted_not_shown(graph):
    kept = circuits.keep(graph)
    assert repr(kept) == (
        f"Circuit(kind='circuit', edges=<{len(graph.edges)} values>, keep=True, factor=1.0, "
        f"ablation='corrupted')"
    )
    assert pickle.loads(pickle.dumps(kept)) == kept
