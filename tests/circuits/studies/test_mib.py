"""The circuit track: the protocol against its definition, its files, and what is refused."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.evaluation.curves import SIZES
from circuits.evaluation.unseen import held_out
from circuits.studies.mib.cells import FILED, PUBLISHED, TASKS
from graphs import from_scores
from graphs.formats.mib import scores_from_mib
from patching.scoring import score
from tasks.errors import MethodError

N = 6


@pytest.fixture(scope="module")
def model():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def scored(model):
    """Scores of edges by attribution, and the prompts that circuits are measured on."""
    config = Config("ioi:corruption=s2_io_flip", "nano", n=N)
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=N, seed=0)
    return score(model, pairs, "attribution", "edge"), held_out(config, model, [pairs], N)


@pytest.fixture(scope="module")
def made(model, scored, tmp_path_factory):
    """A track, and the folder that it was written to; its reference are the strongest edges."""
    folder = tmp_path_factory.mktemp("track")
    from_scores(scored[0], 50, rule="top").save(folder / "known.json")
    track = circuits.mib(
        model,
        tasks=["ioi"],
        methods=["attribution"],
        n=N,
        test=N,
        references={"ioi": folder / "known.json"},
        out=folder / "out",
    )
    return track, folder


def trapezoid(heights):
    """The area under heights at the benchmark's sizes, a strip at a time."""
    strips = zip(SIZES, SIZES[1:], heights, heights[1:], strict=False)
    return sum((b - a) * (low + high) / 2 for a, b, low, high in strips)


@pytest.mark.parametrize(("key", "absolute"), [("cpr", False), ("cmd", True)])
def test_areas_are_those_of_circuits_evaluated_one_by_one(model, scored, made, key, absolute):
    scores, fresh = scored
    f = []
    for size in SIZES:
        circuit = from_scores(scores, int(size * len(scores)), absolute=absolute)
        kept = circuits.evaluate(circuit, model, fresh)
        f.append(kept.faithfulness)
    wanted = trapezoid([abs(1 - x) for x in f] if key == "cmd" else f)
    row = next(made[0].cells[0].rows(0))
    assert row[key] == pytest.approx(wanted, abs=1e-5)
    low, high = row[f"{key}_interval"]
    assert low <= row[key] <= high


def test_the_benchmark_reads_every_edges_score(scored, made):
    file = made[1] / "out" / "submission-attribution" / "ioi_nano" / "importances.json"
    back = scores_from_mib(file.read_bytes())
    order = np.argsort(back.names)
    assert np.array(back.names)[order].tolist() == sorted(scored[0].names)
    assert np.allclose(
        back.values[order], scored[0].values[np.argsort(scored[0].names)], rtol=0, atol=1e-12
    )


def test_scores_know_a_reference_made_of_their_strongest(made):
    auroc = {row["method"]: row["auroc"] for row in made[0].cells[0].rows(0)}
    assert auroc["attribution"] > 0.95
    assert 0.3 < auroc["random"] < 0.7


def test_methods_are_better_than_random_scores(made):
    attribution, random = made[0].cells[0].rows(0)
    assert attribution["cpr"] > random["cpr"] + 0.3
    assert attribution["cmd"] < random["cmd"] - 0.3
    frame = made[0].to_frame()
    assert frame["method"].tolist() == ["attribution", "random"]
    assert "CPR published for other models" in str(made[0])


def test_a_task_that_the_model_does_not_do_is_left_out(model):
    track = circuits.mib(
        model, tasks=["arithmetic_subtraction"], methods=["attribution"], n=N, test=N, least=1.0
    )
    assert not track.done
    assert "is left out: the model prefers the answer on" in str(track)


def test_published_figures_are_of_tasks_of_the_track():
    for figures in PUBLISHED.values():
        assert set(figures) <= {*TASKS, *FILED}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tasks": ["iou"]}, "'iou'"),
        ({"tasks": ["arc_easy"]}, "--file arc_easy=FILE"),
        ({"files": {"ioi": "x.jsonl"}}, "ioi takes no file"),
        ({"n": 1}, "n is 1; give at least 2"),
        ({"least": 2}, "share of the prompts"),
        ({"methods": ["ig", "ig"]}, "named twice"),
        ({"methods": ["sekant"]}, "secant"),
        ({"tasks": ["ioi"], "references": {"mcqa": "x.json"}}, "which is not asked"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_opened(arguments, says, monkeypatch):
    monkeypatch.setattr("circuits.models.load_model", lambda *_: pytest.fail("opened a model"))
    with pytest.raises(MethodError, match=says):
        circuits.mib("nano", **arguments)


def test_the_command_prints_what_it_wrote(tmp_path, made):
    words = f"mib --task ioi --n {N} --test {N} --method attribution --json --out {tmp_path / 'a'}"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "a" / "mib.json").read_text(encoding="utf-8"))
    mine = made[0].to_json()["tasks"][0]
    assert printed["tasks"][0]["areas"][0]["cpr"] == pytest.approx(mine["areas"][0]["cpr"])
    assert CliRunner().invoke(app, words.split()).exit_code == 2


@pytest.mark.parametrize("given", ["--file=arc_easy", "--reference==x.json"])
def test_a_name_without_a_path_is_refused(given):
    done = CliRunner().invoke(app, ["mib", given])
    assert done.exit_code == 2
    assert "write each task once, as in" in done.output
