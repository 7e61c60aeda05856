"""Two-run secants: every step carries the difference of its inputs onto that of its outputs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from patching.model import Model
from patching.nodes.layout import ports
from patching.norms import find_norm
from patching.ops import PLAIN
from patching.rules import RelevanceOps, Rules
from patching.scoring import score
from patching.secant import SecantOps, log_mean, secant_slope
from tasks.pairs import PromptPairs
from tests import families

ROW = arrays.arrays(np.float64, 6, elements=st.floats(-12, 12))


def matrix(scores, scores2):
    """The secant of the softmax, as one Jacobian."""
    mean = log_mean(scores, scores2)
    return torch.diag(mean) - torch.outer(mean, mean) / mean.sum()


@given(ROW, ROW)
def test_the_softmax_secant_carries_scores_onto_patterns(s, s2):
    s, s2 = torch.tensor(s), torch.tensor(s2)
    expected = s2.softmax(0) - s.softmax(0)
    torch.testing.assert_close(matrix(s, s2) @ (s2 - s), expected, rtol=0, atol=1e-7)


@given(ROW, ROW, st.floats(-5, 5), st.floats(-5, 5))
def test_the_softmax_secant_is_symmetric_and_ignores_shifts(s, s2, shift, shift2):
    s, s2 = torch.tensor(s), torch.tensor(s2)
    found = matrix(s, s2)
    torch.testing.assert_close(found, found.T, rtol=0, atol=0)
    torch.testing.assert_close(matrix(s2, s), found, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.sum(0), torch.zeros(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix(s + shift, s2 + shift2), found, rtol=0, atol=1e-6)


@given(ROW)
def test_the_softmax_secant_of_equal_runs_is_the_jacobian(s):
    s = torch.tensor(s)
    p = s.softmax(0)
    torch.testing.assert_close(matrix(s, s), torch.diag(p) - torch.outer(p, p))


def test_the_logarithmic_mean_lies_between_the_patterns():
    generator = torch.Generator().manual_seed(0)
    s, s2 = (5 * torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    mean, low, high = log_mean(s, s2), s.softmax(-1), s2.softmax(-1)
    assert (mean >= torch.minimum(low, high) * (1 - 1e-5)).all()
    assert (mean <= (low + high) / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("gap", [3e-3, 7e-4, 1e-5])
def test_the_logarithmic_mean_of_near_patterns(gap):
    """Where the quotient gives way to a series, both are right."""
    s, change = vectors(2, 6, seed=7)
    s2 = s + gap * change
    a, a2 = s.softmax(-1), s2.softmax(-1)
    torch.testing.assert_close(log_mean(s, s2), (a2 - a) / (a2.log() - a.log()), rtol=1e-6, atol=0)


def test_masked_keys_have_no_part_in_the_softmax_secant():
    lowest = torch.finfo(torch.float32).min
    s, s2 = torch.tensor([1.0, 2.0, lowest]), torch.tensor([-1.0, 0.5, lowest])
    found = matrix(s, s2)
    assert torch.isfinite(found).all()
    assert not found[2].any()
    assert not found[:, 2].any()
    torch.testing.assert_close(found[:2, :2], matrix(s[:2], s2[:2]))


@pytest.mark.parametrize("act", [nn.functional.gelu, nn.functional.silu, torch.tanh])
@given(x=st.floats(-6, 6), gap=st.floats(-6, 6))
def test_activations_have_their_average_slope(act, x, gap):
    x = torch.tensor([x], dtype=torch.float64)
    x2 = x + gap
    slope = secant_slope(act, x, x2, act(x))
    torch.testing.assert_close(slope * (x2 - x), act(x2) - act(x), rtol=0, atol=1e-8)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    points = ((x + x2) / 2 + (x2 - x) / 2 * torch.tensor(nodes)).requires_grad_()
    (slopes,) = torch.autograd.grad(act(points).sum(), points)
    average = (slopes * torch.tensor(weights / 2)).sum(0, keepdim=True)
    torch.testing.assert_close(slope, average, rtol=0, atol=1e-6)


def vectors(*shape, n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def carried(function, differences, inputs, like):
    """How far the step's secant carries differences of its inputs, output by output.

    Pulling back each unit gradient gives the rows of the secant's matrix.
    """
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    moved = torch.zeros_like(like)
    for at in np.ndindex(*like.shape):
        rows = torch.autograd.grad(out[at], leaves, retain_graph=True)
        moved[at] = sum((row * d).sum() for row, d in zip(rows, differences, strict=True))
    return moved


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm])
def test_norms_carry_the_difference(make):
    module = make(6, eps=1e-3).double().requires_grad_(False)
    module.weight.data = vectors(6, n=1)[0]
    norm, point = find_norm(module, 6), ("resid_pre", 0)
    x, x2 = vectors(1, 2, 6, seed=1)
    ops = SecantOps({point: x2})
    found = carried(lambda t: ops.norm(norm, t, point), [x2 - x], [x], x)
    torch.testing.assert_close(found, norm(x2) - norm(x))
    same = SecantOps({point: x}).norm_vjp(norm, x, point)(x2)
    torch.testing.assert_close(same, PLAIN.norm_vjp(norm, x, point)(x2))


def test_gates_carry_the_difference():
    act, point = nn.functional.silu, ("mlp_pre", 0)
    gate, gate2, up, up2 = vectors(1, 2, 4, n=4, seed=2)
    ops = SecantOps({point: gate2, ("mlp_up", 0): up2})
    found = carried(
        lambda a, b: ops.gated(act, a, b, point), [gate2 - gate, up2 - up], [gate, up], gate
    )
    torch.testing.assert_close(found, act(gate2) * up2 - act(gate) * up, rtol=0, atol=1e-8)


def test_attention_carries_the_difference():
    block = families.opened("gpt2").blocks[0]
    q, q2, k, k2, v, v2 = vectors(1, 3, 2, 4, n=6, seed=3)
    ops = SecantOps({("q_rot", 0): q2, ("k_rot", 0): k2})
    s, s2 = PLAIN.scores(q, k, block), PLAIN.scores(q2, k2, block)
    found = carried(lambda a, b: ops.scores(a, b, block), [q2 - q, k2 - k], [q, k], s)
    torch.testing.assert_close(found, s2 - s)
    a, a2 = s.softmax(-1), s2.softmax(-1)
    ops = SecantOps({("scores", 0): s2, ("pattern", 0): a2, ("v_read", 0): v2})
    found = carried(lambda t: ops.softmax(t, ("scores", 0)), [s2 - s], [s], s)
    torch.testing.assert_close(found, a2 - a, rtol=0, atol=1e-8)
    z, z2 = PLAIN.mix(a, v, ("z", 0)), PLAIN.mix(a2, v2, ("z", 0))
    found = carried(lambda t, u: ops.mix(t, u, ("z", 0)), [a2 - a, v2 - v], [a, v], z)
    torch.testing.assert_close(found, z2 - z)


def test_soft_caps_carry_the_difference():
    x, x2 = vectors(1, 2, 4, seed=4)
    ops = SecantOps({("scores_raw", 0): x2})
    found = carried(lambda t: ops.softcap(t, 2.0, ("scores_raw", 0)), [x2 - x], [x], x)
    expected = 2 * torch.tanh(x2 / 2) - 2 * torch.tanh(x / 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_scores_over_any_cut_add_up_to_the_total(model, pairs, direction):
    """Edges out of the input, edges into the logits, and the residual stream of every layer."""
    edge = score(model, pairs, "secant", "edge", direction)
    total = pytest.approx(edge.total_effect, abs=1e-5)
    for end in ("input->", "->logits"):
        assert sum(edge[name] for name in edge if end in name) == total
    kinds = ["resid_pre", "resid_post"] + ["resid_mid"] * (not model.anatomy.parallel)
    for kind in kinds:
        stream = score(model, pairs, "secant", "site", direction, sites=kind)
        for name in stream:
            assert stream[name] == total


def test_scores_are_complete_where_an_activation_function_has_a_corner(pairs):
    """Inputs on both sides of a corner, however near each other, have their quotient as slope."""
    model = Model.open(families.build("llama", hidden_act="relu"))
    scores = score(model, pairs, "secant", "edge")
    assert abs(scores.total_effect) > 1e-2
    assert abs(scores.completeness_error) < 1e-4 * abs(scores.total_effect)


def test_edges_into_a_part_add_up_to_its_node(model, pairs):
    """What an MLP or a head reads, over all its ports, is what it writes."""
    node = score(model, pairs, "secant", "node")
    edge = score(model, pairs, "secant", "edge")
    into = {}
    for name in edge:
        receiver = name.split("->")[1].split("<")[0]
        into[receiver] = into.get(receiver, 0.0) + edge[name]
    assert into.pop("logits") == pytest.approx(edge.total_effect, abs=1e-5)
    assert set(into) == {site.name for site, _ in ports(model.anatomy)} - {"logits"}
    for name, value in into.items():
        assert value == pytest.approx(node[name], abs=1e-5), name


def test_under_a_post_norm_the_heads_of_a_layer_add_up_together(pairs):
    model = families.opened("gemma2")
    node = score(model, pairs, "secant", "node")
    edge = score(model, pairs, "secant", "edge")
    for layer in range(model.anatomy.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(model.anatomy.n_heads)]
        out = sum(edge[name] for name in edge if name.split("->")[0] in heads)
        assert out == pytest.approx(sum(node[head] for head in heads), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_runs_that_differ_by_little_make_secants_gradients(family):
    """Then the average slope is the slope, so the method becomes attribution."""
    hf = families.build(family)
    embeddings = hf.get_input_embeddings().weight.data
    embeddings[60] = embeddings[59] + 1e-3 * embeddings[60]
    model = Model.open(hf.double(), dtype=torch.float64)
    prompts = {"clean": [[5, 59, 7, 8, 9]], "corrupted": [[5, 60, 7, 8, 9]]}
    pairs = PromptPairs.from_tokens(**prompts, answer=[1], counterfactual=[2])
    secant = score(model, pairs, "secant", "edge")
    attribution = score(model, pairs, "attribution", "edge")
    scale = np.abs(attribution.values).max()
    assert scale > 1e-5
    np.testing.assert_allclose(secant.values, attribution.values, rtol=0, atol=0.01 * scale)


def test_some_share_of_the_secant_is_between_it_and_the_tangent(gpt2, pairs):
    found = {share: score(gpt2, pairs, "secant", "node", share=share) for share in (0, 0.5, 1)}
    tangent = score(gpt2, pairs, "attribution", "node")
    np.testing.assert_allclose(found[0].values, tangent.values, rtol=0, atol=1e-6)
    assert np.abs(found[1].values - tangent.values).max() > 1e-3
    ends = np.stack([found[0].values, found[1].values])
    inside = (found[0.5].values >= ends.min(0)) & (found[0.5].values <= ends.max(0))
    assert inside.mean() > 0.5


@pytest.mark.parametrize("rules", ["secant", "ratio"])
def test_slopes_of_a_half_precision_model_are_those_of_single_precision(rules):
    """In bfloat16 itself, a quotient of two near values has one right digit, or none."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(500, generator=generator).bfloat16()
    x2 = x + 0.11 * torch.randn(500, generator=generator).bfloat16()
    point, act = ("mlp_pre", 0), nn.functional.gelu

    def slope(a, b):
        ops = (
            SecantOps({point: b}) if rules == "secant" else RelevanceOps(Rules(activation="ratio"))
        )
        leaf = a.clone().requires_grad_()
        (found,) = torch.autograd.grad(ops.activation(act, leaf, point).sum(), leaf)
        return found

    found, exact = slope(x, x2), slope(x.double(), x2.double())
    assert found.dtype == torch.bfloat16
    # Half a unit in the last of bfloat16's 8 bits, for slopes up to about 1.1.
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)
