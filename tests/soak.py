"""Random commands, disturbed at random, and every file looked at after each.

`python -m tests.soak SECONDS SEED` runs commands in a folder of its own. Most are killed,
interrupted, or find the disk or the memory full at some event of a file; some run two at a time on
one folder. What must not be: a finished run that is lost, a file that is half there, a place beside
the command's own that has changed, a traceback instead of a message, memory that grows.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from circuits.folder import FILES
from circuits.lock import state
from circuits.results.record import RECORD, read_record
from graphs import CircuitGraph
from tests.faults import EVENTS, FAULTS, child, inject, status, within

FLAT = 150
"""Megabytes by which this process may grow, after a first round."""
COMMANDS = (
    "discover ioi --n 4 --top {top} --method attribution --out {run}",
    "discover ioi --n 4 --top {top} --method attribution --out {run} --force",
    "discover ioi --n 4 --top 9 --level node --method attribution --out {run} --force",
    "evaluate {run} --n 4 --force",
    "compare {run} {other} --n 4 --out compared --force",
    "means ioi --n 4 --out means.safetensors --force",
    "validate ioi --n 4 --method attribution --kind z --sites 4 --out validated --force",
    "show {run} -o circuit.graphml",
    "show {run}",
    "diff {run} {other} -o diff.svg",
)
OURS = "compared", "validated"


def out_of_memory() -> None:
    """As where memory is short."""
    raise MemoryError("injected")


def drawn(draw: random.Random, command: str, folder: Path) -> list[str]:
    """A command's words; where nothing may be in its place, nothing is."""
    names = [f"runs/{name}" for name in "abc"]
    given = {"run": draw.choice(names), "other": draw.choice(names), "top": draw.choice((20, 30))}
    words = command.format(**given).split()
    if command == COMMANDS[0]:
        shutil.rmtree(folder / words[-1], ignore_errors=True)
    return words


def carried_out(words: list[str], disturb: Callable[[], object]) -> None:
    """The command, in a process of its own; ends it with the command's exit code."""
    from circuits.cli.app import app

    disturb()
    with contextlib.redirect_stderr(io.StringIO()):
        done = CliRunner().invoke(app, words)
    if done.exit_code == 1:
        sys.stdout.write(f"{words}: {done.exception!r}\n{done.output}\n")
    sys.stdout.flush()
    os._exit(done.exit_code)


def counted(words: list[str], folder: Path) -> int:
    """How many events of files a command has; it is carried out."""
    log = folder.parent / "events"

    def count() -> None:
        def hook(event: str, given: tuple[object, ...]) -> None:
            if event in EVENTS and within(given[0], str(folder)):
                os.write(number, b".")

        number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        sys.addaudithook(hook)

    with child() as inside:
        if inside:
            os.chdir(folder)
            carried_out(words, count)
    code = status(os.wait()[1])
    assert code == 0, (words, code)
    return log.stat().st_size


def files_of(place: Path) -> list[Path]:
    """A file, or all files of a folder and of those in it."""
    if not place.is_dir():
        return [place]
    return [file for file in sorted(place.rglob("*")) if file.is_file()]


def contents(folder: Path) -> dict[str, str]:
    """A hash of every place that has a name of its own, by its name."""
    found = {}
    for place in [*folder.glob("runs/*"), *folder.glob("*")]:
        name = str(place.relative_to(folder))
        if name == "runs" or place.name.startswith("."):
            continue
        files = files_of(place)
        hasher = hashlib.sha256()
        for file in files:
            hasher.update(f"{file.relative_to(folder)}".encode() + file.read_bytes())
        found[name] = hasher.hexdigest()
    return found


def check_whole(place: Path) -> None:
    """All files of a place are there, and can be read to their end.

    Raises:
        Exception: one is not.
    """
    from patching.ablation.means import MeanActivations
    from patching.scores import Scores

    names = {file.name for file in place.iterdir()} if place.is_dir() else set()
    if RECORD in names:
        assert names >= set(FILES), sorted(names)
        read_record(place / RECORD)
        Scores.load(place / "scores.safetensors")
        CircuitGraph.load(place / "circuit.json")
    for file in place.iterdir() if place.is_dir() else [place]:
        if file.is_dir():
            check_whole(file)
            continue
        data = file.read_bytes()
        assert data, file
        if file.suffix == ".json":
            json.loads(data)
        elif file.suffix in (".svg", ".html"):
            assert data.rstrip().endswith((b"</svg>", b"</html>")), file
        elif file.suffix == ".graphml":
            CircuitGraph.load(file)
        elif file.name.startswith("means"):
            MeanActivations.load(file)


def one_round(
    folder: Path, draw: random.Random, counts: Counter[str], events: dict[str, int]
) -> None:
    """One command, or two at once on the same places, and what must hold after it."""
    command = draw.choice(COMMANDS)
    words = drawn(draw, command, folder)
    faults = [*FAULTS.values(), out_of_memory]
    before, several = contents(folder), draw.random() < 0.2
    for _ in range(2 if several else 1):
        fault = draw.choice(faults)
        at = int(draw.random() * events[command]) if draw.random() < 0.9 else -1
        with child() as inside:
            if inside:
                os.chdir(folder)
                carried_out(words, lambda f=fault, n=at: inject(f, n, folder))  # type: ignore[misc]
    codes = [status(os.wait()[1]) for _ in range(2 if several else 1)]
    for code in codes:
        counts[f"exit {code}"] += 1
        assert code in (0, 2, 130, -9), (words, code)
    after = contents(folder)
    named = {word for word in words if word.startswith("runs/")} | {words[-1], *OURS}
    named |= {"means.safetensors", "circuit.graphml", "diff.svg"}
    for name in before:
        place = folder / name
        if not place.exists():
            # Set aside by a kill between two renames: still there, and read where it is.
            assert list(place.parent.glob(f".{place.name}.*.old")), (words, name, "is lost")
        elif after[name] != before[name]:
            base = name.rsplit("-", 1)[0]
            assert name in named or base in named, (words, name, "is not the command's own")
    for name in after:
        check_whole(folder / name)


def settled(folder: Path) -> None:
    """Undisturbed, every command is done, and nothing but results is left."""
    for name in "abc":
        for line in ("discover ioi --n 4 --top 20 --method attribution --force --out", "evaluate"):
            words = [*line.split(), f"runs/{name}"] + (["--n", "4"] if line == "evaluate" else [])
            with child() as inside:
                if inside:
                    os.chdir(folder)
                    carried_out(words, lambda: None)
            code = status(os.wait()[1])
            assert code == 0, (words, code)
        left = [*folder.glob(f"runs/.{name}.*")]
        assert not left, left


def edited(draw: random.Random) -> None:
    """Calls in this process, some of which fail in the middle: the model stays as it was."""
    import circuits

    model = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=4, seed=draw.randrange(99))
    outside = model.hash
    with contextlib.suppress(MemoryError), circuits.editing(model, circuits.remove("a3.h0")):
        circuits.score(model, pairs, "attribution")
        out_of_memory()
    assert model.hash == outside


def megabytes() -> float:
    """What this process holds at this moment."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(seconds: float, seed: int) -> None:
    """Print what was done; an AssertionError says what went wrong."""
    import torch

    import circuits

    torch.set_num_threads(1)
    circuits.load_model("nano")
    draw, counts, end = random.Random(seed), Counter[str](), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        settled(folder)
        assert state(folder / "runs" / "a")
        edited(draw)
        events = {each: counted(drawn(draw, each, folder), folder) for each in COMMANDS}
        settled(folder)
        start, rounds = megabytes(), 0
        while time.monotonic() < end:
            one_round(folder, draw, counts, events)
            rounds += 1
            if rounds % 20 == 0:
                edited(draw)
        settled(folder)
    grown = megabytes() - start
    sys.stdout.write(f"{rounds} rounds in {seconds:.0f} s: {dict(counts)}; {grown:+.0f} MB\n")
    assert grown < FLAT


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
