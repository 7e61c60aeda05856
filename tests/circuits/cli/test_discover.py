"""`circuits discover` and `circuits show` on the embedded model: what they write and refuse."""

import csv
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.cli.text import print_summary
from circuits.folder import FILES, INSIDE, SCORES
from circuits.results.record import RoutingRecord
from graphs import CircuitGraph
from patching.scores import Scores

QUICK = ("--n", "6", "--top", "40")
FAULTY = [
    '{"clean": "a b", "corrupted": "a b c", "answer": " x", "counterfactual": " y"}',
    '{"clean": "a b"',
    '{"clean": "a b", "corrupted": "a c", "answer": " Mary", "counterfactual": " Mary"}',
    '{"clean": "a b", "corrupted": "a c", "answer": " x y z"}',
]


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run and what the command printed."""
    folder = tmp_path_factory.mktemp("runs") / "ioi"
    done = cli("discover", "ioi", *QUICK, "--out", folder)
    assert done.exit_code == 0, done.stderr
    return folder, done.stdout


def test_the_folder_holds_the_run(run):
    folder, _ = run
    assert sorted(entry.name for entry in folder.iterdir()) == sorted((*FILES, INSIDE))
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["n"] == record["prompts"]["n"] == 6
    assert {"python", "torch", "transformers", "networkx"} <= set(record["versions"])
    assert len(record["model"]["hash"]) == len(record["prompts"]["sha256"]) == 64
    graph = CircuitGraph.load(folder / "circuit.json")
    assert record["circuit"]["edges"] == len(graph.edges) > 0
    assert record["evaluation"]["faithfulness"] == graph.faithfulness
    assert Scores.load(folder / SCORES).count == 6
    assert (folder / "circuit.svg").read_text().lstrip().startswith(("<?xml", "<svg"))


def test_the_summary_names_what_was_found(run):
    folder, text = run
    graph = CircuitGraph.load(folder / "circuit.json")
    assert "ioi, 6 prompt pairs" in text
    for word in ("clean +", "corrupted -", "circuit +", "faithfulness", "scoring"):
        assert word in text
    assert f"{len(graph.nodes)} nodes, {len(graph.edges)} edges" in text
    for name in graph.ranked()[:10]:
        assert f"{graph[name]:+.4f}" in text
        assert name in text
    assert str(folder) in text.replace("\n", "").replace(" ", "")


def test_the_same_command_gives_the_same_bytes(run, tmp_path):
    folder, _ = run
    assert cli("discover", "ioi", *QUICK, "--out", tmp_path / "again").exit_code == 0
    for name in ("circuit.json", "circuit.svg", SCORES):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_finished_run_is_shown_again_not_done_again(run):
    folder, text = run
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    done = cli("discover", "ioi", *QUICK, "--out", folder)
    assert done.exit_code == 0
    assert done.stdout.startswith(text)
    assert "nothing was computed" in done.stdout
    assert before == {name: (folder / name).stat().st_mtime_ns for name in FILES}


def test_another_configuration_is_refused_unless_forced(run, tmp_path):
    folder = tmp_path / "run"
    assert cli("discover", "ioi", *QUICK, "--out", folder).exit_code == 0
    before = (folder / "circuit.json").read_bytes()
    refused = cli("discover", "ioi", *QUICK, "--seed", "1", "--out", folder)
    assert refused.exit_code == 2
    assert "seed 0, now 1" in refused.stderr
    assert (folder / "circuit.json").read_bytes() == before
    forced = cli("discover", "ioi", *QUICK, "--seed", "1", "--out", folder, "--force")
    assert forced.exit_code == 0
    assert json.loads((folder / "run.json").read_text())["config"]["seed"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_every_fault_of_a_file_is_told_and_nothing_written(tmp_path):
    source = tmp_path / "pairs.jsonl"
    source.write_text("\n".join(FAULTY))
    done = cli("discover", source, "--out", tmp_path / "runs" / "mine")
    assert done.exit_code == 2
    for number in range(1, len(FAULTY) + 1):
        assert f"line {number}" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n\n")
    done = cli("discover", tmp_path / "pairs.jsonl", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "is empty" in done.stderr


def test_an_id_that_is_not_cached_names_the_offline_ways(tmp_path):
    model = "nobody/never-published"
    done = cli("discover", "ioi", "--model", model, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert f"cannot open the model id '{model}'" in done.stderr
    assert "nano" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_tokenizer_takes_token_ids(shared, tmp_path):
    pair = {
        "clean": [0, 1, 2, 0, 1, 0, 0, 0],
        "corrupted": [0, 1, 2, 0, 1, 2, 0, 0],
        "answer": 0,
        "counterfactual": 1,
    }
    source = tmp_path / "sort.jsonl"
    source.write_text(json.dumps(pair))
    model = shared / "models" / "gpt-nano-sort"
    done = cli("discover", source, "--model", model, "--top", "30", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "sort, 1 prompt pair\n" in done.stdout


def test_a_llama_with_grouped_query_attention_takes_a_file_of_texts(shared, tmp_path):
    told = "Once upon a time, there was a little {}. One day,"
    girl, boy = told.format("girl named Lily"), told.format("boy named Timmy")
    pairs = [
        {"clean": girl, "corrupted": boy, "answer": "she", "counterfactual": "he"},
        {"clean": boy, "corrupted": girl, "answer": ["he"], "counterfactual": ["she"]},
    ]
    source = tmp_path / "pronoun.jsonl"
    source.write_text("\n".join(map(json.dumps, pairs)))
    model = shared / "models" / "stories260K"
    done = cli("discover", source, "--model", model, "--top", "200", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["evaluation"]["faithfulness"] > 0.7
    assert CircuitGraph.load(tmp_path / "run" / "circuit.json").info.model == "stories260K"


def test_show_prints_a_run_as_discover_did(run):
    folder, text = run
    done = cli("show", folder)
    assert (done.exit_code, done.stdout) == (0, text)


def test_show_prints_a_circuit_file(run):
    folder, _ = run
    done = cli("show", folder / "circuit.json")
    assert done.exit_code == 0
    graph = CircuitGraph.load(folder / "circuit.json")
    assert f"{len(graph.nodes)} nodes, {len(graph.edges)} edges" in done.stdout
    assert graph.ranked()[0] in done.stdout


def test_show_prints_the_circuit_of_a_folder_that_is_no_run(run, tmp_path):
    folder, _ = run
    (tmp_path / "circuit.json").write_bytes((folder / "circuit.json").read_bytes())
    assert cli("show", tmp_path).stdout == cli("show", folder / "circuit.json").stdout
    (tmp_path / "circuit.json").unlink()
    done = cli("show", tmp_path)
    assert done.exit_code == 2
    assert "holds no run and no circuit: neither run.json nor circuit.json" in done.stderr


def test_the_faithfulness_of_a_run_is_said_to_be_on_its_own_prompts(run):
    folder, _ = run
    told = " ".join(cli("show", folder).stdout.split())
    assert "on the prompts it was found on: see 'circuits evaluate'" in told
    found = {"faithfulness": 0.5, "interval": [0.4, 0.6], "n": 9, "ablation": "zero"}
    (folder / "evaluation.json").write_text(json.dumps(found))
    told = " ".join(cli("show", folder).stdout.split())
    (folder / "evaluation.json").unlink()
    assert "held out 50.0% (95 % interval 40.0% to 60.0%), on 9 prompt pairs, zero outside" in told
    assert "see 'circuits evaluate'" not in told


def test_an_empty_circuit_says_why_and_what_to_do(tmp_path):
    alone = "--top", "1", "--select", "top:fill=false"
    done = cli("discover", "ioi", "--n", "4", *alone, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "0 nodes, 0 edges" in done.stdout
    assert "no path from the input to the logits is among what was chosen" in done.stdout


def test_the_summary_says_how_experts_are_chosen(config, make_record, capsys, tmp_path):
    told = "both runs choose the same at 80.0% of 10 tokens and 2 layers"
    experts = RoutingRecord(tokens=10, everywhere=0.7, by_layer={"m0": 0.9, "m1": 0.7}, told=told)
    config = replace(config, method="secant,ig:steps=3")
    print_summary(make_record(config).model_copy(update={"experts": experts}), tmp_path, FILES)
    text = " ".join(capsys.readouterr().out.split())
    assert f"experts {told}; where they differ, secant carries the whole difference" in text
    assert "; ig keeps at every step the choice that is made there" in text
    print_summary(make_record(config), tmp_path, FILES)
    assert "experts" not in capsys.readouterr().out


def test_show_prints_json_that_is_the_file(run):
    folder, _ = run
    assert cli("show", folder, "--format", "json").stdout == (folder / "circuit.json").read_text()


@pytest.mark.parametrize("suffix", ["json", "dot", "svg", "png", "pdf", "graphml"])
def test_show_converts(run, tmp_path, suffix):
    folder, _ = run
    output = tmp_path / f"circuit.{suffix}"
    done = cli("show", folder, "-o", output)
    assert done.exit_code == 0, done.stderr
    starts = {"json": b"{", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert output.read_bytes().lstrip().startswith(starts.get(suffix, b""))
    assert output.stat().st_size > 100


def test_show_writes_binary_to_a_pipe(run):
    folder, _ = run
    done = cli("show", folder, "--format", "png")
    assert done.stdout_bytes.startswith(b"\x89PNG")


def test_show_does_not_import_torch(run, root):
    folder, _ = run
    code = (
        "import sys; from circuits.cli.app import app\n"
        "try: app()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "print(sorted({'torch', 'transformers', 'transformer_lens'} & set(sys.modules)))"
    )
    for extra in ([], ["--format", "svg"], ["--format", "json"]):
        command = [sys.executable, "-c", code, "show", str(folder), *extra]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.stdout.endswith("[]\n"), done.stderr


def test_show_refuses_what_is_no_circuit(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert cli("show", tmp_path).exit_code == 2
    (tmp_path / "circuit.json").write_text("[]")
    done = cli("show", tmp_path / "circuit.json")
    assert done.exit_code == 2
    assert done.stderr.startswith("circuits: ")


def test_ctrl_c_leaves_nothing_and_says_so(root, tmp_path):
    """Interrupted while it scores, seen through a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "circuits", "discover", "ioi", "--method", "activation"]
    command += ["--n", "500", "--out", str(tmp_path / "runs" / "ioi")]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and would hand that on to this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        seen = _read_until(ours, b"scoring", 120)
        process.send_signal(signal.SIGINT)
        seen += _read_until(ours, b"nothing half-written", 60)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Traceback" not in seen
    assert not any(path.is_file() for path in Path(tmp_path).rglob("*"))


def _read_until(terminal, words, seconds):
    seen, end = b"", time.monotonic() + seconds
    while words not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
    assert words in seen, seen.decode(errors="replace")
    return seen


def test_odd_rows_of_a_file_are_left_out_and_counted(tmp_path):
    tokenizer = circuits.load_model("nano").tokenizer
    pairs = circuits.load_task("ioi").pairs(tokenizer, n=8, seed=3)
    words = [
        [tokenizer.decode(ids) for ids in side] for side in (pairs.answer, pairs.counterfactual)
    ]
    file = tmp_path / "mine.csv"
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["clean", "corrupted", "answer", "counterfactual", "id"])
        for i, (texts, *answers) in enumerate(zip(pairs.texts, *words, strict=True)):
            table.writerow([*texts, *answers, i])
        table.writerow(["Mary gave", "John gave it", " Mary", " John", 8])
    refused = cli("discover", file, "--top", "40", "--out", tmp_path / "run")
    assert refused.exit_code == 2
    assert "line 10: clean has" in refused.stderr
    done = cli("discover", file, "--top", "40", "--out", tmp_path / "run", "--skip-bad")
    assert done.exit_code == 0, done.stderr
    reason = "clean has ... tokens, corrupted ..."
    told = "keys not used: id", f"left out 1: {reason}"
    assert all(line in " ".join(done.stdout.split()) for line in told)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["prompts"]["n"], record["prompts"]["notes"]) == (8, list(told))
