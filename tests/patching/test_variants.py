"""Variants of the gradient methods: AtP*'s two repairs, IG on activations, shares, ensembles."""

import numpy as np
import pytest
import torch

from patching.runs import slopes
from patching.scoring import score
from patching.sites import parse_site
from patching.sitesets import point_of
from tests import definitions, families

CLOSE = {"rtol": 1e-4, "atol": 2e-6}


def test_no_share_of_the_secant_is_attribution(model, pairs, direction):
    for level in ("node", "edge"):
        tangent = score(model, pairs, "attribution", level, direction)
        none = score(model, pairs, "secant", level, direction, share=0.0)
        np.testing.assert_allclose(none.values, tangent.values, **CLOSE)


def test_the_ensemble_is_the_mean_and_leaves_queries_and_keys_to_the_softmax(model, pairs):
    mean = score(model, pairs, "ensemble", "node").values
    parts = [score(model, pairs, method, "node").values for method in ("secant", "attribution")]
    np.testing.assert_allclose(mean, sum(parts) / 2, **CLOSE)
    for kind in ("q", "k"):
        found = score(model, pairs, "ensemble", "site", sites=kind)
        fixed = score(model, pairs, "attribution", "site", sites=kind, qk_fix=True)
        np.testing.assert_allclose(found.values, fixed.values, **CLOSE)


@pytest.mark.parametrize("kind", ["q", "k"])
def test_the_qk_fix_is_the_change_of_the_pattern_times_its_gradient(model, pairs, direction, kind):
    fixed = score(model, pairs, "attribution", "site", direction, sites=kind, qk_fix=True)
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    run = "clean" if direction == "noising" else "corrupted"
    gradients = slopes(model, runs.batch, run, families.LOGIT_DIFF, ("pattern",)).grads
    for name in fixed.names[::3]:
        site = parse_site(name, model.anatomy)
        seen = {}

        def tap(at_kind, layer, value, site=site, seen=seen):
            if (at_kind, layer) == point_of(site):
                chosen = definitions.select(site, value, None)
                return torch.where(chosen, runs.there[at_kind, layer], value)
            seen[at_kind, layer] = value
            return value

        runs.run(tap)
        point = ("pattern", site.layer)
        total = ((runs.here[point] - seen[point]) * gradients[point]).flatten(1).sum(1).mean()
        sign = 1 if direction == "noising" else -1
        assert fixed[name] == pytest.approx(sign * float(total), abs=1e-5)


@pytest.mark.parametrize("sites", ["node", "attn_out", "resid_post"])
def test_grad_drop_sums_sizes_over_closed_layers_and_keeps_the_sign(model, pairs, sites):
    """A pass that is closed at a site itself adds nothing to it."""
    found = score(model, pairs, "attribution", "site", sites=sites, grad_drop=True, batch_size=1)
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), "noising")
    layers = model.anatomy.n_layers
    for name in found.names[::4]:
        point = point_of(parse_site(name, model.anatomy))
        site = parse_site(name, model.anatomy)
        delta = runs.here[point] - runs.there[point]
        chosen = definitions.select(site, delta, None)

        def effect(delta=delta, chosen=chosen, point=point, **closed):
            grads = slopes(
                model, runs.batch, "clean", families.LOGIT_DIFF, (point[0],), **closed
            ).grads
            return torch.where(chosen, delta * grads[point], 0.0).flatten(1).sum(1)

        sizes = [effect(closed_to=("attn_out", layer)).abs() for layer in range(layers)]
        expected = effect().sign() * torch.stack(sizes).sum(0) / (layers - 1)
        assert found[name] == pytest.approx(float(expected.mean()), abs=1e-5)


def test_ig_on_activations_moves_one_sender_at_a_time(model, pairs, direction):
    steps = 3
    found = score(model, pairs, "ig", "node", direction, steps=steps, on="activations")
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    run = "clean" if direction == "noising" else "corrupted"
    for name in found.names[::4]:
        site = parse_site(name, model.anatomy)
        point = point_of(site)
        delta = runs.delta(lambda values, point=point: values[point])
        start = runs.there[point] if direction == "noising" else runs.here[point]
        total = 0.0
        for step in range(steps):
            value = start + (step + 0.5) / steps * delta
            grads = slopes(
                model, runs.batch, run, families.LOGIT_DIFF, (point[0],), put=(point, value)
            ).grads
            chosen = definitions.select(site, delta, None)
            total += float(torch.where(chosen, delta * grads[point], 0.0).sum(1).sum()) / steps
        assert found[name] == pytest.approx(total / len(pairs), abs=2e-5)


def test_edges_of_ig_on_activations_add_up_to_their_sender(model, pairs):
    if model.blocks[0].ln1_post is not None:
        pytest.skip("under a post-norm a head's edges carry its share of the normed output")
    nodes = score(model, pairs, "ig", "node", steps=2, on="activations")
    edges = score(model, pairs, "ig", "edge", steps=2, on="activations")
    for node in nodes.names[::3]:
        out = sum(edges[name] for name in edges.names if name.startswith(f"{node}->"))
        assert out == pytest.approx(nodes[node], abs=2e-5)


def test_the_completeness_error_is_stated_and_shrinks_with_steps(gpt2, pairs):
    for level in ("node", "edge"):
        errors = [
            abs(score(gpt2, pairs, "ig", level, steps=steps).completeness_error)
            for steps in (2, 16)
        ]
        assert errors[1] < errors[0] / 8
        assert abs(score(gpt2, pairs, "secant", level).completeness_error) < 1e-5
    assert score(gpt2, pairs, "ig", "site", sites="z").completeness_error is None
