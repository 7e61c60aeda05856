"""Discoveries made again on resamples of their prompts, and the intervals that come of it."""

import json
from functools import cache

import numpy as np
import pytest

from circuits.config import Config
from circuits.discover import find, measure
from circuits.evaluate import edges_of
from circuits.evaluation.areas import KINDS
from circuits.evaluation.curves import plan, run_plans
from circuits.evaluation.running import Running
from circuits.held_out.rediscovery import rediscover, spread
from circuits.results.intervals import RESAMPLES, percentiles
from patching.ablation.run import baselines
from patching.circuit_run import run_circuits
from tasks.errors import RunError
from tests.known import interchange

CIRCUIT = list(interchange.CIRCUIT)
CONFIG = Config(None, None, "secant", top=8)


@cache
def used():
    return interchange.pairs(20, 1)


@cache
def pairs():
    return interchange.pairs(24, 2)


@cache
def found(times=4, **changes):
    return rediscover(CONFIG, interchange.opened(), used(), pairs(), CIRCUIT, times, seed=3)


def test_every_redraw_is_a_discovery_on_resampled_prompts():
    model, rng = interchange.opened(), np.random.default_rng(3)
    full, empty = (values.mean() for values in baselines(model, pairs()))
    for k in range(4):
        some = used()[rng.integers(len(used()), size=len(used()))]
        scored = measure(CONFIG, model, some)
        circuit = find(CONFIG, scored, model, some)
        alone = run_circuits(model, pairs(), [edges_of(circuit)]).mean()
        share = (alone - empty) / (full - empty)
        assert found().faithfulness[k, 0] == pytest.approx(share, abs=1e-5)
        assert found().sizes[k] == len(circuit)
        (curve,) = run_plans(model, pairs(), [plan(scored.scores, "absolute")])
        assert found().areas["cmd"][k, 0] == pytest.approx(curve.area("cmd"), abs=1e-5)


def test_stability_counts_the_circuits_that_hold_an_edge():
    known = found()
    assert set(known.stability) == set(CIRCUIT)
    shares = np.array([*known.stability.values(), *known.others.values()])
    assert set(shares * 4) <= {0, 1, 2, 3, 4}
    assert min(known.others.values(), default=1) >= 0.5
    assert known.kept == pytest.approx(np.mean(list(known.stability.values())))
    assert known.stability["m1->logits"] == 1


def test_the_interval_over_both_draws_is_wider_than_over_either():
    values = found().faithfulness
    assert values.shape == (4, 1 + RESAMPLES)
    low, high = percentiles(values)
    one = percentiles(values[:, :1])
    assert low <= one[0]
    assert high >= one[1]
    assert spread(values)["mean"] == pytest.approx(values[:, 0].mean())
    assert spread(values[:1])["standard_deviation"] is None
    assert percentiles(np.full((2, 2), np.nan)) is None


def test_plain_values_and_rows():
    told = found().to_json()
    assert json.loads(json.dumps(told, allow_nan=False))["areas"].keys() == {*KINDS}
    assert told["times"] == len(told["edges"]) == 4
    assert set(found().rows()) == {"prompts redrawn", "CPR, CMD redrawn", "stable edges"}
    assert "faithfulness, prompts redrawn" in found().measures()


def test_a_choice_that_runs_the_model_is_made_again_as_well():
    config = Config(None, None, "secant,attribution", select="acdc:least=1.0+start=12")
    running = Running(ablation="mean")
    again = rediscover(config, interchange.opened(), used(), pairs(), CIRCUIT, 2, running=running)
    assert again.times == 2
    assert max(again.sizes) <= 12


@pytest.mark.parametrize(("times", "count"), [(1, 20), (0, 20), (2, 1)])
def test_no_spread_of_one(times, count):
    with pytest.raises(RunError, match="tell no spread"):
        rediscover(CONFIG, interchange.opened(), used()[:count], pairs(), CIRCUIT, times)
