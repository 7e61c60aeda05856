"""Scores of latents: they sum to the site, and the exact ones are what their definition says."""

import numpy as np
import pytest
import torch

from patching.dictionaries.latents import latent_scores
from patching.dictionaries.readings import point_of, value_at
from patching.forward import Record, Write
from patching.metrics import check_metric
from patching.runs import Batch
from patching.scoring import score
from tasks.errors import FormatError, MethodError, SiteError
from tests import families
from tests.patching.dictionaries.build import dictionary

METHODS = (
    "attribution",
    "ig:steps=2",
    "ig:on=activations+steps=2",
    "relevance",
    "secant",
    "ensemble",
)
KINDS = ("relu", "jumprelu", "gated")


@pytest.fixture(params=["gpt2", "gemma3", "gpt_neox"], scope="module")
def model(request):
    return families.opened(request.param)


@pytest.mark.parametrize(
    ("method", "kind"),
    [*((method, "topk") for method in METHODS), *(("secant", kind) for kind in KINDS)],
)
def test_latents_and_error_sum_to_the_site(model, pairs, method, kind, direction):
    given = [dictionary("resid_post.0", kind), dictionary("attn_out.1", kind, seed=1)]
    found = latent_scores(model, pairs, given, method, direction)
    for place in ("resid_post.0", "attn_out.1"):
        parts = sum(found[name] for name in found if name.startswith(place))
        whole = score(model, pairs, method, "site", direction, sites=place.split(".")[0])[place]
        assert parts == pytest.approx(whole, abs=1e-9)


def test_secants_of_a_complete_cut_sum_to_the_whole_difference(model, pairs):
    found = latent_scores(model, pairs, [dictionary("resid_post.0", "topk")], "secant")
    assert found.values.sum() == pytest.approx(found.total_effect, abs=1e-9)


@pytest.mark.parametrize("scaling", ["constant_norm_rescale", "layer_norm"])
def test_scaling_at_run_time_keeps_the_sums(model, pairs, scaling):
    given = [dictionary("resid_post.0", "relu", scaling=scaling)]
    found = latent_scores(model, pairs, given, "secant")
    assert found.values.sum() == pytest.approx(found.total_effect, abs=1e-9)


@pytest.mark.parametrize("reads", ["mlp_in.1", "mlp_scaled.1", "mlp_normed.1"])
def test_a_transcoder_takes_the_mlp_apart(model, pairs, reads):
    given = dictionary("mlp_out.1", reads=reads, skip=True)
    found = latent_scores(model, pairs, [given], "secant")
    whole = score(model, pairs, "secant", "node")["m1"]
    assert found.values.sum() == pytest.approx(whole, abs=1e-9)
    assert "m1.err" in found
    assert any(name.startswith("m1.f") for name in found)


def test_heads_side_by_side_are_a_place(model, pairs):
    anatomy = model.anatomy
    given = dictionary("z.0", width=anatomy.n_heads * anatomy.d_head)
    found = latent_scores(model, pairs, [given], "secant")
    whole = score(model, pairs, "secant", "site", sites="z")
    heads = sum(whole[name] for name in whole if name.startswith("a0."))
    assert found.values.sum() == pytest.approx(heads, abs=1e-9)


def patched_metric(model, batch, direction, given, change):
    """The metric of the receiving run with something taken off at a dictionary's place."""
    metric = check_metric("logit_diff")
    run = "clean" if direction == "noising" else "corrupted"
    put = Write({point_of(given.writes): lambda value: value - change})
    with torch.no_grad():
        return metric(model.run(batch.tokens(run), batch.mask, put), batch.pairs)


def test_exact_scores_are_their_definition(model, pairs, direction):
    given, batch = dictionary("resid_post.0", "topk", latents=12), Batch.of(model, pairs)
    found = latent_scores(model, pairs, [given], "activation", direction)
    runs = {}
    for run in ("clean", "corrupted"):
        record = Record(("resid_post",))
        with torch.no_grad():
            model.run(batch.tokens(run), batch.mask, record)
        runs[run] = value_at(model, given.writes, record.values)
    amounts = given.amounts(runs["clean"]) - given.amounts(runs["corrupted"])
    sign = 1 if direction == "noising" else -1
    base = patched_metric(model, batch, direction, given, 0.0)
    for name in found:
        if name.endswith(".err"):
            change = runs["clean"] - runs["corrupted"] - amounts @ given.W_dec
        else:
            j = int(name.rpartition("f")[2])
            change = amounts[..., j, None] * given.W_dec[j]
        patched = patched_metric(model, batch, direction, given, sign * change)
        assert found[name] == pytest.approx(float((sign * (base - patched)).mean()), abs=1e-9)


def test_batches_change_nothing(model, pairs):
    given = [dictionary("resid_post.0", "jumprelu")]
    one = latent_scores(model, pairs, given, batch_size=2)
    whole = latent_scores(model, pairs, given)
    assert one.names == whole.names
    np.testing.assert_allclose(one.values, whole.values, atol=1e-9)


def test_named_latents_alone_are_scored_alike(model, pairs):
    given = [dictionary("resid_post.0")]
    every = latent_scores(model, pairs, given, "activation")
    wanted = [every.ranked()[0], "resid_post.0.err"]
    some = latent_scores(model, pairs, given, "activation", only=wanted)
    assert set(some) == set(wanted)
    assert all(some[name] == pytest.approx(every[name], abs=1e-12) for name in wanted)


def test_what_does_not_fit_is_refused_by_name(model, pairs):
    with pytest.raises(SiteError, match="width 16, and this model has 32"):
        latent_scores(model, pairs, [dictionary(width=16)])
    with pytest.raises(SiteError, match="layers are 0 to 1"):
        latent_scores(model, pairs, [dictionary("resid_post.7")])
    with pytest.raises(FormatError, match="two dictionaries"):
        latent_scores(model, pairs, [dictionary(), dictionary(seed=1)])
    with pytest.raises(SiteError, match=r"no dictionary has 'resid_post\.0\.f99'"):
        latent_scores(model, pairs, [dictionary()], only=["resid_post.0.f99"])
    with pytest.raises(MethodError, match="unknown method"):
        latent_scores(model, pairs, [dictionary()], "magic")
