"""Ablations against their definitions, run prompt by prompt without any batching."""

from functools import cache

import numpy as np
import pytest
import torch

from patching.ablation.estimates import estimate_means
from patching.ablation.kinds import ABLATIONS, CUTS, Ablation, AttentionCut, parse_ablation
from patching.ablation.run import effects_ablated, run_ablated
from patching.ablation.values import donors
from patching.circuit_run import CircuitRunner, run_circuits
from patching.metrics import check_metric
from patching.nodes.deltas import points_of
from patching.nodes.edges import EdgeSet, edges
from patching.nodes.layout import layout_of
from patching.runs import Batch
from patching.sweep import Sweep
from tasks.errors import MethodError, SiteError
from tests.definitions import values
from tests.families import FAMILIES, make_pairs, one_batch, opened

OUTSIDE = ["zero", "mean", "mean-by-position", "mean-by-token", "resample:1", "corrupted"]
SITES = ["input", "a0.h1", "a1.h3", "m0", "m0.n7", "attn_out.1", "resid_post.0", "m1@X", "a0.h2@-1"]


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(n=8, padding=(0, 2, 0, 2))


@cache
def prompt_values(model, pairs, run="clean"):
    """Every point of every prompt, each run by itself and without padding."""
    alone = [Batch.of(model, pairs[[i]]) for i in range(len(pairs))]
    return [values(model, batch, run) for batch in alone]


def definition(model, pairs, ablation, point):
    """What stands in at a point for every prompt, by plain loops over prompts and tokens."""
    kind = Ablation(ablation.partition(":")[0]).kind
    clean = [v[point][0].double() for v in prompt_values(model, pairs)]
    ids = [pairs.clean[i][pairs.mask[i]] for i in range(len(pairs))]
    if kind == "zero":
        return [torch.zeros_like(v) for v in clean]
    if kind == "corrupted":
        return [v[point][0].double() for v in prompt_values(model, pairs, "corrupted")]
    if kind == "resample":
        return [clean[donor] for donor in donors(pairs, int(ablation.partition(":")[2]))]
    if kind == "mean":
        every = torch.cat(clean).mean(0)
        return [every.expand_as(v) for v in clean]
    found = []
    for i, mine in enumerate(clean):
        rows = []
        for t in range(len(mine)):
            alike = [
                clean[j][t]
                for j in range(len(clean))
                if len(ids[j]) == len(ids[i])
                and (kind == "mean-by-position" or ids[j][t] == ids[i][t])
            ]
            rows.append(torch.stack(alike).mean(0))
        found.append(torch.stack(rows))
    return found


def test_names_read_back():
    for name in ABLATIONS:
        text = f"{name}:2" if ABLATIONS[name].argument else name
        assert parse_ablation(text).name == text
    assert parse_ablation("resample") == Ablation("resample", 0)
    for name in CUTS:
        for rest in ("3", "3-5", "1-2.h0"):
            assert parse_ablation(f"{name}:{rest}").name == f"{name}:{rest}"
    assert parse_ablation("cut-last:2.h1") == AttentionCut("cut-last", 2, 2, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zeros", "did you mean 'zero'"),
        ("zero:3", "takes no argument"),
        ("mean:x", "whole number"),
        ("cama", "needs a block"),
        ("resample:-1", "whole number"),
        ("full-peek", "full-peek:3-4"),
        ("cut-last:4-2", "from a smaller to a larger"),
    ],
)
def test_names_that_are_refused(text, says):
    with pytest.raises(MethodError, match=says):
        parse_ablation(text)


@pytest.mark.parametrize("ablation", OUTSIDE)
@pytest.mark.parametrize("size", [3, 8])
def test_sites_are_replaced_as_defined(pairs, ablation, size):
    model, batch = opened("gpt2"), None
    for name in ("input", "a0.h1", "m0", "m0.n7", "resid_post.0"):
        point = {"input": ("input", 0), "a0.h1": ("z", 0), "m0": ("mlp_out", 0)}.get(name)
        point = point or {"m0.n7": ("mlp_post", 0)}.get(name, ("resid_post", 0))
        wanted = definition(model, pairs, ablation, point)
        found = run_ablated(model, pairs, [name], ablation, batch_size=size)
        for i in range(len(pairs)):
            batch = Batch.of(model, pairs[[i]])

            def tap(kind, layer, value, i=i, point=point, name=name, wanted=wanted):
                if (kind, layer) != point:
                    return value
                value, new = value.clone(), wanted[i].to(value.dtype)
                if name in ("a0.h1", "m0.n7"):
                    unit = 1 if name == "a0.h1" else 7
                    value[0, :, unit] = new[:, unit]
                else:
                    value[0] = new
                return value

            with torch.no_grad():
                logits = model.run(batch.clean, batch.mask, tap)
            metric = check_metric("logit_diff")(logits, batch.pairs)
            assert found[i] == pytest.approx(float(metric), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ablation", OUTSIDE)
def test_the_whole_model_as_a_circuit_is_the_clean_run(family, ablation, pairs):
    model = opened(family)
    clean = run_ablated(model, pairs, [], "zero")
    whole = run_circuits(model, pairs, [edges(model.anatomy)], ablation=ablation)[0]
    np.testing.assert_allclose(whole, clean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ablation", OUTSIDE)
def test_the_empty_circuit_has_every_sender_ablated(family, ablation, pairs):
    model = opened(family)
    senders = ["input", "m0", "m1", *(f"a{layer}.h{h}" for layer in (0, 1) for h in range(4))]
    empty = run_circuits(model, pairs, [[]], ablation=ablation, batch_size=3)[0]
    everything = run_ablated(model, pairs, senders, ablation, batch_size=5)
    np.testing.assert_allclose(empty, everything, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
@pytest.mark.parametrize("ablation", OUTSIDE)
def test_all_edges_of_a_sender_are_the_sender(family, ablation, pairs):
    """Cutting every edge out of a head ablates that head, and nothing else."""
    model = opened(family)
    out = [edge for edge in edges(model.anatomy) if edge.sender.name == "a0.h1"]
    by_edges = run_ablated(model, pairs, out, ablation)
    if family == "gemma2":
        # Under a post-norm a head's share is normed with the scale of the run it comes from.
        assert np.isfinite(by_edges).all()
        return
    np.testing.assert_allclose(
        by_edges, run_ablated(model, pairs, ["a0.h1"], ablation), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("site", SITES)
def test_batch_size_does_not_matter(site, pairs):
    model = opened("llama")
    for ablation in OUTSIDE:
        one = run_ablated(model, pairs, [site], ablation, batch_size=1)
        all_at_once = run_ablated(model, pairs, [site], ablation, batch_size=8)
        np.testing.assert_allclose(one, all_at_once, rtol=1e-4, atol=1e-4)


EACH = ["m1.n7", "a1.h3", "input", "m0", "attn_out.1", "resid_post.0", "m0.n7", "resid_pre.1"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ablation", OUTSIDE)
def test_effects_of_sites_one_by_one_are_what_each_ablation_changes(family, ablation, pairs):
    """The slow definition: a whole run for every site."""
    model, sites = opened(family), [*EACH, "a0.h1.k", "a0.h1.q", "a1.h0.v"]
    clean = run_ablated(model, pairs, [], "zero")
    wanted = np.stack([clean - run_ablated(model, pairs, [site], ablation) for site in sites])
    for size in (3, 8):
        found = effects_ablated(model, pairs, sites, ablation, batch_size=size)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-4)


def test_effects_of_sites_are_counted_and_refused(pairs):
    model, seen = opened("gpt2"), []
    options = Sweep(4, progress=lambda *at: seen.append(at))
    effects_ablated(model, pairs, EACH, "zero", batch_size=options)
    assert seen[-1][:2] == (len(pairs) * len(EACH), len(pairs) * len(EACH))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    with pytest.raises(SiteError, match="whole sites"):
        effects_ablated(model, pairs, ["m0", "m1@X"], "zero")
    with pytest.raises(SiteError, match="nothing can stand in"):
        effects_ablated(model, pairs, ["logits"], "zero")
    with pytest.raises(SiteError, match="says itself where it acts"):
        effects_ablated(model, pairs, ["m0"], "cama:0")


def sees(kind, query, key, length):
    """May a query see a key, both counted from the first real token?"""
    own = key in (query, 0)
    last = query == length - 1
    return {"full-peek": last or own, "self-peek": own, "cut-last": own or not last}[kind]


@pytest.mark.parametrize("head", [None, 1])
@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "gemma2"])
def test_attention_is_cut_as_defined(family, kind, head, pairs):
    """Every prompt alone and without padding, with the weights of what is cut set to zero."""
    model, layers = opened(family), (0, 1)
    cut = AttentionCut(kind, *layers, head)
    found = run_ablated(model, pairs, [], cut, batch_size=3)
    for i in range(len(pairs)):
        batch = Batch.of(model, pairs[[i]])
        length = batch.clean.shape[1]

        def tap(point, layer, value, length=length):
            if point != "pattern" or layer not in layers:
                return value
            value = value.clone()
            for query in range(length):
                for key in range(query + 1):
                    if not sees(kind, query, key, length):
                        value[:, slice(None) if head is None else head, query, key] = 0
            return value / value.sum(-1, keepdim=True)

        with torch.no_grad():
            logits = model.run(batch.clean, batch.mask, tap)
        expected = check_metric("logit_diff")(logits, batch.pairs)
        assert found[i] == pytest.approx(float(expected), abs=1e-4)


def test_a_site_at_a_position_leaves_the_others_alone(pairs):
    model = opened("gpt2")
    late = run_ablated(model, pairs, ["m1@X"], "zero")
    np.testing.assert_allclose(late, run_ablated(model, pairs, [], "zero"), atol=1e-5)
    end = run_ablated(model, pairs, ["m1@END"], "zero")
    np.testing.assert_allclose(end, run_ablated(model, pairs, ["m1"], "zero"), atol=1e-5)


def test_the_corrupted_circuit_needs_no_further_pass(pairs):
    """Off-values by name and off-values by hand are the same run."""
    model, pairs = opened("gpt2"), pairs[:4]
    batch = one_batch(model, pairs)
    found = values(model, batch, "corrupted")
    given = {point: found[point] for point in points_of(layout_of(model.anatomy))}
    wiring = EdgeSet.of(["input->a0.h0<v>", "a0.h0->logits"], model.anatomy)
    plain = CircuitRunner(model, batch).logits(wiring)
    assert torch.allclose(CircuitRunner(model, batch, given).logits(wiring), plain, atol=1e-5)


def test_all_edges_without_some_are_the_rest():
    anatomy = opened("gpt_neox").anatomy
    every = list(edges(anatomy))
    out, rest = every[::3], [edge for i, edge in enumerate(every) if i % 3]
    left = EdgeSet.all(layout_of(anatomy)) - EdgeSet.of(out, anatomy)
    assert left == EdgeSet.of(rest, anatomy)
    assert list(left) == rest


@pytest.mark.parametrize(
    ("what", "ablation", "says"),
    [
        (["a9.h0"], "zero", "nearest is 'a1.h0'"),
        (["logits"], "zero", "nothing can stand in"),
        (["a0.h0.pattern"], "mean", "nothing can stand in"),
        (["m0@Y"], "zero", "name the positions X, END"),
        (["m0@7"], "zero", "shortest prompt has 7 tokens"),
        (["m0", "input->m0"], "zero", "not both"),
        (["m0"], "cama:0", "says itself where it acts"),
        ([], "cama:7", "layers are 0 to 1"),
    ],
)
def test_sites_that_are_refused(what, ablation, says, pairs):
    with pytest.raises(SiteError, match=says):
        run_ablated(opened("gpt2"), pairs, what, ablation)


def test_ablations_that_are_refused(pairs):
    model = opened("gpt2")
    with pytest.raises(MethodError, match="no edge owns"):
        run_circuits(model, pairs, [[]], ablation="cama:0")
    with pytest.raises(MethodError, match="cuts attention"):
        run_circuits(model, pairs, [[]], ablation="self-peek:1")
    with pytest.raises(MethodError, match="layers 0 to 1 and heads 0 to 3"):
        run_ablated(model, pairs, [], "cut-last:2")
    with pytest.raises(MethodError, match="prompt 1 is the only one of 7 tokens"):
        run_ablated(model, make_pairs(n=3, padding=(0, 2, 0)), ["m0"], "resample:1")
    means = estimate_means(model, pairs, [("mlp_out", 0)], "position")
    with pytest.raises(MethodError, match="needs means by all, given means by position"):
        run_ablated(model, pairs, ["m0"], "mean", means=means)
