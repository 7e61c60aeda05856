"""Relevance rules restated from their definitions, with explicit Jacobians in float64."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import jacobian

from patching.gradient_scores import edge_kinds, edge_scores, site_scores
from patching.linearise import at_receiver
from patching.linearised import Kinds
from patching.model import Model
from patching.nodes.edges import edges as all_edges
from patching.nodes.layout import layout_of
from patching.norms import find_norm
from patching.ops import PLAIN
from patching.rules import CHOICES, RelevanceOps, Rules, ratio_slope
from patching.runs import record_gradients
from patching.secant import SecantOps
from patching.setting import Setting
from patching.sitesets import site_set
from tasks.errors import MethodError
from tests import definitions, families

SETS = {
    "none": Rules(),
    "relp": Rules.relp(),
    "gim": Rules.gim(),
    "attnlrp": Rules.attnlrp(),
    "everything": Rules("freeze", "ratio", "detach", "half", "plain", 3.0),
    "frozen": Rules("freeze", "ratio", "detach", "plain", "detach"),
}

WIDTH = 5


def vector(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class OnePlus(nn.RMSNorm):
    """Gemma's norm, which multiplies by one plus its weight."""

    def forward(self, x):
        return nn.functional.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)


def norms():
    """Each kind of norm, with random weights, as the engine recognises it."""
    kinds = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "one_plus": OnePlus}
    found = {}
    for number, (kind, make) in enumerate(kinds.items()):
        module = make(WIDTH, eps=1e-3).double().requires_grad_(False)
        for at, parameter in enumerate(module.parameters()):
            parameter.data = vector(3 * number + at, WIDTH)
        found[kind] = find_norm(module, WIDTH)
    return found


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("layer", (True, 0.0)), ("rms", (False, 0.0)), ("one_plus", (False, 1.0))],
)
def test_norms_are_recognised_by_what_they_compute(kind, expected):
    norm = norms()[kind]
    assert (norm.centred, norm.weight_offset) == expected
    assert norm.eps == 1e-3


def pulled(function, g, *inputs):
    """What a gradient ``g`` at the output becomes at every input."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*leaves), leaves, g)


@pytest.mark.parametrize("kind", ["layer", "rms", "one_plus"])
def test_the_plain_norm_pulls_with_its_jacobian(kind):
    norm, x, g = norms()[kind], vector(1, WIDTH), vector(2, WIDTH)
    expected = g @ jacobian(norm, x)
    torch.testing.assert_close(PLAIN.norm_vjp(norm, x, ("resid_pre", 0))(g), expected)


@pytest.mark.parametrize("kind", ["layer", "rms", "one_plus"])
def test_a_frozen_norm_is_a_linear_map(kind):
    """``w (x - mean) / s`` with ``s`` a constant: diag(w) (I - 11'/d) / s, with or without mean."""
    norm, x, g = norms()[kind], vector(1, WIDTH), vector(2, WIDTH)
    centring = torch.eye(WIDTH, dtype=torch.float64)
    if norm.centred:
        centring = centring - 1 / WIDTH
    scale = ((centring @ x).square().mean() + 1e-3).sqrt()
    expected = g @ (torch.diag(norm.weight) @ centring / scale)
    ops = RelevanceOps(Rules(norm="freeze"))
    torch.testing.assert_close(ops.norm_vjp(norm, x, ("resid_pre", 0))(g), expected)
    (through,) = pulled(lambda t: ops.norm(norm, t, ("resid_pre", 0)), g, x)
    torch.testing.assert_close(through, expected)


@pytest.mark.parametrize("rules", [Rules(), Rules(norm="freeze")])
def test_one_gradient_per_port_is_pulled_like_one_gradient(rules):
    norm, x, g = norms()["layer"], vector(1, 2, 3, WIDTH), vector(2, 2, 4, 3, WIDTH)
    vjp = RelevanceOps(rules).norm_vjp(norm, x, ("resid_pre", 0))
    each = torch.stack([vjp(g[:, port]) for port in range(4)], dim=1)
    torch.testing.assert_close(vjp(g), each)


@pytest.mark.parametrize("act", [nn.functional.gelu, nn.functional.silu, nn.functional.relu])
def test_the_activation_ratio(act):
    x, g = vector(3, WIDTH), vector(4, WIDTH)
    ops = RelevanceOps(Rules(activation="ratio"))
    (found,) = pulled(lambda t: ops.activation(act, t, ("mlp_pre", 0)), g, x)
    torch.testing.assert_close(found, g * act(x) / x)


def test_the_activation_ratio_has_its_limit_at_zero():
    """``gelu(x)/x`` tends to Phi(0) = 1/2 and ``silu(x)/x`` is the sigmoid, to the last digit."""
    x = torch.tensor([0.0, 1e-12, -1e-12, 1e-7, -1e-7, 1e-5, -1e-5], dtype=torch.float64)
    for act in (nn.functional.gelu, nn.functional.silu):
        torch.testing.assert_close(
            ratio_slope(act, x, act(x)), torch.full_like(x, 0.5), atol=1e-5, rtol=0
        )
    x = vector(5, 1000).float() * 4
    act = nn.functional.silu
    torch.testing.assert_close(ratio_slope(act, x, act(x)), x.sigmoid())


@pytest.mark.parametrize("cap", [0.5, 30.0])
def test_soft_caps(cap):
    x, g = vector(21, WIDTH), vector(22, WIDTH)
    value = torch.tanh(x / cap) * cap
    for rules, slope in (
        (Rules(cap="ratio"), value / x),
        (Rules.relp(), 1 - (value / cap) ** 2),
    ):
        ops = RelevanceOps(rules)
        (found,) = pulled(lambda t, o=ops: o.softcap(t, cap, ("logits_raw", 0)), g, x)
        torch.testing.assert_close(found, g * slope)


def test_gates():
    """half: half to each factor. detach: all to the factor that is not activated."""
    act, (gate, up, g) = nn.functional.silu, vector(6, 3, WIDTH)

    def through(rules):
        ops = RelevanceOps(rules)
        return pulled(lambda a, b: ops.gated(act, a, b, ("mlp_pre", 0)), g, gate, up)

    sigmoid = gate.sigmoid()
    slope = sigmoid * (1 + gate * (1 - sigmoid))
    expected = {
        Rules(): (g * up * slope, g * act(gate)),
        Rules(gate="half"): (g * up * slope / 2, g * act(gate) / 2),
        Rules(gate="half", activation="ratio"): (g * up * sigmoid / 2, g * act(gate) / 2),
    }
    for rules, parts in expected.items():
        for found, part in zip(through(rules), parts, strict=True):
            torch.testing.assert_close(found, part)
    ops = RelevanceOps(Rules(gate="detach"))
    (found,) = pulled(lambda b: ops.gated(act, gate, b, ("mlp_pre", 0)), g, up)
    torch.testing.assert_close(found, g * act(gate))
    leaf = gate.clone().requires_grad_()
    assert not ops.gated(act, leaf, up, ("mlp_pre", 0)).requires_grad


def attention_parts():
    q, k, v = vector(8, 3, 1, 4, 2, WIDTH)
    return families.opened("gpt2").blocks[0], q, k, v


@pytest.mark.parametrize("products", ["plain", "half"])
def test_products_of_attention(products):
    block, q, k, v = attention_parts()
    ops, share = RelevanceOps(Rules(products=products)), 0.5 if products == "half" else 1.0
    g = vector(9, 1, 2, 4, 4)
    found = pulled(lambda a, b: ops.scores(a, b, block), g, q, k)
    expected = pulled(lambda a, b: torch.einsum("bqhe,bkhe->bhqk", a, b), g, q, k)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other * share * block.attention_scale)
    pattern, g = vector(10, 1, 2, 4, 4).softmax(-1), vector(11, 1, 4, 2, WIDTH)
    found = pulled(lambda a, b: ops.mix(a, b, ("z", 0)), g, pattern, v)
    expected = pulled(lambda a, b: torch.einsum("bhqk,bkhe->bqhe", a, b), g, pattern, v)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other * share)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_softmax_at_a_temperature(temperature):
    """``p (g - sum(g p))`` with ``p = softmax(s / T)`` and no factor 1/T, as GIM has it."""
    s, g = vector(12, 6), vector(13, 6)
    p = torch.softmax(s / temperature, 0)
    expected = (torch.diag(p) - torch.outer(p, p)) @ g
    ops = RelevanceOps(Rules(temperature=temperature))
    (found,) = pulled(lambda t: ops.softmax(t.view(1, 1, 1, 6), ("scores", 0)).flatten(), g, s)
    torch.testing.assert_close(found, expected)


def test_a_detached_pattern_gives_queries_and_keys_nothing(model, pairs):
    batch = families.one_batch(model, pairs)
    kinds = ("q", "k", "v", "z", "scores")
    ops = RelevanceOps(Rules.parse("relp,pattern=detach"))
    found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, kinds, ops)
    for (kind, _), grad in found.grads.items():
        assert grad.any() == (kind in ("v", "z"))


def points_of(model):
    return tuple({kind for kind, _ in definitions.values(model, small_batch(model), "clean")})


def small_batch(model):
    return families.one_batch(model, families.make_pairs(n=3, padding=(0, 2, 1)))


def test_the_forward_pass_is_the_same_to_the_bit(model):
    """Under every rule set, and under secants, whether or not gradients are asked for."""
    batch = small_batch(model)
    other, plain = (definitions.values(model, batch, run) for run in ("corrupted", "clean"))
    with torch.no_grad():
        logits = model.run(batch.clean, batch.mask)
    metric = families.LOGIT_DIFF(logits, batch.pairs)
    for ops in [*map(RelevanceOps, SETS.values()), SecantOps(other), PLAIN]:
        with torch.no_grad():
            assert torch.equal(model.run(batch.clean, batch.mask, ops=ops), logits)
        found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, points_of(model), ops)
        assert torch.equal(found.metric, metric)
        assert found.values.keys() == plain.keys()
        assert all(torch.equal(value, plain[point]) for point, value in found.values.items())


def test_without_rules_relevance_is_attribution(model):
    batch, kinds = small_batch(model), points_of(model)
    plain = record_gradients(model, batch, "clean", families.LOGIT_DIFF, kinds)
    ops = RelevanceOps(Rules.parse("none"))
    found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, kinds, ops)
    assert all(torch.equal(grad, plain.grads[point]) for point, grad in found.grads.items())


def without_biases(family):
    """The family's model in which everything is homogeneous but the steps with rules."""
    hf = families.build(family)
    for name, weight in hf.named_parameters():
        if name.endswith("bias"):
            weight.data.zero_()
    return Model.open(hf)


CONSERVING = ["relp,pattern=detach,cap=ratio", "relp,gate=detach,pattern=detach,cap=ratio"]


@pytest.mark.parametrize("rules", CONSERVING)
def test_relevance_is_conserved(family, rules):
    """Value times gradient, summed over any cut, is the metric: nothing is lost or made.

    Of the rule sets these conserve: frozen norms and activation ratios are homogeneous, a gate's
    relevance is split or given to one factor, and values take all that reaches the heads. Softmax
    rules do not: relevance that goes to queries and keys comes out changed, or twice.
    """
    model = without_biases(family)
    batch = small_batch(model)
    kinds = ("resid_pre", "resid_post", "final_in", "z", "mlp_post")
    ops = RelevanceOps(Rules.parse(rules))
    found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, ("input", *kinds), ops)
    for (kind, layer), grad in found.grads.items():
        if kind in ("input", "resid_pre", "resid_post", "final_in"):
            total = (found.values[kind, layer] * grad).flatten(1).sum(1)
            torch.testing.assert_close(
                total, found.metric, rtol=0, atol=1e-5, msg=f"{kind}.{layer}"
            )


def test_a_plain_soft_cap_loses_relevance():
    """The papers' sets have no rule there: another reason that the test above can fail."""
    model = without_biases("gemma2")
    batch = small_batch(model)
    ops = RelevanceOps(Rules.parse("relp,pattern=detach"))
    found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, ("input",), ops)
    total = (found.values["input", 0] * found.grads["input", 0]).flatten(1).sum(1)
    assert (total - found.metric).abs().max() > 1e-5


@pytest.mark.parametrize("rules", ["none", "relp", "gim", "attnlrp"])
def test_rules_that_keep_the_softmax_do_not_conserve(rules):
    """So that the test above can fail."""
    model = without_biases("llama")
    batch = small_batch(model)
    ops = RelevanceOps(Rules.parse(rules))
    found = record_gradients(model, batch, "clean", families.LOGIT_DIFF, ("input",), ops)
    total = (found.values["input", 0] * found.grads["input", 0]).flatten(1).sum(1)
    assert (total - found.metric).abs().max() > 1e-2


def test_with_all_coefficients_frozen_relevance_is_the_exact_effect(model, pairs, direction):
    """The rules' backward pass is the transpose of the model with its coefficients held fixed."""
    batch = families.one_batch(model, pairs)
    setting = Setting(model, batch, families.LOGIT_DIFF, direction)
    runs = definitions.Runs.of(model, batch, direction)
    frozen = definitions.Frozen(runs.here)
    base = runs.run()
    torch.testing.assert_close(runs.run(ops=frozen), base, rtol=0, atol=1e-5)
    linearise = at_receiver(SETS["frozen"])
    edges = list(all_edges(model.anatomy))
    layout = layout_of(model.anatomy)
    found = edge_scores(model, linearise(setting, edge_kinds(layout)), layout)
    scale = max(1.0, float(found.abs().max()))
    for i in range(direction == "noising", len(edges), 9):
        expected = definitions.exact_edge(runs, edges[i], frozen)
        torch.testing.assert_close(found[:, i], expected, rtol=0, atol=1e-5 * scale)
    wanted = site_set("node", model.anatomy, pairs)
    found = site_scores(linearise(setting, Kinds.scoring(wanted.kinds)), wanted, batch)
    for column, group in zip(found.T[::5], wanted.groups[::2], strict=True):
        expected = definitions.exact_site(runs, group.sites[0], ops=frozen)
        torch.testing.assert_close(column, expected, rtol=0, atol=1e-5 * scale)


def every_rule_set():
    names = list(CHOICES)
    for values in itertools.product(*CHOICES.values()):
        for temperature in (1.0, 2.0, 0.25):
            settings = dict(zip(names, values, strict=True))
            halved = settings["products"] == "half"
            if settings["pattern"] == "plain" or (temperature == 1.0 and not halved):
                yield Rules(**settings, temperature=temperature)


@given(st.sampled_from(list(every_rule_set())))
def test_rules_read_what_they_write(rules):
    assert Rules.parse(str(rules)) == rules
    assert Rules(**rules.to_json()) == rules


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("relp", Rules(norm="freeze", activation="ratio", gate="half")),
        ("gim", Rules(norm="freeze", gate="half", products="half", temperature=2.0)),
        ("attnlrp", Rules("freeze", "ratio", "half", "half")),
        ("none", Rules()),
        ("relp,pattern=detach", Rules("freeze", "ratio", "half", "plain", "detach")),
        (" relp , norm=plain ", Rules(activation="ratio", gate="half")),
        ("norm=freeze,temperature=2", Rules(norm="freeze", temperature=2.0)),
    ],
)
def test_rules_by_name_and_by_step(text, rules):
    assert Rules.parse(text) == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown rule set ''"),
        ("rlp", "unknown rule set 'rlp'; did you mean 'relp'"),
        ("norm=freeze,relp", "unknown rule set 'relp'"),
        ("norms=freeze", "unknown step 'norms'; did you mean 'norm'"),
        ("norm=frozen", "unknown rule for norm 'frozen'; did you mean 'freeze'"),
        ("norm=freeze,norm=plain", "'norm' is set twice"),
        ("temperature=warm", "temperature must be a number, given 'warm'"),
        ("temperature=0", "temperature must be a positive number, given 0"),
        ("temperature=nan", "temperature must be a positive number, given nan"),
        ("gim,pattern=detach", "leaves the softmax no gradient for temperature to change"),
        ("attnlrp,pattern=detach", "the values would keep the other half alone"),
        ("relp,cap=freeze", "unknown rule for cap 'freeze'"),
    ],
)
def test_rules_that_cannot_be_used(text, message):
    with pytest.raises(MethodError, match=message):
        Rules.parse(text)


def test_all_faults_of_a_rule_set_are_named_at_once():
    with pytest.raises(MethodError) as caught:
        Rules(norm="frozen", gate="double", temperature=math.inf)
    assert all(word in str(caught.value) for word in ("'frozen'", "'double'", "inf"))
