"""The search for the All-for-One stages: what it finds where they are known, what it refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
import tasks.mental_math  # noqa: F401
from circuits.cli.app import app
from circuits.results.intervals import Proportion
from circuits.results.pictures import save
from circuits.studies.allforone.plot import draw
from circuits.studies.allforone.samples import Columns, of_one_length
from circuits.studies.allforone.search import SHOWN, Putting, Settings, prompts
from circuits.studies.allforone.stages import MAIN, Stages, best, choose, closest
from circuits.studies.allforone.text import summary
from graphs import CircuitGraph
from patching.ablation.means import MeanActivations
from patching.ablation.run import run_ablated
from patching.ablation.waiting import STAND_INS
from patching.allforone.stages import PEEKS
from patching.scores import Scores
from tasks.errors import CircuitsError, FormatError, MethodError, TaskError
from tasks.pairs import PromptPairs
from tests import planted
from tests.families import make_pairs, opened


@pytest.fixture(scope="module")
def found():
    return circuits.af1(planted.opened(), planted.pairs())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The planted model as a directory that transformers opens."""
    folder = tmp_path_factory.mktemp("planted")
    planted.build().save_pretrained(folder)
    planted.tokenizer().save_pretrained(folder)
    return folder


def test_the_planted_stages_are_found(found):
    assert found.chosen == Stages(planted.WAIT, planted.TRANSFER)
    assert found.asked == Proportion(100, 100)
    assert found.faithfulness == Proportion(100, 100)
    assert found.pruned.kept == planted.HEADS
    assert found.pruned.share == Proportion(100, 100)


def test_one_block_later_all_is_lost(found):
    wait, before, after = found.cliff
    assert (wait, before.value) == (planted.WAIT, 1.0)
    assert after.value <= 0.1
    assert found.grid[planted.WAIT, planted.TRANSFER - 1].value <= 0.1
    assert {w for w, share in found.waiting.items() if share.value == 1} == {-1, 0, 1}


def test_only_the_blocks_that_transfer_are_necessary(found):
    needed = {block for block, share in found.necessity.items() if share.value < 0.5}
    assert needed == {2, 3}
    assert all(found.necessity[block].value == 1 for block in (0, 1, 4))


def test_the_grid_has_every_point_of_every_variant(found):
    points = [(w, t) for w in range(-1, 5) for t in range(5 - w)]
    for grid in found.grids.values():
        assert list(grid) == points
        assert all(share.n == 100 for share in grid.values())
    stand_ins = {f"{name}, abp" for name in STAND_INS}
    peeks = {f"cama, {peek}" for peek in PEEKS if peek != "abp"}
    assert set(found.grids) == stand_ins | peeks


def test_what_blocks_prepare_cannot_be_skipped_or_averaged_away(found):
    for name in ("zero", "mean", "mean-by-position", "skip"):
        assert best(found.grids[f"{name}, abp"], planted.WAIT).value <= 0.1


def test_the_subgraph_is_a_circuit_of_measured_effects(found, tmp_path):
    strong = {name for name in found.graph.edges if found.graph[name] > 0.5}
    assert strong == {
        "input@A->a2.h0@END<v>",
        "input@B->a3.h1@END<v>",
        "a2.h0@END->m4@END",
        "a3.h1@END->m4@END",
        "m4@END->logits",
    }
    least = SHOWN * max(abs(found.scores.values))
    assert set(found.graph.edges) == {n for n in found.scores if abs(found.scores[n]) >= least}
    found.graph.save(tmp_path / "circuit.json")
    assert CircuitGraph.load(tmp_path / "circuit.json").edges == found.graph.edges
    assert "a2.h0@END" in found.graph.to_svg()
    metrics = found.graph.info.metrics
    assert metrics.full == pytest.approx(found.evaluation.full)
    assert metrics.faithfulness == pytest.approx(1, abs=0.02)


def test_equal_arguments_find_the_same(found):
    again = circuits.af1(planted.opened(), planted.pairs(), batch_size=33, alternatives=False)
    assert again.grid == found.grid
    assert (again.waiting, again.necessity) == (found.waiting, found.necessity)
    assert again.pruned == found.pruned
    assert again.graph.edges == found.graph.edges


def test_the_task_s_own_sampler_finds_the_same_stages():
    """Random draws instead of every beginning; the result no longer has a say in them."""
    found = circuits.af1(
        planted.opened(),
        "mental_math",
        n=60,
        samples=40,
        alternatives=False,
        largest=9,
        most=18,
        split="all",
    )
    assert found.task == "mental_math"
    assert found.chosen == Stages(planted.WAIT, planted.TRANSFER)
    assert found.thin == 0
    assert found.means.origin.source == "conditional"
    assert list(found.grids) == [MAIN]


def test_the_means_of_a_search_serve_other_runs(found, tmp_path):
    """As a file, and as the ablation `cama:W` anywhere else."""
    model, pairs = planted.opened(), planted.pairs()
    found.means.save(tmp_path / "means.safetensors")
    means = MeanActivations.load(tmp_path / "means.safetensors")
    clean = run_ablated(model, pairs, [], "zero")
    waiting = run_ablated(model, pairs, [], "cama:1", means=means)
    np.testing.assert_allclose(waiting, clean, atol=0.5)
    lost = run_ablated(model, pairs, [], "cama:2", means=means)
    assert abs(lost.mean()) < 0.1 * clean.mean()
    with pytest.raises(MethodError, match="of task 'planted', these prompts of 'sums'"):
        run_ablated(model, replace(pairs, task="sums"), [], "cama:1", means=means)


def test_means_over_too_few_draws_are_counted():
    pairs = planted.pairs(40)
    every = Columns.of(pairs)

    def scarce(position, token, n, seed):
        rows = every(position, token, n, seed)
        return rows[:3] if position == 3 and token == planted.NUMBERS else rows

    found = circuits.af1(
        planted.opened(), pairs, samples=8, alternatives=False, prune=False, conditional=scarce
    )
    assert found.thin == 1
    assert "1 of them are over fewer draws than 8" in str(found)
    assert found.to_json()["conditional_means_with_fewer_samples"] == 1


def test_columns_are_drawn_independently_and_all_where_they_are_few():
    pairs = planted.pairs()
    sampler = Columns.of(pairs)
    rows = sampler(3, planted.NUMBERS + 5, 20, 0)
    assert len(rows) == 20
    assert (rows[:, 3] == planted.NUMBERS + 5).all()
    assert sorted(rows[:, 1]) == sorted([*range(3, 13)] * 2)
    few = sampler(4, planted.EQUALS, 7, 3)
    assert len(few) == 7
    np.testing.assert_array_equal(few, sampler(4, planted.EQUALS, 7, 3))


def test_the_choice_is_the_latest_wait_then_the_fewest_transfers():
    def grid(**good):
        return {
            (w, t): Proportion(100 if f"w{w}t{t}" in good else 50, 100)
            for w in range(4)
            for t in range(4 - w)
        }

    assert choose(grid(w0t3=1, w1t2=1, w1t1=1), 0.05) == Stages(1, 1)
    assert choose(grid(), 0.05) is None
    assert choose(grid(), 0.5) == Stages(3, 0)
    assert closest(grid(w0t3=1, w0t2=1)) == Stages(0, 2)
    nearly = {(0, 0): Proportion(95, 100), (1, 0): Proportion(94, 100)}
    assert choose(nearly, 0.05) == Stages(0, 0)


def test_stages_name_their_blocks_from_zero():
    text = Stages(14, 2).describe(32)
    assert text == (
        "wait: blocks 0 to 14, then CAMA on the residual after block 14; "
        "transfer: blocks 15 to 16; last token alone: blocks 17 to 31"
    )
    assert Stages(-1, 3).describe(3) == (
        "no block waits (CAMA on the embedding); transfer: blocks 0 to 2; no block computes alone"
    )
    assert "none transfers" in Stages(0, 0).describe(2)


def test_no_good_subgraph_is_said_plainly():
    model, pairs = opened("gpt2"), uniform_pairs()
    found = circuits.af1(model, pairs, tolerance=0.0, alternatives=False, samples=16)
    good = [point for point, share in found.grid.items() if share.value == 1]
    if found.chosen is None:
        assert not good
        assert "no subgraph keeps 100 %" in str(found)
        assert found.pruned is None
        assert found.cliff is None
    assert found.graph is not None


def told(found, wait, transfer):
    """The report, as if that point had been chosen."""
    at = replace(found, chosen=Stages(wait, transfer))
    return [line for line in str(at).splitlines() if line.startswith(("nothing ", "what is shown"))]


def test_an_empty_stage_is_said_plainly(found):
    """Of five blocks, 0 and 1 wait and 4 computes in what was planted."""
    assert told(found, 1, 2) == []
    assert [line.split(":")[0] for line in told(found, -1, 3)] == ["nothing waits"]
    assert [line.split(":")[0] for line in told(found, 1, 3)] == ["nothing is computed alone"]
    assert len(told(found, -1, 5)) == 3
    assert "but" not in summary(found)
    assert summary(replace(found, chosen=Stages(-1, 5)))["but"].count(";") == 2
    shown = str(replace(found, chosen=Stages(-1, 5)))
    assert "(there cama, resample, alone and skip all are the embedding itself)" in shown


def test_the_options_asked_for_are_told(found):
    assert str(found).startswith("All-for-One: planted on a model in memory\n")
    asked = replace(found, task="mental_math", model="nano", options={"form": "-"})
    assert str(asked).startswith("All-for-One: mental_math (form=-) on nano\n")
    assert asked.to_json()["options"] == {"form": "-"}


def uniform_pairs():
    """Prompts of one length whose answers are what a random model says."""
    from patching.runs import Batch

    made = make_pairs(n=30, padding=(0,), differing=(2, 4))
    rows = made.clean.copy()
    rows[:, [0, 1, 3, 5, 6, 7, 8]] = rows[0, [0, 1, 3, 5, 6, 7, 8]]
    made = replace(made, clean=rows, positions={})
    batch = Batch.of(opened("gpt2"), made)
    top = opened("gpt2").run(batch.clean, batch.mask).argmax(-1).numpy()[:, None]
    return replace(made, answer=top, counterfactual=(top + 1) % 61)


def single_tokens():
    return PromptPairs.from_tokens(clean=[[1]], corrupted=[[2]], answer=[3], counterfactual=[4])


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (make_pairs(), "prompts of one length; these are:\n  1 of 6 tokens"),
        (single_tokens(), "at least two tokens"),
    ],
)
def test_prompts_that_are_refused(pairs, says):
    with pytest.raises(TaskError, match=says):
        of_one_length(replace(pairs, positions={}))


def test_shared_padding_is_dropped():
    pairs = replace(make_pairs(padding=(3,)), positions={"END": np.full(5, 8)})
    cut = of_one_length(pairs)
    assert cut.clean.shape == (5, 6)
    assert cut.mask.all()
    assert (cut.positions["END"] == 5).all()


def test_settings_that_are_refused():
    with pytest.raises(MethodError, match=r"samples is 0; give at least 1; tolerance is 1\.5"):
        Settings(samples=0, tolerance=1.5)
    with pytest.raises(TaskError, match="unknown task 'mental_maths'; did you mean 'mental_math'"):
        circuits.af1(planted.opened(), "mental_maths")


def test_a_model_that_cannot_do_the_task_is_named():
    wrong = planted.pairs(20)
    wrong = replace(wrong, answer=wrong.answer * 0 + planted.BOS)
    with pytest.raises(MethodError, match="answers none of 20 prompts right"):
        circuits.af1(planted.opened(), wrong)


def test_the_picture_is_the_same_every_time(found, tmp_path):
    save(draw(found), tmp_path / "a.svg")
    save(draw(found, MAIN), tmp_path / "b.svg")
    save(draw(found, "zero, abp"), tmp_path / "c.png")
    first = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert first == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "CAMA on the residual after block" in first
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FormatError, match="picture format"):
        save(draw(found), tmp_path / "a.gif")
    with pytest.raises(FormatError, match="did you mean 'zero, abp'"):
        save(draw(found, "zero abp"), tmp_path / "a.svg")


def cli(*arguments):
    return CliRunner().invoke(app, ["af1", *map(str, arguments)])


def test_the_command_writes_a_run(directory, tmp_path):
    out = tmp_path / "run"
    asked = ["mental_math", "--model", directory, "--out", out, "--n", 40, "--samples", 20]
    asked += ["--no-alternatives", "--set", "largest=9", "--set", "most=18", "--set", "split=all"]
    done = cli(*asked)
    assert done.exit_code == 0, done.output
    assert "W=1, T=2, faithfulness 100.0 %" in done.stdout
    assert {file.name for file in out.iterdir()} == {
        *("run.json", "scores.safetensors", "circuit.json", "circuit.svg", "circuit.html"),
        *("af1.json", "af1.txt", "grid.svg", "means.safetensors"),
    }
    result = json.loads((out / "af1.json").read_text(encoding="utf-8"))
    assert (result["chosen"]["wait"], result["chosen"]["transfer"]) == (1, 2)
    assert result["chosen"]["value"] == 1.0
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["samples"] == 20
    assert (
        MeanActivations.load(out / "means.safetensors").origin.model_hash == record["model"]["hash"]
    )
    assert Scores.load(out / "scores.safetensors").method == "af1"
    assert CliRunner().invoke(app, ["show", str(out)]).exit_code == 0
    data = re.search(r'id="data">(.*?)</script>', (out / "circuit.html").read_text("utf-8"))
    prompts = json.loads(data[1])["prompts"]
    assert len(prompts) == 8
    assert {"A", "B", "END"} <= set(prompts[0]["positions"])

    again = cli(*asked)
    assert "nothing was computed" in again.stdout
    assert "W=1, T=2" in again.stdout
    other = cli(*asked, "--tolerance", 0.2)
    assert other.exit_code == 2
    assert "tolerance 0.05, now 0.2" in other.stderr
    assert cli(*asked, "--tolerance", 0.2, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ioi", "--model", "nanno"], "did you mean 'nano'"),
        (["iou"], "unknown task 'iou'"),
        (["mental_math", "--set", "form"], "'form' is not NAME=VALUE"),
        (["mental_math", "--set", "form=x"], "unknown value of option form 'x'"),
        (["mental_math", "--samples", "0"], "samples is 0"),
    ],
)
def test_commands_that_are_refused(arguments, says, tmp_path):
    out = tmp_path / "run"
    done = cli(*arguments, "--out", out)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not out.exists()


def test_a_file_of_pairs_can_be_searched(directory, tmp_path):
    pairs = planted.pairs(30)
    path = tmp_path / "sums.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(len(pairs)):
            texts = [
                "".join(planted.tokenizer().decode([t]) for t in row[i, 1:])
                for row in (pairs.clean, pairs.corrupted)
            ]
            answers = [
                planted.tokenizer().decode([int(row[i, 0])])
                for row in (pairs.answer, pairs.counterfactual)
            ]
            keys = ("clean", "corrupted", "answer", "counterfactual")
            file.write(json.dumps(dict(zip(keys, texts + answers, strict=True))) + "\n")
    done = cli(path, "--model", directory, "--out", tmp_path / "run", "--no-alternatives")
    assert done.exit_code == 0, done.output
    assert "W=1, T=2" in done.stdout
    refused = cli(path, "--model", directory, "--out", tmp_path / "no", "--set", "form=+")
    assert refused.exit_code == 2
    assert "takes no options" in refused.stderr


def test_errors_are_of_the_one_tree():
    with pytest.raises(CircuitsError):
        Settings(tolerance=-1)


@pytest.mark.parametrize(("bos", "chat"), [(None, "template"), (True, "")])
def test_prompts_behind_means_are_put_as_those_asked(smollm2, bos, chat):
    """One operand is held; all else of a conditional prompt but the other operand is the same."""
    settings, how = Settings(n=6, samples=5), Putting(bos, chat)
    options = {"largest": 9, "style": "bare", "split": "all", "most": 9}
    pairs, conditional = prompts("mental_math", smollm2, settings, options, how)
    row = pairs.clean[0]
    where = {name: int(at[0]) for name, at in pairs.positions.items()}
    drawn = conditional(where["B"], int(row[where["B"]]), 5, 0)
    assert drawn.shape == (5, len(row))
    other = np.arange(len(row)) != where["A"]
    assert (drawn[:, other] == row[other]).all()
    assert row[0] == smollm2.tokenizer.bos_token_id


def test_a_search_says_how_prompts_were_put():
    given = {"largest": 9, "most": 18, "split": "all", "bos": True}
    found = circuits.af1(
        planted.opened(), "mental_math", n=60, samples=40, alternatives=False, prune=False, **given
    )
    assert (found.to_json()["bos"], found.to_json()["chat"]) == (True, "")
    assert "bos=True" in found.title
    with pytest.raises(TaskError, match="give bos and chat where they are made"):
        circuits.af1(planted.opened(), planted.pairs(), chat=True)
    assert cli("mental_math", "--chat").exit_code == 2
