"""Trainings: repeatable, resumable, honest about their pairs, refused where they are senseless."""

import numpy as np
import pytest
import torch

from patching.journal import Journal
from patching.learned.inputs import inputs_of
from patching.learned.losses import Loss
from patching.learned.training import Training, split
from patching.metrics import check_metric
from patching.nodes.layout import layout_of
from patching.scoring import prompt_scores, score
from patching.sweep import Sweep
from tasks.errors import MethodError
from tests import families

HOW = {"steps": 12, "batch": 4}


@pytest.fixture(scope="module")
def many():
    """Enough pairs for some to be held out."""
    return families.make_pairs(12)


@pytest.mark.parametrize("how", [{}, {"level": "node"}, {"nodes": "neurons", "level": "node"}])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(gpt2, many, how):
    one, other = (score(gpt2, many, "learned", **HOW, **how) for _ in range(2))
    np.testing.assert_array_equal(one.values, other.values)
    another = score(gpt2, many, "learned", **HOW, **how, seed=1)
    assert not np.array_equal(one.values, another.values)
    assert one.values.min() > 0
    assert one.values.max() < 1


@pytest.mark.parametrize(
    "how",
    [
        {"masks": "hard_concrete"},
        {"masks": "uniform_window"},
        {"coin": 0.5},
        {"loss": "kl"},
        {"loss": "accuracy"},
        {"loss": "logit_diff"},
        {"budgets": "uniform"},
    ],
)
def test_every_option_changes_what_is_learned(gpt2, many, how):
    plain = score(gpt2, many, "learned", **HOW)
    other = score(gpt2, many, "learned", **HOW, **how)
    assert np.isfinite(other.values).all()
    assert not np.array_equal(plain.order(), other.order())


def test_directions_are_alike(gpt2, many):
    there, back = (
        score(gpt2, many, "learned", direction=d, **HOW) for d in ("noising", "denoising")
    )
    np.testing.assert_array_equal(there.values, back.values)


def test_a_training_lowers_its_loss(many):
    model = families.opened("gpt2")
    found = score(model, many, "learned", steps=96, batch=8)
    losses = found.options["held_out_losses"]
    assert min(losses) < 0.9 * losses[0]


def test_the_result_says_what_it_was_trained_on(gpt2, many):
    found = score(gpt2, many, "learned", **HOW)
    told = found.options
    assert told["trained_on"] == many.digest
    assert told["pairs_learned"] + told["pairs_held_out"] == len(many)
    assert told["steps_done"] <= 12
    assert found.completeness_error is None
    with pytest.raises(MethodError, match="do not add up"):
        found + found


def test_rows_of_a_prompt_stay_together_and_few_pairs_are_all_used():
    learned, held = split(np.repeat(np.arange(20), 3), seed=0)
    assert len(held) == 12
    assert not set(learned) & set(held)
    assert all(set(range(3 * (row // 3), 3 * (row // 3) + 3)) <= set(held) for row in held)
    assert len(split(np.arange(7), seed=0)[1]) == 0


def test_a_killed_training_ends_with_the_same_bits(gpt2, many, tmp_path, monkeypatch):
    whole = score(gpt2, many, "learned", **HOW).values
    path, plain = tmp_path / "journal", Training._step

    def dying(self, relaxed, numbers, step):
        if step == 7:
            raise KeyboardInterrupt
        return plain(self, relaxed, numbers, step)

    monkeypatch.setattr(Training, "_step", dying)
    journal = Journal(path, "a training")
    with pytest.raises(KeyboardInterrupt):
        score(gpt2, many, "learned", batch_size=Sweep(journal=journal), **HOW)
    journal.close(done=False)
    done = []

    def counting(self, relaxed, numbers, step):
        done.append(step)
        return plain(self, relaxed, numbers, step)

    monkeypatch.setattr(Training, "_step", counting)
    journal = Journal(path, "a training")
    again = score(gpt2, many, "learned", batch_size=Sweep(journal=journal), **HOW)
    journal.close(done=True)
    np.testing.assert_array_equal(again.values, whole)
    assert done[0] == 7


def test_parts_of_a_batch_give_the_slopes_of_the_whole(gpt2, many, monkeypatch):
    whole = score(gpt2, many, "learned", **HOW).values
    monkeypatch.setattr("patching.learned.training.STACK_BYTES", 1)
    parts = score(gpt2, many, "learned", **HOW).values
    # Sums of a batch in another order, in float64, through 12 steps of Adam.
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_few_candidates_are_the_strongest_and_the_rest_follows_by_secant(gpt2, many):
    found = score(gpt2, many, "learned", candidates=0.2, **HOW)
    cheap = score(gpt2, many, "secant").order()
    count = found.options["candidates_trained"]
    assert count == round(0.2 * len(found))
    assert found.options["training_decides"] <= count
    order = found.order()
    assert set(order[:count]) == set(cheap[:count])
    np.testing.assert_array_equal(order[count:], cheap[count:])


def test_losses_are_what_they_say(gpt2, pairs):
    metric = check_metric("logit_diff")
    inputs = inputs_of(gpt2, pairs, layout_of(gpt2.anatomy), metric, logits=True)
    logits = torch.randn(len(pairs), gpt2.vocabulary_size, dtype=torch.float64)
    value = metric(logits, pairs)
    for keep, wanted, sign in ((True, inputs.full, -1), (False, inputs.empty, 1)):
        found = {
            name: Loss(name, metric, 2.0)(logits, inputs, keep)
            for name in ("match", "logit_diff", "accuracy", "kl")
        }
        assert torch.allclose(found["match"], (value - wanted) ** 2 / 4)
        assert torch.allclose(found["logit_diff"], sign * value)
        assert torch.allclose(found["accuracy"], 1 / (1 + (-sign * value).exp()))
        whole = inputs.log_full if keep else inputs.log_empty
        kl = torch.nn.functional.kl_div(
            logits.log_softmax(-1), whole, log_target=True, reduction="none"
        )
        assert torch.allclose(found["kl"], kl.sum(-1))


REFUSED = [
    (
        {"loss": "accuracy", "metric": "log_prob"},
        "the loss 'accuracy' is made of the metric logit_d",
    ),
    ({"loss": "logit_diff", "metric": "prob_diff"}, "take loss=match"),
    ({"level": "site", "sites": "z"}, "does not say what one does alone"),
    ({"positions": "named"}, "over all positions"),
    ({"steps": 0, "temperature": 0.0}, "steps is 0; give at least 1\n.*temperature is 0.0"),
    ({"coin": 1.5}, "coin is 1.5; give a share between 0 and 1"),
    ({"keep": 0.0}, "keep is 0.0"),
    ({"loss": "mach"}, "did you mean 'match'"),
]


@pytest.mark.parametrize(("how", "said"), REFUSED)
def test_what_cannot_be_learned_is_refused_before_anything_is_computed(
    gpt2, pairs, how, said, monkeypatch
):
    monkeypatch.setattr("patching.learned.learn.learned", None)
    with pytest.raises(MethodError, match=said):
        score(gpt2, pairs, "learned", **how)


def test_single_prompts_have_no_learned_scores(gpt2, pairs):
    with pytest.raises(MethodError, match="a score of every single prompt"):
        prompt_scores(gpt2, pairs, "learned")


def test_pairs_whose_two_runs_agree_teach_nothing(gpt2, pairs):
    with pytest.raises(MethodError, match="the same in the clean and the corrupted run"):
        score(gpt2, pairs, "learned", metric=lambda logits, _: logits[:, 0] * 0, steps=2)
