"""Edits and computations of several threads: right, waiting or refused, never silently wrong."""

import os
import random
import threading
import time
import warnings
from contextlib import ExitStack

import pytest
import torch

from circuits.edits import edit as e
from circuits.edits.live import editing
from circuits.edits.plan import EditPlan
from patching.loading import digest
from patching.model import Model
from patching.scoring import score
from tasks.errors import CircuitsError, EditError
from tests.families import build, make_pairs

EDITS = {
    "none": (),
    "head": (e.scale("a0.h1", -0.5),),
    "neurons": (e.scale("m0.n2", 0.0), e.add("m1.n3", {"#5": -1.0})),
    "both": (e.scale("a1.h0", 2.0), e.scale("m0.n4", 0.5)),
}


@pytest.fixture
def model():
    return Model.open(build("llama"), dtype=torch.float64)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


def bits(model):
    return {name: value.clone() for name, value in model.hf.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def logits(model, pairs):
    """Of the model as it stands."""
    return model.run(torch.tensor(pairs.clean[:2]), torch.tensor(pairs.mask[:2]))


def scores(model, pairs):
    """Of the model as it stands, with a backward pass."""
    return torch.tensor(score(model, pairs[:2], "attribution", "node").values)


def in_thread(work):
    """What another thread's work gives, or raises."""
    came = []

    def run():
        try:
            came.append(work())
        except CircuitsError as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return came[0]


def test_of_2000_calls_over_two_threads_all_are_right_or_refused(model, pairs):
    before, wanted = bits(model), {}
    for name, edits in EDITS.items():
        with editing(model, edits):
            wanted[name] = logits(model, pairs), scores(model, pairs), model.hash
    assert len({value[2] for value in wanted.values()}) == len(EDITS)
    counts, faults = {"right": 0, "refused": 0}, []
    together = threading.Barrier(2)

    def call(draw):
        """One call: with an edit of its own, or with none."""
        name, slow = draw.choice([*EDITS, "none", "none"]), draw.random() < 0.1
        with editing(model, EDITS[name]):
            if draw.random() < 0.5:
                time.sleep(draw.random() / 2000)
            found = (scores if slow else logits)(model, pairs)
            named = model.hash
        if not torch.allclose(found, wanted[name][slow], rtol=1e-9) or named != wanted[name][2]:
            faults.append(name)

    def work(seed):
        draw = random.Random(seed)
        together.wait()
        for i in range(1000):
            # An edit may wait for a computation that waits for it: one of both gives up.
            model.patience = draw.choice([0.0, 0.002, 0.02])
            try:
                call(draw)
                counts["right"] += 1
            except EditError:
                counts["refused"] += 1
            if i % 100 == 0:
                together.wait(60)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert same(bits(model), before)
    assert model.hash == wanted["none"][2]
    assert sum(counts.values()) == 2000
    assert counts["right"] > 500
    assert counts["refused"] > 20


def test_another_thread_is_refused_while_weights_are_edited(model, pairs):
    for work in (
        lambda: score(model, pairs),
        lambda: model.hash,
        lambda: editing(model, EDITS["head"]).__enter__(),
        lambda: model.run(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool)),
    ):
        with editing(model, EDITS["neurons"]):
            fault = in_thread(work)
        assert isinstance(fault, EditError)
        assert "Model.patience" in str(fault)


def test_an_edit_is_refused_while_another_thread_computes(model, pairs):
    def progress(done, total, what):
        del done, total, what
        faults.append(in_thread(lambda: editing(model, EDITS["head"]).__enter__()))

    faults = []
    with model.reading():
        progress(0, 0, "")
        with pytest.raises(EditError, match="in the middle of a computation"):
            editing(model, EDITS["head"]).__enter__()
    assert "another thread computes with this model" in str(faults[0])
    with editing(model, EDITS["head"]):
        assert score(model, pairs)


def test_a_patient_thread_waits_for_the_edit_to_end(model, pairs):
    model.patience = float("inf")
    entered, wanted = threading.Event(), scores(model, pairs)

    def hold():
        with editing(model, EDITS["both"]):
            entered.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    assert torch.equal(scores(model, pairs), wanted)
    thread.join()


def test_edits_of_activations_alone_need_no_lock(model, pairs):
    with editing(model, e.steer("resid_post.0", [1.0] * 32)):
        assert not isinstance(in_thread(lambda: score(model, pairs)), EditError)
        assert not isinstance(in_thread(lambda: model.hash), EditError)


@pytest.mark.parametrize("error", [None, KeyError])
def test_edits_that_are_closed_out_of_order_are_refused_and_leave_every_bit(model, error):
    before = bits(model)
    first, second = (editing(model, EDITS[name]) for name in ("head", "neurons"))
    first.__enter__()
    second.__enter__()
    within = bits(model)
    with pytest.raises(EditError, match="in the reverse order"):
        first.__exit__(error, error and error(), None)
    assert same(bits(model), within), "the later edit keeps what it was made on"
    second.__exit__(None, None, None)
    assert same(bits(model), before)
    with editing(model, EDITS["head"]):
        pass
    assert same(bits(model), before)


def test_nested_edits_end_in_order_and_the_same_place_may_be_edited_twice(model):
    before = bits(model)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(editing(model, EDITS["head"]))
    assert same(bits(model), before)


def test_the_hash_is_that_of_the_weights_in_force(model):
    outside = model.hash
    with editing(model, EDITS["head"]):
        inside = model.hash
        assert inside == digest(model.hf) != outside
        with editing(model, EDITS["neurons"]):
            assert model.hash not in (inside, outside)
        assert model.hash == inside
    assert model.hash == outside == digest(model.hf)
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[3] += 1
    changed = model.hash
    assert changed == digest(model.hf) != outside
    with editing(model, EDITS["head"]):
        pass
    assert model.hash == changed


def test_weights_changed_by_hand_and_edited_before_anybody_asks_have_their_own_hash(model):
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[3] += 1
    with editing(model, EDITS["head"]):
        pass
    assert model.hash == digest(model.hf)


def test_what_is_recorded_under_an_edit_names_the_weights_in_force(model, pairs):
    plan = EditPlan(model=model.hash, basis="raw", edits=EDITS["head"])
    with editing(model, EDITS["neurons"]):
        assert score(model, pairs).model_hash == model.hash != plan.model
        with pytest.raises(EditError, match="the plan is for model"), plan.applied(model):
            pass
    with plan.applied(model):
        pass


def test_a_forked_process_with_several_threads_is_warned(model, monkeypatch):
    tokens = torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool)
    mine = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: mine + 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.warns(RuntimeWarning, match="forked"):
        model.run(*tokens)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.run(*tokens)
