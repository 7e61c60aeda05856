"""Steering by a latent in three ways, against runs with the edit written by hand."""

import math

import pytest
import torch

import circuits
from circuits.dictionaries.steering import steer_latent
from circuits.dictionaries.text import text_rows
from patching.metrics import check_metric
from patching.runs import Batch
from patching.text_loss import text_loss
from tasks.errors import MethodError, SiteError
from tests.patching.dictionaries.build import dictionary


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def sae():
    return dictionary("resid_post.1", "topk", 128, 40, dtype=torch.float32)


@pytest.fixture(scope="module")
def found(nano, sae):
    return steer_latent(
        nano, "resid_post.1.f3", "ioi", [sae], strengths=[-3, 3], n=6, tokens=300, batch_size=4
    )


def test_every_tier_at_every_strength(found):
    assert [(p.where, p.strength) for p in found.points] == [
        (where, strength) for where in ("always", "text", "token") for strength in (-3, 3)
    ]
    assert found.plain.touched == 0
    touched = {p.where: p.touched for p in found.points}
    assert 0 < touched["token"] <= touched["text"] <= touched["always"] == 1


def test_always_adds_the_direction_everywhere(nano, sae, found):
    pairs = circuits.load_task("ioi").pairs(nano.tokenizer, n=6, seed=0, split="test")
    toward = 3 * found.mean * sae.W_dec[3]
    batch = Batch.of(nano, pairs)

    def tap(kind, layer, value):
        return value + toward if (kind, layer) == ("resid_post", 1) else value

    with torch.no_grad():
        logits = nano.run(batch.clean, batch.mask, tap)
    metric = check_metric("logit_diff")(logits, pairs).mean()
    (point,) = (p for p in found.points if (p.where, p.strength) == ("always", 3))
    assert point.metric == pytest.approx(float(metric), abs=1e-4)
    losses, count = 0.0, 0
    for row in text_rows(nano, "tasks", 300, 0):
        ids = torch.tensor([row])
        loss, tokens = text_loss(nano, ids, torch.ones_like(ids, dtype=torch.bool), tap)
        losses, count = losses + loss, count + tokens
    assert point.perplexity == pytest.approx(math.exp(losses / count), rel=1e-4)
    assert found.tokens == count
    assert point.perplexity != pytest.approx(found.plain.perplexity, rel=1e-4)


def test_what_cannot_be_steered_is_refused(nano, sae):
    for strengths in ([], [0.0], [float("nan")]):
        with pytest.raises(MethodError, match="strengths are"):
            steer_latent(nano, "resid_post.1.f3", "ioi", [sae], strengths=strengths)
    with pytest.raises(SiteError, match="there is no latent"):
        steer_latent(nano, "resid_post.1.f99", "ioi", [sae])


def test_it_prints_and_tabulates(found):
    assert "strength" in found.report().text()
    assert len(found.to_frame()) == 7
    assert found.to_json()["plain"]["right"]["n"] == 6
