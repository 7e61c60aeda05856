"""Scores as values: sums that add, files that read back, numbers that must be finite."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file

from patching.anatomy import Anatomy
from patching.scores import SCHEMA_VERSION, Scores
from tasks.errors import FormatError, MethodError, SiteError

ANATOMY = Anatomy(n_layers=1, n_heads=2, n_kv_heads=1, d_model=4, d_head=2, d_mlp=8)
NAMES = ("input", "a0.h0", "a0.h1", "m0")


def make(totals=(3.0, -6.0, 0.0, 1.5), count=3, **changes):
    settings = {
        "level": "node",
        "method": "secant",
        "direction": "noising",
        "metric": "logit_diff",
        "anatomy": ANATOMY,
        "squares": np.square(totals) / max(count, 1),
        "clean": 6.0,
        "corrupted": -3.0,
        "task": "ioi",
        "model_hash": "abc",
        "options": {"share": 1.0, "rules": "relp"},
    }
    return Scores(NAMES, np.array(totals), count, **(settings | changes))


def same(one, other):
    return one.describe() == other.describe() and all(
        np.array_equal(getattr(one, what), getattr(other, what))
        for what in ("names", "totals", "squares")
    )


def test_values_are_means_over_prompts():
    scores = make()
    assert scores.values.tolist() == [1.0, -2.0, 0.0, 0.5]
    assert scores["a0.h0"] == -2.0
    assert scores.total_effect == 3.0
    assert list(scores) == list(NAMES)
    assert len(scores) == 4
    assert "secant, node, noising, 4 names, 3 prompts" in repr(scores)


def test_ranking_by_size_or_by_sign_keeps_ties_in_order():
    scores = make((1.0, -2.0, 2.0, 1.0))
    assert scores.ranked() == ["a0.h0", "a0.h1", "input", "m0"]
    assert scores.ranked(absolute=False) == ["a0.h1", "input", "m0", "a0.h0"]


@given(arrays.arrays(np.float64, (7, 4), elements=st.floats(-1e6, 1e6)), st.integers(1, 6))
def test_sums_over_parts_are_sums_over_all(each, cut):
    def of(rows):
        return make(rows.sum(0), len(rows), squares=np.square(rows).sum(0))

    whole, added = of(each), of(each[:cut]) + of(each[cut:])
    assert added.count == 7
    np.testing.assert_allclose(added.values, whole.values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(added.squares, whole.squares, rtol=1e-9, atol=1e-6)
    assert added.clean == 12.0


def test_the_standard_error_is_that_of_a_mean():
    rows = np.random.default_rng(0).normal(size=(9, 4))
    scores = make(rows.sum(0), 9, squares=np.square(rows).sum(0))
    np.testing.assert_allclose(scores.standard_error, rows.std(0, ddof=1) / 3, rtol=1e-9)
    assert make(count=1).standard_error is None
    assert make(squares=None).standard_error is None
    assert (make() + make(squares=None)).squares is None


@pytest.mark.parametrize(
    "change",
    [
        {"level": "edge"},
        {"method": "ig"},
        {"direction": "denoising"},
        {"metric": "log_prob"},
        {"anatomy": replace(ANATOMY, n_layers=2)},
        {"model_hash": "def"},
    ],
)
def test_scores_of_different_things_do_not_add(change):
    with pytest.raises(MethodError, match=f"cannot add scores whose {next(iter(change))} differ"):
        make() + make(**change)


def test_scores_under_different_options_do_not_add():
    with pytest.raises(MethodError, match="cannot add scores whose options differ"):
        make() + make(options={"share": 0.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"totals": (1.0, 2.0)}, r"4 names for totals of shape \(2,\)"),
        ({"squares": np.ones(3)}, r"totals of shape \(4,\) and squares of \(3,\)"),
        ({"level": "nodes"}, "level 'nodes' is none of node, edge, site, attention_edge"),
        ({"direction": "both"}, "direction 'both' is none of noising, denoising"),
        ({"count": 0, "squares": None}, "count is 0; scores need at least one prompt"),
    ],
)
def test_parts_that_do_not_fit(change, message):
    with pytest.raises(MethodError, match=message):
        make(**change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_names_its_site(bad):
    with pytest.raises(MethodError, match=r"2 scores are not finite numbers, first at a0\.h0"):
        make((1.0, bad, 0.0, bad))


def test_an_unknown_name_is_said_with_the_nearest():
    with pytest.raises(SiteError, match=r"no score for 'a0\.h2'; did you mean 'a0\.h[01]'"):
        make()["a0.h2"]


def test_a_frame_has_a_row_per_name():
    frame = make().to_frame()
    assert list(frame.columns) == ["name", "score", "standard_error"]
    assert frame["name"].tolist() == list(NAMES)
    assert frame["score"].tolist() == [1.0, -2.0, 0.0, 0.5]
    assert "standard_error" not in make(squares=None).to_frame()


@pytest.mark.parametrize("squares", [np.ones(4), None])
def test_a_file_reads_back(tmp_path, squares):
    path = tmp_path / "scores.safetensors"
    scores = make(squares=squares)
    scores.save(path)
    assert same(Scores.load(path), scores)
    make((0.0, 0.0, 0.0, 9.0)).save(path)
    assert Scores.load(path)["m0"] == 3.0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_same_scores_are_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        make().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def rewritten(path, change):
    """The file with its header changed."""
    make().save(path)
    header = make().describe() | {"names": NAMES} | change
    header = {key: value for key, value in header.items() if value is not ...}
    save_file(load_file(path), path, {"scores": json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "schema version 2; this program reads 1"),
        ({"schema_version": ...}, "schema version None"),
        ({"names": ...}, "is not a scores file: its names are no list"),
        ({"anatomy": ...}, "is not a scores file: it has no anatomy"),
        ({"anatomy": {"n_layers": 1}}, "model anatomy"),
        ({"anatomy": ANATOMY.to_json() | {"n_layers": 10**25}}, "heads; at most 100,000 are read"),
        ({"colour": "red"}, "is not a scores file: it has 'colour'"),
        ({"names": ["input"]}, "its totals are F64 of shape .4., for 1 names"),
        ({"level": "edges"}, "is not a scores file: .*level 'edges' is none of"),
    ],
)
def test_files_that_are_not_ours_or_not_whole(tmp_path, change, message):
    with pytest.raises(FormatError, match=message):
        Scores.load(rewritten(tmp_path / "scores", change))


def test_files_that_are_no_scores(tmp_path):
    with pytest.raises(FormatError, match="gone is not a scores file"):
        Scores.load(tmp_path / "gone")
    (tmp_path / "text").write_text("{}")
    with pytest.raises(FormatError, match="is not a scores file"):
        Scores.load(tmp_path / "text")
    save_file({"totals": np.zeros(4)}, tmp_path / "listed", {"scores": "[1]"})
    with pytest.raises(FormatError, match="is not a scores file"):
        Scores.load(tmp_path / "listed")
    save_file({"totals": np.zeros(4)}, tmp_path / "bare")
    with pytest.raises(FormatError, match="is not a scores file"):
        Scores.load(tmp_path / "bare")


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scores"
    make().save(path)
    before = path.read_bytes()

    def fail(descriptor):
        os.truncate(descriptor, 7)
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        make(count=4).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_as_open_to_others_as_any_file(tmp_path):
    scores = make()
    scores.save(tmp_path / "scores.safetensors")
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
