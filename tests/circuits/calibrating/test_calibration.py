"""Calibration on the embedded model: exact beside estimates, as a table, a file and a picture."""

import json

import pytest
from typer.testing import CliRunner

from circuits.calibrating.calibration import calibrate, parse_method
from circuits.calibrating.plot import save_scatter
from circuits.cli.app import app
from circuits.models import load_model
from tasks.errors import MethodError


@pytest.fixture(scope="module")
def found():
    import tasks

    model = load_model("nano")
    pairs = tasks.get("ioi").pairs(model.tokenizer, n=6, seed=0)
    methods = ("attribution:qk_fix=true", "secant", "ensemble")
    return calibrate(model, pairs, methods, ("mlp_out", "z", "q"), resamples=20)


def test_there_is_a_row_for_every_method_kind_and_direction(found):
    frame = found.to_frame()
    assert len(frame) == 3 * 3 * 2
    assert {"pearson", "pearson_low", "recall", "signs", "seconds", "largest"} <= set(frame.columns)
    assert list(found.summary().columns) == ["mlp_out", "z", "q", "mean", "seconds"]


def test_the_secant_agrees_with_the_exact_effect_of_what_ioi_uses(found):
    assert found.summary().loc["secant", ["mlp_out", "z"]].min() > 0.95


def test_the_file_is_plain_json_and_names_every_site(found):
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    row = next(c for c in data["comparisons"] if c["kind"] == "z")
    assert len(row["names"]) == len(row["exact"]) == len(row["estimate"]) == 16
    assert data["count"] == 6


def test_the_picture_is_the_same_for_the_same_numbers(found, tmp_path):
    for name in ("one.svg", "two.svg"):
        save_scatter(found, tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attributoin", "did you mean 'attribution'"),
        ("relevance:rule=gim", "did you mean 'rules'"),
        ("ig:steps=many", "steps"),
        ("activation", "compared with"),
    ],
)
def test_wrong_methods_are_refused_before_the_model_is_opened(text, message):
    with pytest.raises(MethodError, match=message):
        parse_method(text)


def test_a_folder_that_exists_is_not_written_to(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    result = CliRunner().invoke(app, ["calibrate", "ioi", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]
