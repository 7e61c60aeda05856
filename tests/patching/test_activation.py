"""Exact effects against their definition, one patched run of the whole model at a time."""

import copy

import numpy as np
import pytest
import torch

from patching import activation, sitesets
from patching.ablation.run import baselines
from patching.activation import EDGE_KINDS, ExactSweep
from patching.model import Model
from patching.nodes.edges import edges as all_edges
from patching.partial_forward import Resumption
from patching.scoring import score
from patching.setting import Setting
from patching.sitesets import label_columns, site_set
from tests import definitions, families

EXACT = {"rtol": 0, "atol": 1e-5}


def kinds_of(model):
    return sitesets.kinds_of(model.anatomy)


def sweep_sites(model, pairs, direction, kind, positions):
    batch = families.one_batch(model, pairs)
    wanted = site_set(kind, model.anatomy, pairs, positions)
    setting = Setting(model, batch, families.LOGIT_DIFF, direction)
    with torch.no_grad():
        found = torch.cat(list(ExactSweep(setting, wanted.kinds).sites(wanted)), dim=1)
    assert found.shape == (len(pairs), len(wanted.names))
    return wanted, found


def expected_sites(runs, wanted, every):
    """The definition of every ``every``-th site, in order, and which those are."""
    places = [
        (site, label) for group in wanted.groups for site in group.sites for label in wanted.labels
    ]
    which = list(range(0, len(places), every))
    columns = {
        label: None if label is None else label_columns([label], runs.batch)[:, 0]
        for label in wanted.labels
    }
    rows = [definitions.exact_site(runs, places[i][0], columns[places[i][1]]) for i in which]
    return which, torch.stack(rows, dim=1)


def test_sites_are_what_one_patched_run_each_gives(model, pairs, direction):
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for kind in kinds_of(model):
        for positions in ("all", "named"):
            wanted, found = sweep_sites(model, pairs, direction, kind, positions)
            which, expected = expected_sites(runs, wanted, 31 if kind == "neuron" else 3)
            torch.testing.assert_close(
                found[:, which], expected, **EXACT, msg=f"{kind} {positions}"
            )


def test_sites_at_every_token(model, direction):
    pairs = families.make_pairs(n=2, length=6, padding=(0,), differing=(0, 3))
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    for kind in ("resid_pre", "z", "k"):
        wanted, found = sweep_sites(model, pairs, direction, kind, "token")
        assert wanted.labels == tuple(range(6))
        which, expected = expected_sites(runs, wanted, 3)
        torch.testing.assert_close(found[:, which], expected, **EXACT, msg=kind)


def test_nothing_moves_before_the_first_token_that_differs(gpt2, direction):
    pairs = families.make_pairs(padding=(0,))
    scores = score(
        gpt2, pairs, "activation", "site", direction, sites="resid_pre", positions="token"
    )
    for layer in range(gpt2.anatomy.n_layers):
        early = [scores[f"resid_pre.{layer}@{at}"] for at in range(4)]
        np.testing.assert_allclose(early, 0, rtol=0, atol=1e-6)
        assert abs(scores[f"resid_pre.{layer}@4"]) > 1e-3


def test_edges_are_what_one_patched_run_each_gives(model, pairs, direction):
    batch = families.one_batch(model, pairs)
    setting = Setting(model, batch, families.LOGIT_DIFF, direction)
    with torch.no_grad():
        found = ExactSweep(setting, EDGE_KINDS).edges()
    edges = list(all_edges(model.anatomy))
    assert found.shape == (len(pairs), len(edges))
    runs = definitions.Runs.of(model, batch, direction)
    expected = torch.stack([definitions.exact_edge(runs, edge) for edge in edges], dim=1)
    torch.testing.assert_close(found, expected, **EXACT)


def test_patching_everything_gives_the_other_run(model, pairs, direction):
    clean, corrupted = baselines(model, pairs)
    total = (clean - corrupted).mean()
    for kind in kinds_of(model):
        if not kind.startswith("resid"):
            continue
        scores = score(model, pairs, "activation", "site", direction, sites=kind)
        np.testing.assert_allclose(scores.values, total, rtol=0, atol=1e-5)
    nodes = score(model, pairs, "activation", "node", direction)
    assert nodes["input"] == pytest.approx(total, abs=1e-5)
    assert nodes.total_effect == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 40, 10**6])
def test_how_many_patches_ride_together_changes_nothing(gpt2, pairs, monkeypatch, rows):
    wanted = (
        {"level": "edge"},
        {"level": "site", "sites": "neuron"},
        {"level": "attention_edge", "positions": "named"},
    )
    expected = [score(gpt2, pairs, "activation", **asked) for asked in wanted]
    monkeypatch.setattr(activation, "ROW_TOKENS", rows)
    for asked, whole in zip(wanted, expected, strict=True):
        again = score(gpt2, pairs, "activation", **asked)
        np.testing.assert_allclose(again.values, whole.values, rtol=0, atol=1e-6)


def test_sites_of_padding_only_prompts_in_a_longer_batch(gpt2):
    """A pair keeps its scores when its batch has columns that are padding for all its pairs."""
    pairs = families.make_pairs(n=4, padding=(3, 3, 0, 4))
    named = {"sites": "z", "positions": "named"}
    whole = score(gpt2, pairs, "activation", "site", **named)
    parts = [score(gpt2, pairs[i], "activation", "site", **named) for i in range(4)]
    np.testing.assert_allclose(whole.totals, sum(part.totals for part in parts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_an_mlp_put_back_as_it_was_changes_nothing_in_half_precision(family, pairs):
    """The residual stream is added up again in the order of the run, so that it rounds alike."""
    hf = copy.deepcopy(families.original(family))
    model = Model.open(hf, dtype=torch.bfloat16)
    batch = families.one_batch(model, pairs)
    kept = Resumption.of(model, batch, "clean", families.LOGIT_DIFF, 0)
    for layer in range(model.anatomy.n_layers):
        with torch.no_grad():
            stream, out = (
                kept.go_on(kind, layer, kept.tail(kind, layer)[None])
                for kind in ("resid_post", "mlp_out")
            )
        assert torch.equal(stream, out)


def test_a_sample_of_sites_has_the_effects_they_have_among_all(model, pairs, direction):
    setting = Setting(model, families.one_batch(model, pairs), families.LOGIT_DIFF, direction)
    for kind in kinds_of(model):
        wanted, every = sweep_sites(model, pairs, direction, kind, "named")
        some = wanted.sample(5, seed=1)
        assert len(some) == len(some.names) == min(5, len(wanted.names))
        which = [wanted.names.index(name) for name in some.names]
        assert which == sorted(which)
        with torch.no_grad():
            found = torch.cat(list(ExactSweep(setting, wanted.kinds).sites(some)), dim=1)
        torch.testing.assert_close(found, every[:, which], **EXACT, msg=kind)
        torch.testing.assert_close(some.select(every), every[:, which], rtol=0, atol=0)


def test_samples_follow_the_seed_and_nest(gpt2):
    wanted = site_set("z", gpt2.anatomy, families.make_pairs(), "named")
    assert wanted.sample(4, 0) == wanted.sample(4, 0) != wanted.sample(4, 1)
    assert wanted.sample(len(wanted), 0) == wanted
    assert set(wanted.sample(6, 0).sample(3, 0).names) < set(wanted.sample(6, 0).names)
