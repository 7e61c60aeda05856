"""Named parts ablated all at once: the exact effect, per prompt, and what cannot be ablated."""

import json
import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.ablation import ablate
from circuits.cli.app import app
from tasks.errors import CircuitsError, MethodError, SiteError
from tests.known import interchange


@pytest.fixture(scope="module")
def pairs():
    return interchange.pairs(12)


@pytest.fixture(scope="module")
def model():
    return interchange.opened()


def exact(model, pairs, level, **kind):
    return circuits.score(model, pairs, "activation", level, **kind)


@pytest.mark.parametrize("level", ["node", "edge"])
def test_one_part_gives_its_exact_effect(model, pairs, level):
    scores = exact(model, pairs, level)
    for name in scores.names[:: max(1, len(scores.names) // 12)]:
        found = ablate(model, pairs, name)
        assert found.effect == pytest.approx(scores[name], abs=1e-5)


def test_parts_act_together(model, pairs):
    """Ablating all heads and MLPs and the input gives the corrupted run."""
    every = exact(model, pairs, "node").names
    found = ablate(model, pairs, every)
    np.testing.assert_allclose(found.ablated, found.corrupted, atol=1e-5)
    assert found.share == pytest.approx(1, abs=1e-6)


def test_the_table_and_the_frame_say_the_same(model, pairs):
    found = ablate(model, pairs, ["m0"], "zero")
    frame = found.to_frame()
    assert frame["effect"].mean() == pytest.approx(found.effect)
    low, high = found.interval
    assert low <= found.effect <= high
    assert f"{found.effect:+.4f}" in str(found)
    assert found.to_json()["effect"] == found.effect
    assert "m0" in repr(found)


def test_a_single_prompt_has_no_interval_and_that_is_said(model):
    found = ablate(model, interchange.pairs(1), "m0")
    assert found.interval is None
    assert "(no interval: more than one prompt pair is needed for one)" in str(found)
    assert repr(found).endswith("on 1 prompt pair)")
    json.dumps(found.to_json(), allow_nan=False)


def test_a_result_can_be_compared_copied_and_kept_in_a_set(model, pairs):
    found = ablate(model, pairs, "m0")
    again = pickle.loads(pickle.dumps(found))
    assert found == found
    assert found != again
    assert again.effect == found.effect
    assert len({found, again}) == 2


def test_the_interval_is_of_the_seed_and_narrows_with_prompts(model):
    few, many = (ablate(model, interchange.pairs(n), "m0") for n in (8, 120))
    assert np.diff(few.interval) > np.diff(many.interval)
    assert few.interval == ablate(model, interchange.pairs(8), "m0").interval


def test_attention_cuts_and_cama_say_themselves_where_they_act(model, pairs):
    assert ablate(model, pairs, ablation="full-peek:0").what == ()
    assert ablate(model, pairs, ablation="cama:0").ablation == "cama:0"
    with pytest.raises(SiteError, match="says itself where it acts"):
        ablate(model, pairs, "m0", "cama:0")


@pytest.mark.parametrize(
    ("what", "ablation", "error", "words"),
    [
        ((), "zero", MethodError, "name a site or an edge to ablate"),
        ("m9", "zero", SiteError, "the nearest is 'm"),
        ("m0@NOWHERE", "zero", SiteError, "positions"),
        (("m0", "m0->logits"), "zero", SiteError, "not both at once"),
        ("m0->logits<q>", "zero", SiteError, "no port 'q'"),
        ("logits->m0", "zero", SiteError, "cannot send"),
        ("m0", "zerro", MethodError, "did you mean 'zero'"),
    ],
)
def test_what_cannot_be_ablated_is_refused(model, pairs, what, ablation, error, words):
    with pytest.raises(error) as caught:
        ablate(model, pairs, what, ablation)
    assert words in str(caught.value)
    assert isinstance(caught.value, CircuitsError)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    made = interchange.pairs(8)
    keys = ("clean", "corrupted", "answer", "counterfactual")
    columns = [getattr(made, key).tolist() for key in keys]
    rows = dict.fromkeys(
        json.dumps(dict(zip(keys, r, strict=True))) for r in zip(*columns, strict=True)
    )
    path = tmp_path_factory.mktemp("ablate") / "prompts.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def cli(*arguments):
    return CliRunner().invoke(app, ["ablate", *map(str, arguments)])


def test_the_command_prints_what_the_function_finds(prompts):
    done = cli(prompts, "m0", "--model", interchange.SHIPPED, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found = ablate(circuits.load_model(interchange.SHIPPED), circuits.load_pairs(prompts), "m0")
    assert told["effect"] == pytest.approx(found.effect)
    assert "effect" in cli(prompts, "m0", "--model", interchange.SHIPPED).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m99"], "the nearest is"),
        (["m0", "--ablation", "zero", "--means", "x.safetensors"], "takes no such means"),
        (["m0", "--metric", "logitdiff"], "'logitdiff' is not one of 'logit_diff'"),
        ([], "name a site or an edge"),
    ],
)
def test_the_command_says_what_is_wrong(prompts, arguments, words):
    done = cli(prompts, *arguments, "--model", interchange.SHIPPED)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["a3h0"], "circuits: 'a3h0' is not a site"),
        (["a3h0", "m0->a1.h0", "m0"], "these cannot be ablated:\n  'a3h0' is not a site"),
        ([], "name a site or an edge"),
    ],
)
def test_names_that_are_none_are_refused_before_the_model_is_opened(
    prompts, monkeypatch, parts, words
):
    monkeypatch.setattr("circuits.models.load_model", lambda *_: pytest.fail("opened"))
    done = cli(prompts, *parts, "--model", interchange.SHIPPED)
    assert done.exit_code == 2
    assert words in done.stderr
