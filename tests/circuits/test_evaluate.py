"""The faithfulness of a circuit from the metrics of three runs."""

import json

import numpy as np
import pytest

from circuits.evaluate import summarize

FULL = np.array([3.0, 5.0])
EMPTY = np.array([-1.0, -3.0])


def test_faithfulness_is_the_share_recovered():
    report = summarize("logit_diff", FULL, EMPTY, np.array([2.0, 3.0]))
    assert (report.full, report.empty, report.circuit, report.n) == (4.0, -2.0, 2.5, 2)
    assert report.faithfulness == pytest.approx(4.5 / 6)
    assert report.per_prompt == (2.0, 3.0)


@pytest.mark.parametrize(("circuit", "share"), [(FULL, 1.0), (EMPTY, 0.0), (FULL * 2, 10 / 6)])
def test_the_ends_of_the_scale(circuit, share):
    assert summarize("m", FULL, EMPTY, circuit).faithfulness == pytest.approx(share)


def test_the_interval_holds_the_estimate_and_is_drawn_with_the_seed():
    rng = np.random.default_rng(0)
    full, empty = rng.normal(4, 1, 50), rng.normal(-4, 1, 50)
    circuit = 0.7 * full + 0.3 * empty + rng.normal(0, 1, 50)
    report = summarize("m", full, empty, circuit, seed=3)
    low, high = report.interval
    assert low < report.faithfulness < high
    assert high - low < 0.2
    assert report == summarize("m", full, empty, circuit, seed=3)
    assert report.interval != summarize("m", full, empty, circuit, seed=4).interval


def test_equal_prompts_have_an_interval_of_no_width():
    one = np.ones(5)
    low, high = summarize("m", 2 * one, 0 * one, one).interval
    assert low == high == 0.5


def test_a_single_prompt_has_no_interval_and_that_is_said():
    report = summarize("m", FULL[:1], EMPTY[:1], np.array([2.0]))
    assert (report.faithfulness, report.interval) == (0.75, None)
    assert "75.0% (no interval: more than one prompt pair is needed" in str(report)
    assert repr(report) == "Evaluation(m, 1 prompt pair: faithfulness 0.750)"
    assert report.to_frame()["low"].isna().all()


def test_a_difference_within_noise_is_nothing_to_recover():
    """Means of .02 and .03 that prompts scatter around by 1 say nothing of any circuit."""
    rng = np.random.default_rng(0)
    full, empty, circuit = rng.normal([[0.02], [0.03], [0.025]], 1, (3, 32))
    report = summarize("m", full, empty, circuit)
    assert (report.faithfulness, report.interval) == (None, None)
    assert "undefined: the model does not distinguish the two runs" in str(report)


def test_nothing_to_recover_is_said_and_is_no_number():
    report = summarize("m", FULL, FULL, FULL)
    assert report.faithfulness is None
    assert report.interval is None
    assert "undefined" in str(report)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["faithfulness"] is None


def test_a_table_in_text_and_in_html_with_names_escaped():
    report = summarize("<b>&m", FULL, EMPTY, FULL)
    assert "<b>&m, clean" in str(report)
    assert "&lt;b&gt;&amp;m, clean" in report._repr_html_()
    assert "<b>" not in report._repr_html_()
    assert "100.0%" in str(report)
