"""Validation on the embedded model: exact beside estimates, as a table, a file and a picture."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.cli.validate import _print
from circuits.models import load_model
from circuits.results.pictures import save
from circuits.validation.forecast import Forecast, affordable, in_words
from circuits.validation.plot import COLOURS, scatter
from circuits.validation.validation import KINDS, METHODS, parse_method, validate
from tasks.errors import MethodError


@pytest.fixture(scope="module")
def found():
    import tasks

    model = load_model("nano")
    pairs = tasks.get("ioi").pairs(model.tokenizer, n=6, seed=0)
    methods = ("attribution:qk_fix=true", "secant", "ensemble")
    return validate(model, pairs, methods, ("mlp_out", "z", "q"))


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
        save(scatter(found), tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two


def test_the_default_table_fits_eighty_columns(found, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    row = found.comparisons[0]
    rows = [replace(row, method=method, kind=kind) for method in METHODS for kind in KINDS]
    _print(replace(found, comparisons=tuple(rows)))
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if "\u2026" in line]
    share = f"{row.measures['pearson'].value:.2f}"
    assert lines[2].split()[1:9] == [share] * 8
    wide = row.measures["pearson"].high - row.measures["pearson"].low
    told = " ".join(" ".join(lines).split())
    assert f"at most {wide:.2f} wide for half of them, {wide:.2f} for all (--out" in told


def test_both_axes_of_a_small_plot_have_the_same_scale(found):
    for axes in scatter(found).axes:
        assert axes.get_xlim() == axes.get_ylim()
        low, high = axes.get_xlim()
        sites = [line for line in axes.get_lines() if line.get_label() in COLOURS]
        assert len(sites) == len(COLOURS)
        assert all(low < value < high for line in sites for value in line.get_ydata())


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


def test_an_unknown_kind_or_direction_is_refused_before_the_model_is_opened():
    result = CliRunner().invoke(app, ["validate", "ioi", "--kind", "resid_per"])
    assert result.exit_code == 2
    assert "unknown kind of site 'resid_per'; did you mean 'resid_pre'" in result.stderr
    with pytest.raises(MethodError, match="did you mean 'noising'"):
        validate(None, None, directions=("noisng",))
    with pytest.raises(MethodError, match="pattern=detach gives sites of kind q no gradient"):
        validate(None, None, ["relevance:rules=relp,pattern=detach"], ["z", "q"])


def test_a_folder_that_holds_something_else_is_not_written_to(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    for force in ([], ["--force"]):
        result = CliRunner().invoke(app, ["validate", "ioi", "--out", str(tmp_path), *force])
        assert result.exit_code == 2
        assert "not a validation; choose another --out" in result.stderr
        assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


def test_a_calibration_gives_way_only_when_it_is_asked_to(tmp_path):
    asked = ["validate", "ioi", "--n", "4", "--method", "attribution", "--kind", "z"]
    asked += ["--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 2
    assert "holds a validation already; choose another --out, or replace it" in again.stderr
    assert CliRunner().invoke(app, [*asked, "--force"]).exit_code == 0
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["validation.csv", "validation.json", "validation.svg"]


def test_kinds_estimated_in_one_go_agree_with_each_alone(found):
    import tasks

    model = load_model("nano")
    pairs = tasks.get("ioi").pairs(model.tokenizer, n=6, seed=0)
    methods = ("attribution:qk_fix=true", "secant", "ensemble")
    for kind in ("z", "q"):
        alone = validate(model, pairs, methods, (kind,))
        together = [c for c in found.comparisons if c.kind == kind]
        assert [(c.method, c.direction) for c in alone.comparisons] == [
            (c.method, c.direction) for c in together
        ]
        for one, other in zip(alone.comparisons, together, strict=True):
            assert one.names == other.names
            np.testing.assert_allclose(one.estimate, other.estimate, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(one.exact, other.exact, rtol=1e-4, atol=1e-6)


def test_a_sample_of_sites_is_drawn_counted_and_said(found):
    import tasks

    model, seen = load_model("nano"), []
    pairs = tasks.get("ioi").pairs(model.tokenizer, n=6, seed=0)
    few = validate(
        model, pairs, ["secant"], ["z", "mlp_out"], sites=5, seed=3,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    whole = {
        (c.kind, c.direction): dict(zip(c.names, c.exact, strict=True)) for c in found.comparisons
    }
    for c in few.comparisons:
        assert len(c.names) == 5
        for name, exact in zip(c.names, c.exact, strict=True):
            assert exact == pytest.approx(whole[c.kind, c.direction][name], abs=1e-5)
    assert few.to_json()["sites"]["z"] == {"compared": 5, "all": 16}
    assert "5 of 16 z" in few.sampled()
    assert found.sampled() == ""
    done, total, _ = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert set(total) == {done[-1]}
    with pytest.raises(MethodError, match="at least 2"):
        validate(model, pairs, ["secant"], ["z"], sites=1)


def test_a_forecast_counts_what_is_run_and_names_a_smaller_setting():
    work = Forecast(
        exact={"z": 90.0, "q": 30.0},
        estimates={("z", "q"): {"secant": 8.0, "ensemble": 72.0}},
        sites={"z": (96, 270), "q": (90, 90)},
        directions=2,
        pass_seconds=6.0,
    )
    assert work.passes == 400.0
    first, second = work.lines(32)
    assert first == "This takes about 40 minutes; a sample: 96 of 270 sites of kind z."
    assert second.startswith("--n 16 takes about 20 minutes. The exact effects are about 24 min")
    assert "the slowest estimate, ensemble, about 14 minutes (--method)" in second
    assert replace(work, pass_seconds=0.1).lines(32) == [
        "This takes about 40 seconds; a sample: 96 of 270 sites of kind z."
    ]
    assert in_words(1) == "about 1 second"


@pytest.mark.parametrize(("passes", "expected"), [(1e3, 32), (2e9, 16), (4e9, 8), (1e13, 8)])
def test_fewer_pairs_are_compared_where_nobody_says_and_it_would_take_long(passes, expected):
    """32 pairs of 16 tokens and 50 weights: 25,600 products a pass."""
    work = Forecast({"resid_pre": passes}, {}, {}, 1, 1.0)
    model = SimpleNamespace(hf=torch.nn.Linear(9, 5))
    pairs = Sized(np.ones((32, 16), dtype=bool))
    assert affordable(work, model, pairs) == expected


@dataclass(frozen=True)
class Sized:
    """As much of prompt pairs as counts: how many tokens they have."""

    mask: np.ndarray

    def __len__(self):
        return len(self.mask)
