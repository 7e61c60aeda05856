"""Mixtures of experts: single experts and routers as sites, and what every method makes of them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patching import mixture
from patching.ablation.run import run_ablated
from patching.anatomy import Anatomy
from patching.capture import Prompts, capture
from patching.experts import tokens_of
from patching.forward import Record, Write, chain, no_tap, wants
from patching.methods import EFFECTS
from patching.model import Model
from patching.ops import PLAIN
from patching.rules import RelevanceOps, Rules
from patching.runs import record_gradients
from patching.scoring import score
from patching.secant import SecantOps
from patching.sites import parse_site
from patching.sitesets import kinds_of, label_columns, site_set
from tasks.errors import FormatError, ModelError, SiteError
from tests import definitions, families

PARTS = ("expert", "router", "shared")
POINTS = ("router", "expert_out", "shared_out", "mlp_raw")
EXACT = {"rtol": 0, "atol": 1e-12}
SOME = Anatomy(3, 4, 4, 8, 2, 0, n_experts=4, dense_layers=(1,))
DENSE = Anatomy(2, 4, 4, 8, 2, 16)
SHARING = Anatomy(2, 4, 4, 8, 2, 0, n_experts=4, shared_expert=True)


@pytest.fixture(params=families.MIXTURES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return families.opened(name)


@pytest.fixture(scope="module")
def runs(model):
    """Both runs of five pairs, noising: some tokens are sent to other experts, some to the same."""
    found = definitions.Runs.of(model, families.one_batch(model, families.make_pairs()), "noising")
    alike = [
        ((found.here["router", layer] != 0) == (found.there["router", layer] != 0)).all(-1)
        for layer in model.anatomy.mixtures
    ]
    same = torch.stack(alike)[:, found.batch.mask]
    assert same.any()
    assert not same.all()
    return found


def mixture_of_ordinary_layers():
    """Qwen 2 MoE whose layers 0 and 2 have ordinary MLPs."""
    return families.build("qwen2_moe", num_hidden_layers=4, mlp_only_layers=[0, 2])


def by_hand(model, values, layer):
    """Weights and answers of every token and every expert, one by one."""
    block = model.blocks[layer]
    experts, n = block.experts, block.ln2(values["mlp_in", layer])
    weights = n.new_zeros(*n.shape[:-1], len(experts.each))
    answers = n.new_zeros(*weights.shape, n.shape[-1])
    for b, s in itertools.product(*map(range, n.shape[:2])):
        logits = experts.logits(n[b, s][None])[0]
        best = logits.argsort(descending=True)[: experts.top_k].tolist()
        shares = logits[best].softmax(0) if experts.renormalised else logits.softmax(0)[best]
        weights[b, s, best] = shares
        for e, expert in enumerate(experts.each):
            answers[b, s, e] = experts.answer(expert, n[b, s][None])[0]
    return weights, answers * block.write_scale


def test_points_are_what_their_words_say(model, runs):
    for layer in model.anatomy.mixtures:
        weights, answers = by_hand(model, runs.here, layer)
        torch.testing.assert_close(runs.here["router", layer], weights, **EXACT)
        torch.testing.assert_close(
            runs.here["expert_out", layer], weights[..., None] * answers, **EXACT
        )
        both = runs.here["expert_out", layer].sum(2)
        if model.anatomy.shared_expert:
            both = both + runs.here["shared_out", layer]
        torch.testing.assert_close(both, runs.here["mlp_raw", layer], **EXACT)


def test_keeping_experts_apart_changes_no_bit(name):
    """A run that nobody looks at adds experts up at once; one that is looked at rounds the same."""
    model = families.opened(name)
    tokens = torch.tensor(families.make_pairs(padding=(0,)).clean)
    mask, tap = torch.ones_like(tokens, dtype=torch.bool), Record(POINTS)
    with torch.no_grad():
        assert torch.equal(model.run(tokens, mask), model.run(tokens, mask, tap))
    assert ("expert_out", 1) in tap.values


def test_only_taps_that_want_experts_get_them():
    edit = Write({("expert_out", 1): lambda v: v})
    assert not wants(no_tap, "expert_out", 1)
    assert not wants(Record(("z",)), "expert_out", 1)
    assert wants(Record(("expert_out",)), "expert_out", 1)
    assert wants(lambda kind, layer, value: value, "expert_out", 1)
    assert wants(chain(Record(("z",)), edit), "expert_out", 1)
    assert not wants(chain(Record(("z",)), edit), "expert_out", 0)
    seen = []

    def watch(kind, layer, value):
        seen.append(kind)
        return value

    watch.wants = lambda kind, layer: False
    model = families.opened("mixtral")
    tokens = torch.zeros(1, 3, dtype=torch.long)
    model.run(tokens, torch.ones_like(tokens, dtype=torch.bool), watch)
    assert "router" in seen
    assert "expert_out" not in seen


def test_another_runs_weights_make_its_experts_answer(model, runs):
    """They answer what this run reads."""
    for layer in model.anatomy.mixtures:
        theirs, tap = runs.there["router", layer], Record(("expert_out", "mlp_in"))
        put = Write({("router", layer): lambda _, w=theirs: w})
        with torch.no_grad():
            model.run(runs.batch.tokens("clean"), runs.batch.mask, chain(put, tap))
        _, answers = by_hand(model, tap.values, layer)
        wanted = theirs[..., None] * answers
        torch.testing.assert_close(tap.values["expert_out", layer], wanted, **EXACT)


OPS = {
    "attribution": lambda runs: PLAIN,
    "relevance": lambda runs: RelevanceOps(Rules.relp()),
    "secant": lambda runs: SecantOps(runs.there),
}


@pytest.mark.parametrize("positions", ["all", "named"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_scores_are_those_of_the_definitions(model, direction, positions):
    pairs = families.make_pairs()
    batch = families.one_batch(model, pairs)
    runs = definitions.Runs.of(model, batch, direction)
    for kind, method in itertools.product(PARTS, ("activation", *OPS)):
        if kind not in kinds_of(model.anatomy):
            continue
        found = score(model, pairs, method, "site", direction, sites=kind, positions=positions)
        assert np.abs(found.values).max() > 1e-6
        for each in found:
            site = parse_site(each, model.anatomy)
            columns = None
            if site.position is not None:
                columns = label_columns([site.position], batch)[:, 0]
            if method == "activation":
                expected = definitions.exact_site(runs, site, columns)
            else:
                expected = definitions.slope_site(runs, site, columns, OPS[method](runs))
            assert found[each] == pytest.approx(float(expected.mean()), abs=1e-12), (method, each)


@pytest.mark.parametrize("method", EFFECTS)
def test_every_method_scores_the_parts_of_a_mixture(model, method):
    """The parts' gradients are one value, so estimates of them add up to that of their sum."""
    pairs = families.make_pairs()
    values = {
        kind: score(model, pairs, method, "site", sites=kind, positions="named")
        for kind in kinds_of(model.anatomy)
        if kind in (*PARTS, "mlp_out")
    }
    assert all(np.isfinite(found.values).all() for found in values.values())
    # Exact effects of parts do not add up to that of their sum, and auto takes some of them.
    if method in ("activation", "auto"):
        return
    for label, layer in itertools.product(("X", "END"), model.anatomy.mixtures):
        parts = [f"m{layer}.e{e}" for e in range(model.anatomy.n_experts)]
        total = sum(values["expert"][f"{part}@{label}"] for part in parts)
        if "shared" in values:
            total += values["shared"][f"m{layer}.shared@{label}"]
        assert total == pytest.approx(values["mlp_out"][f"mlp_out.{layer}@{label}"], abs=1e-9)


def test_a_router_gets_the_mean_answer_of_both_runs_under_secants(model, runs):
    """``sum_e g . f_bar_e dw_e``, also of experts that only one of the runs chooses."""
    pairs = families.make_pairs()
    found = score(model, pairs, "secant", "site", sites="router")
    ops = SecantOps(runs.there)
    slope = record_gradients(model, runs.batch, "clean", families.LOGIT_DIFF, ("mlp_raw",), ops)
    for layer in model.anatomy.mixtures:
        here, there = (by_hand(model, values, layer) for values in (runs.here, runs.there))
        moved = (here[0] - there[0])[..., None] * (here[1] + there[1]) / 2
        expected = (moved * slope.grads["mlp_raw", layer][:, :, None]).sum((1, 2, 3)).mean()
        assert found[f"m{layer}.router"] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_attribution_of_a_router_is_how_fast_the_metric_moves_with_it(model, direction):
    """By small steps, in which the experts of the other run answer too, however little."""
    pairs = families.make_pairs()
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    found = score(model, pairs, "attribution", "site", direction, sites="router")
    for layer in model.anatomy.mixtures:
        point, ends = ("router", layer), []
        delta = runs.delta(lambda values, at=point: values[at])
        for step in (-1e-5, 1e-5):
            move = Write({point: lambda v, by=step * delta: v + by})
            ends.append(float(runs.run(move).mean()))
        rate = (ends[1] - ends[0]) / 2e-5
        assert found[f"m{layer}.router"] == pytest.approx(rate, abs=1e-8)


@pytest.mark.parametrize("rules", ["relp", "gim", "gate=detach", "none"])
def test_a_rule_for_gates_makes_the_weights_constants(model, runs, rules):
    """For all that stands before them; the router's own score is read all the same."""
    last, ops = model.anatomy.mixtures[-1], RelevanceOps(Rules.parse(rules))

    def at_input(fixed):
        """The gradient at what the last MLP reads, with its router's weights held fast or not."""
        read = []

        def tap(kind, layer, value):
            if (kind, layer) == ("mlp_in", last):
                read.append(value.detach().requires_grad_())
                return read[0]
            return value.detach() if fixed and (kind, layer) == ("router", last) else value

        start = runs.here["input", 0]
        found = definitions.metric_from(model, runs.batch, start, tap, ops)
        return torch.autograd.grad(found.sum(), read[0])[0]

    change = (at_input(False) - at_input(True)).abs().max()
    # More experts answer where somebody asks for the weights, so sums are rounded differently.
    assert change > 1e-9 if rules == "none" else change < 1e-12
    kinds = ("router",)
    found = record_gradients(model, runs.batch, "clean", families.LOGIT_DIFF, kinds, ops)
    assert all(found.grads["router", layer].abs().max() > 0 for layer in model.anatomy.mixtures)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_exact_effects_respect_a_norm_behind_the_mixture(direction):
    """No family that opens has one; an ordinary norm put there stands in for it."""
    model = Model(families.build("mixtral").double().requires_grad_(False))
    for block in model.blocks:
        object.__setattr__(block, "ln2_post", block.ln1)
    pairs = families.make_pairs()
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for kind in ("expert", "router"):
        found = score(model, pairs, "activation", "site", direction, sites=kind)
        for each in found:
            expected = definitions.exact_site(runs, parse_site(each))
            assert found[each] == pytest.approx(float(expected.mean()), abs=1e-12), each


def test_ablated_experts_and_routers_are_replaced(model, runs):
    pairs, layer = families.make_pairs(), model.anatomy.mixtures[-1]
    given = {
        "zero": lambda point: torch.zeros_like(runs.here[point]),
        "corrupted": lambda point: runs.there[point],
        "mean": lambda point: runs.here[point][runs.batch.mask].mean(0).expand_as(runs.here[point]),
    }
    for ablation, stands_in in given.items():
        for part in (f"m{layer}.e1", f"m{layer}.router", f"m{layer}.e0@END"):
            site = parse_site(part, model.anatomy)
            point = ("router" if part.endswith("router") else "expert_out", layer)
            columns = label_columns([site.position], runs.batch)[:, 0] if site.position else None

            def tap(kind, at, value, site=site, point=point, columns=columns, put=stands_in):
                if (kind, at) != point:
                    return value
                return torch.where(definitions.select(site, value, columns), put(point), value)

            expected = runs.run(tap).numpy()
            found = run_ablated(model, pairs, [part], ablation)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=part)


def test_without_a_choice_no_expert_answers(model):
    pairs, layer = families.make_pairs(), model.anatomy.mixtures[0]
    silent = run_ablated(model, pairs, [f"m{layer}.router"], "zero")
    every = [f"m{layer}.e{e}" for e in range(model.anatomy.n_experts)]
    np.testing.assert_allclose(silent, run_ablated(model, pairs, every, "zero"), atol=1e-12)
    shared = [f"m{layer}.shared"] if model.anatomy.shared_expert else []
    nothing = run_ablated(model, pairs, [f"m{layer}"], "zero")
    found = run_ablated(model, pairs, [f"m{layer}.router", *shared], "zero")
    np.testing.assert_allclose(found, nothing, atol=1e-12)


def test_ordinary_layers_beside_mixtures():
    model = Model.open(mixture_of_ordinary_layers())
    assert model.anatomy.dense_layers == (0, 2)
    assert model.anatomy.mixtures == (1, 3)
    pairs = families.make_pairs()
    for kind in PARTS:
        layers = {parse_site(name).layer for name in site_set(kind, model.anatomy, pairs).names}
        assert layers == {1, 3}
        for method in ("activation", "secant"):
            assert np.isfinite(score(model, pairs, method, "site", sites=kind).values).all()
    with pytest.raises(SiteError, match=r"m0 is no mixture of experts; those .* are m1, m3"):
        run_ablated(model, pairs, ["m0.e3"], "zero")


@given(st.integers(0, 99), st.integers(0, 999), st.none() | st.sampled_from([-1, 3, "END"]))
def test_names_read_back(layer, unit, position):
    for text in (f"m{layer}.e{unit}", f"m{layer}.router", f"m{layer}.shared"):
        text += "" if position is None else f"@{position}"
        assert parse_site(text).name == text
        assert parse_site(text).layer == layer


@pytest.mark.parametrize("text", ["m1.e", "m1.router2", "m1.s0", "m1.experts", "m.e3", "m1.e3.n4"])
def test_what_is_no_name(text):
    with pytest.raises(SiteError, match=r"m3\.e17 \(of a mixture of experts; router shared\)"):
        parse_site(text)


@pytest.mark.parametrize(
    ("text", "anatomy", "says"),
    [
        ("m0.e4", SOME, r"experts are 0 to 3; the nearest is 'm0\.e3'"),
        ("m1.e0", SOME, r"m1 is no mixture of experts; those of this model are m0, m2"),
        ("m7.router", SOME, r"m7 is no mixture of experts; those of this model are m0, m2"),
        ("m0.shared", SOME, "shares no expert"),
        ("m0.n3", SOME, "neurons of a model with experts are no sites; write an expert"),
        ("m1.router", DENSE, "m1 is no mixture .* this model has none"),
    ],
)
def test_sites_that_a_model_does_not_have(text, anatomy, says):
    with pytest.raises(SiteError, match=says):
        parse_site(text, anatomy)


@pytest.mark.parametrize(
    ("kind", "anatomy", "says"),
    [
        ("expert", DENSE, "no expert sites: none of its MLPs"),
        ("shared", SOME, "no shared sites: all its experts are chosen"),
        ("neuron", SOME, "no neuron sites: its MLPs are mixtures of experts"),
    ],
)
def test_kinds_that_a_model_does_not_have(kind, anatomy, says):
    assert kind not in kinds_of(anatomy)
    with pytest.raises(SiteError, match=says):
        site_set(kind, anatomy, families.make_pairs())


def test_an_anatomy_says_nothing_of_experts_where_there_are_none():
    plain = DENSE
    assert not {"n_experts", "shared_expert", "dense_layers"} & plain.to_json().keys()
    for anatomy in (SOME, SHARING):
        assert Anatomy.from_json(anatomy.to_json()) == anatomy
    for change in ({"n_experts": -1}, {"dense_layers": [3]}, {"n_experts": 0}):
        with pytest.raises(FormatError, match="model anatomy"):
            Anatomy.from_json(SOME.to_json() | change)


def test_scores_of_experts_draw_themselves_and_survive_a_file(tmp_path):
    model, pairs = families.opened("qwen2_moe"), families.make_pairs()
    for kind, column in (("expert", "e3"), ("router", "router"), ("shared", "shared")):
        found = score(model, pairs, "secant", "site", sites=kind)
        table = found.heat_map().to_frame()
        assert table.loc["layer 1", column] == pytest.approx(found.values[-1])
        found.save(tmp_path / "scores.safetensors")
        again = type(found).load(tmp_path / "scores.safetensors")
        assert again.names == found.names
        assert again.anatomy == model.anatomy


def test_what_needs_neurons_is_refused_where_there_are_none():
    model, pairs = families.opened("mixtral"), families.make_pairs()
    with pytest.raises(ModelError, match="a capture needs the neurons of ordinary MLPs"):
        capture(model, Prompts(pairs.clean, pairs.mask))


@given(st.data())
def test_kept_apart_or_added_up_at_once_is_the_same_to_the_bit(data):
    """Also where no expert answers at all, and where every one does."""
    prompts, length, count = (data.draw(st.integers(1, 4)) for _ in range(3))
    chosen = data.draw(
        st.lists(st.booleans(), min_size=(n := prompts * length * count), max_size=n)
    )
    weights = torch.tensor(chosen).view(prompts, length, count).float()
    weights *= torch.rand(weights.shape, generator=torch.Generator().manual_seed(n)) + 0.1
    answers = torch.randn(prompts * length, count, 3, generator=torch.Generator().manual_seed(n))
    read = torch.zeros(prompts, length, 3)

    def written():
        for index, rows in tokens_of(weights.flatten(0, -2) != 0):
            yield index, rows, answers[rows, index] * weights.flatten(0, -2)[rows, index, None]

    apart = mixture.kept_apart(written(), weights, read)
    wanted = answers.view(*weights.shape, 3) * weights[..., None]
    assert torch.equal(apart, wanted)
    assert torch.equal(mixture.added_up(apart), mixture.together(written(), read))
    leaf, g = apart.clone().requires_grad_(), torch.randn(read.shape)
    (found,) = torch.autograd.grad(mixture.added_up(leaf), leaf, g)
    assert torch.equal(found, g[:, :, None].expand_as(leaf))
