"""Edges between latents: what they sum to, and single ones against one backward pass each."""

import pytest
import torch

from patching.dictionaries.latent_edges import latent_edges
from patching.dictionaries.latents import latent_scores
from patching.runs import Batch, record
from patching.secant import SecantOps
from tasks.errors import SiteError
from tests import families
from tests.patching.dictionaries.build import dictionary

SOME = ("gpt2", "llama", "gemma3", "gpt_neox")


def two(kind, places=("resid_post.0", "resid_post.1")):
    return [dictionary(places[0], kind), dictionary(places[1], kind, seed=5)]


def every(dictionaries):
    return [each.latent(j) for each in dictionaries for j in range(each.n_latents)]


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "gated"])
@pytest.mark.parametrize("family", SOME)
def test_edges_into_a_latent_sum_to_its_score(family, kind):
    model, pairs = families.opened(family), families.make_pairs()
    given = two(kind)
    found = latent_edges(model, pairs, given, every(given))
    scores = latent_scores(model, pairs, given, "secant")
    into = dict.fromkeys(found.scores, 0.0)
    for (_, receiver), value in found.edges.items():
        into[receiver] += value
    for name, score in found.scores.items():
        # The stream of a layer is a complete cut: all of it is in latents and error.
        assert found.rest[name] == pytest.approx(0, abs=1e-7)
        assert into[name] + found.selection[name] == pytest.approx(score, abs=1e-7)
        if name != "logits":
            # What differs by rounding alone has no score of its own.
            known = scores[name] if name in set(scores) else 0.0
            assert score == pytest.approx(known, abs=1e-7)
    assert found.scores["logits"] == pytest.approx(scores.total_effect, abs=1e-7)
    if kind == "relu":
        assert max(map(abs, found.selection.values())) < 1e-9
    else:
        assert max(map(abs, found.selection.values())) > 1e-3


def test_no_edge_goes_past_a_complete_cut(gpt2, pairs):
    given = two("relu")
    found = latent_edges(gpt2, pairs, given, every(given))
    first = [
        value for (a, b), value in found.edges.items() if a[:12] == "resid_post.0" and b == "logits"
    ]
    assert max(map(abs, first), default=0) < 1e-12
    assert ("input", "resid_post.1.f0") not in found.edges


def test_an_edge_is_one_backward_pass(gpt2, pairs):
    """Sender's change, times the gradient of the receiver's input at the sender's place."""
    given, one = two("relu"), pairs[1:2]
    found = latent_edges(gpt2, one, given, every(given))
    batch = Batch.of(gpt2, one)
    inside = batch.mask[0]
    runs = [
        record(gpt2, batch, run, (*SecantOps.needs, "resid_post"))[1]
        for run in ("clean", "corrupted")
    ]
    (first, second), leaf, seen = given, [], {}

    def tap(kind, layer, value):
        if (kind, layer) == ("resid_post", 0):
            leaf.append(value.detach().requires_grad_())
            return leaf[0]
        if (kind, layer) == ("resid_post", 1):
            seen["x"] = value
        return value

    with torch.enable_grad():
        gpt2.run(batch.clean, batch.mask, tap, SecantOps(runs[1]))
    change = first.amounts(runs[0]["resid_post", 0]) - first.amounts(runs[1]["resid_post", 0])
    scores = latent_scores(gpt2, one, given, "secant")
    amounts = [second.amounts(run["resid_post", 1]) for run in runs]
    strongest = max(
        (
            (v, a, b)
            for (a, b), v in found.edges.items()
            if a[:12] != b[:12] and ".f" in a and ".f" in b
        ),
        key=lambda item: abs(item[0]),
    )
    j, u = (int(name.split(".f")[1]) for name in (strongest[2], strongest[1]))
    pre = [second.pre(run["resid_post", 1])[..., j] for run in runs]
    h = _gradient(gpt2, one, second, j, scores)
    total = 0.0
    for at in torch.nonzero(inside)[:, 0].tolist():
        dp, df = float((pre[0] - pre[1])[0, at]), float((amounts[0] - amounts[1])[0, at, j])
        if df == 0:
            continue
        target = seen["x"][0, at] @ second.W_enc[:, j]
        (g,) = torch.autograd.grad(target, leaf, retain_graph=True)
        effect = (change[0, :, u] * (g[0] @ first.W_dec[u])).sum()
        total += float(effect) * df / dp * float(h[at])
    assert total == pytest.approx(strongest[0], abs=1e-8)


def _gradient(model, pairs, dictionary, j, scores):
    """The metric's gradient along a latent's direction, position by position."""
    from patching.linearised import Kinds
    from patching.methods import get, linearisation
    from patching.metrics import check_metric
    from patching.setting import Setting

    setting = Setting(model, Batch.of(model, pairs), check_metric("logit_diff"), "noising")
    found = linearisation("secant", get("secant").check({}))(
        setting, Kinds.scoring(("resid_post",))
    )
    (only,) = found.passes
    assert scores.count == 1
    return only.gradients.grads["resid_post", 1][0] @ dictionary.W_dec[j]


@pytest.mark.parametrize("places", [("attn_out.0", "mlp_out.1"), ("z.0", "resid_mid.1")])
def test_what_is_on_no_edge_is_in_the_rest(gpt2, pairs, places):
    given = two("topk", places)
    found = latent_edges(gpt2, pairs, given, every(given)[::3])
    into = dict.fromkeys(found.scores, 0.0)
    for (_, receiver), value in found.edges.items():
        into[receiver] += value
    whole = [into[n] + found.rest[n] + found.selection[n] - s for n, s in found.scores.items()]
    assert max(map(abs, whole)) < 1e-9
    assert max(map(abs, found.rest.values())) > 1e-4


def test_encoders_that_scale_their_input_are_refused(gpt2, pairs):
    given = [dictionary("resid_post.0", scaling="layer_norm")]
    with pytest.raises(SiteError, match="scales what it reads by layer_norm"):
        latent_edges(gpt2, pairs, given, [])
