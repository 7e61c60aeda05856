"""Every command that writes, killed or interrupted at events of files spread over its whole run.

    python -m tests.every_command EVENTS [COMMAND ...]

Each command is first carried out and its events of files are counted. Then it is begun anew EVENTS
times, and killed (as kill -9 does) or interrupted (as Ctrl-C does) at one of them in turn: at the
last ones, where results get their names, one by one, at the others evenly spaced. After each, every
result is the old one or the new one and can be read. In the end the command is carried out
undisturbed, which clears away whatever was left.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults import FAULTS, child, inject, status
from tests.soak import carried_out, check_whole, contents, counted

CODES = {"kill": (-9, 0), "interrupt": (130, 0)}
DISTURBED = tuple(CODES)
MADE = (
    "discover ioi --n 4 --top 20 --method attribution --out runs/a",
    "discover ioi --n 4 --top 30 --method attribution --out runs/b",
    "train-dictionary --latents 32 --k 4 --steps 20 --batch 128 --tokens 1000 --n 4 --out runs/sae",
    "train-dictionary --site m1 --kind transcoder --latents 32 --k 4 --steps 20 --batch 128 "
    "--tokens 1000 --n 4 --out runs/transcoder",
)
"""What the commands find there."""
COMMANDS = {
    "discover": "discover ioi --n 4 --top 20 --method attribution --out written --force",
    "af1": "af1 mental_math --n 8 --samples 4 --no-alternatives --no-prune --out written --force",
    "mitigate": "mitigate mcq_bias --train 4 --test 4 --others 4 --recipe zero --out written "
    "--force",
    "emotion": "emotion --groups 4 --tests 2 --tuning 2 --draws 1 --new-tokens 2 --out written "
    "--force",
    "evaluate": "evaluate runs/a --n 4 --rediscoveries 2 --force",
    "compare": "compare runs/a runs/b --n 4 --out written --force",
    "sweep": "sweep sweep.toml --out written",
    "means": "means ioi --n 4 --out written --force",
    "mib": "mib --task ioi --n 4 --test 4 --method attribution --out written --force",
    "validate": "validate ioi --n 4 --method attribution --kind z --sites 4 --out written --force",
    "show": "show runs/a -o written.graphml",
    "diff": "diff runs/a runs/b -o written.svg",
    "edit apply": "edit apply plan.toml --out written",
    "consensus": "consensus runs/a runs/b --n 4 --out written --force",
    "view": "view runs/a --no-open -o written.html",
    "attention": "attention ioi --n 4 -o written.svg",
    "logit-lens": "logit-lens ioi --n 4 -o written.svg",
    "direct-logit-attribution": "direct-logit-attribution ioi --n 4 -o written.svg",
    "heat-map": "heat-map ioi --n 4 -o written.svg",
    "path-patching": "path-patching ioi --n 4 -o written.svg",
    "train-dictionary": "train-dictionary --latents 32 --k 4 --steps 20 --batch 128 --tokens 1000 "
    "--n 4 --out written --force",
    "latents": "latents ioi --dictionary runs/sae --force-dictionary --n 4 --held-out 4 "
    "--out written --force",
    "trace": "trace Mary,John,Mary --dictionary runs/transcoder --out written --force",
}
FRESH = "edit apply", "sweep"
"""What is not done again where it has been done."""
SWEEP = """
models = "nano"
tasks = "ioi"
methods = ["attribution", "secant"]
[options]
n = 4
top = 20
"""
LAST = 0.5
"""This share of the events tried are the last ones."""


def spread(events: int, tried: int) -> list[int]:
    """Which events are tried, of those counted from 0.

    >>> spread(100, 6)
    [0, 32, 64, 97, 98, 99]
    """
    last = min(round(LAST * tried), events)
    first = min(tried - last, events - last)
    steps = [i * (events - last) // max(first, 1) for i in range(first)]
    return [*steps, *range(events - last, events)]


def run(words: list[str], folder: Path, fault: str = "", at: int = -1) -> int:
    """The exit code of a command in a process of its own, disturbed at one event."""
    with child() as inside:
        if inside:
            os.chdir(folder)
            carried_out(words, lambda: inject(FAULTS[fault or "kill"], at, folder))
    return status(os.wait()[1])


def disturbed(name: str, tried: int, folder: Path) -> tuple[int, int]:
    """How many events of a command were hit, of how many that it has.

    Raises:
        AssertionError: a result is neither whole nor absent, or something else has changed.
    """
    words, fresh = COMMANDS[name].split(), name in FRESH
    events = counted(words, folder)
    hit = 0
    for turn, at in enumerate(spread(events, tried)):
        fault = DISTURBED[turn % len(DISTURBED)]
        if fresh:
            shutil.rmtree(folder / "written", ignore_errors=True)
        before = contents(folder)
        code = run(words, folder, fault, at)
        assert code in CODES[fault], (name, fault, at, code)
        hit += code != 0
        after = contents(folder)
        for place in before:
            # A kill between two renames leaves the old result under a name of its own.
            old = [*(folder / place).parent.glob(f".{Path(place).name}.*.old")]
            assert place in after or old, (name, fault, at, place, "is lost")
        for place in after:
            check_whole(folder / place)
        changed = {place for place in before if place in after and before[place] != after[place]}
        assert changed <= {words[-1], "written", "runs/a"}, (name, fault, at, changed)
    if fresh:
        shutil.rmtree(folder / "written", ignore_errors=True)
    assert run(words, folder) == 0, (name, "cannot be done again")
    left = [path for path in folder.rglob(".*") if path.name != ".cache"]
    assert not left, (name, left)
    return hit, events


def main(tried: int, names: list[str]) -> None:
    """Print how many events of every command were hit; an AssertionError says what went wrong."""
    import torch

    import circuits
    from circuits.edits.edit import remove
    from circuits.edits.plan import plan_for

    torch.set_num_threads(1)
    model = circuits.load_model("nano")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        for line in MADE:
            assert run(line.split(), folder) == 0, line
        plan_for(model, (remove("m3.n1"),)).save(folder / "plan.toml")
        (folder / "sweep.toml").write_text(SWEEP, encoding="utf-8")
        for each in names or COMMANDS:
            hit, events = disturbed(each, tried, folder)
            assert hit, (each, "was never disturbed")
            sys.stdout.write(f"{each}: {hit} of {events} events, nothing lost, done again\n")
            sys.stdout.flush()
            for place in folder.glob("written*"):
                shutil.rmtree(place) if place.is_dir() else place.unlink()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
