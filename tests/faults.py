"""Kills, Ctrl-C and full disks at every event of files, and races of two processes.

Python announces each event of a file before it happens (`sys.addaudithook`). A scenario runs in a
process of its own, which dies, is interrupted or finds the disk full at one event after another.

    python -m tests.faults SCENARIO FAULT FOLDER
    python -m tests.faults race KIND FOLDER
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

from circuits.folder import EVALUATION, RUN
from circuits.output import adding, guarded, to_read, write_file, written
from tasks.atomic import write_atomically
from tasks.errors import CircuitsError

EVENTS = frozenset(
    ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod")
)
Fault = Callable[[], None]


def kill() -> None:
    """As kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt


def fill_disk() -> None:
    """As a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device")


PASSED = 9
FAULTS: dict[str, Fault] = {"kill": kill, "interrupt": interrupt, "full": fill_disk}


def within(given: object, folder: str) -> bool:
    """Whether what an event is about lies in a folder; it may be named from where we are.

    >>> within("means", os.getcwd()), within(b"/elsewhere/means", os.getcwd()), within(3, "/")
    (True, False, False)
    """
    if not isinstance(given, str | bytes | os.PathLike):
        return False
    return os.path.abspath(os.fsdecode(given)).startswith(folder)


def inject(fault: Fault, at: int, folder: Path) -> list[str]:
    """Have a fault happen at an event of files in a folder, counted from 0; for this process.

    What is given back holds the event once it has happened.
    """
    count, fired = -1, list[str]()
    place = str(folder)

    def hook(event: str, given: tuple[object, ...]) -> None:
        nonlocal count
        if event in EVENTS and within(given[0], place):
            count += 1
            if count == at:
                fired.append(event)
                fault()

    sys.addaudithook(hook)
    return fired


def new_run(folder: Path) -> None:
    """A run where none was."""
    replace_run(folder, "new")


def replace_run(folder: Path, mark: str = "new") -> None:
    """A run instead of another, as with --force."""
    place = folder / "run"
    with guarded(place), written(place, RUN.check) as partial:
        for name in ("run.json", "circuit.json", "scores.safetensors"):
            (partial / name).write_text(f'{{"kind": "circuits run", "mark": "{mark}"}}')


def evaluate(folder: Path) -> None:
    """An evaluation instead of another: two files of a run."""
    with guarded(folder / "run"), adding(folder / "run") as place:
        for name in (EVALUATION, "curves.svg"):
            write_atomically(place / name, b"new")


def one_file(folder: Path) -> None:
    """A file of means instead of another."""
    with guarded(folder / "means"):
        write_file(folder / "means", lambda path: write_atomically(path, b"new"))


def exported(folder: Path) -> None:
    """A circuit's file instead of another, as `show -o` writes it."""
    write_atomically(folder / "means", b"new")


SCENARIOS: dict[str, Callable[[Path], None]] = {
    "new": new_run,
    "replace": replace_run,
    "evaluate": evaluate,
    "file": one_file,
    "export": exported,
}


def prepare(scenario: str, folder: Path) -> None:
    """What stands there before the scenario."""
    if scenario in ("file", "export"):
        (folder / "means").write_bytes(b"old")
    elif scenario != "new":
        replace_run(folder, "old")
        for name in (EVALUATION, "curves.svg"):
            (folder / "run" / name).write_bytes(b"old")


def seen(folder: Path) -> dict[str, bytes]:
    """Every file that a reader of the results sees, by its name."""
    run = to_read(folder / "run")
    files = [*run.iterdir()] if run.is_dir() else []
    files += [folder / "means"] if (folder / "means").exists() else []
    return {file.name: file.read_bytes() for file in files}


@contextmanager
def child() -> Iterator[bool]:
    """True in a new process, which ends with the block; False in this one."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        yield False
        return
    code = 0
    try:
        yield True
    except SystemExit:
        code = PASSED
    except CircuitsError:
        code = 2
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        code = 3 if error.errno == errno.ENOSPC else 1
        if code == 1:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)


def status(waited: int) -> int:
    """An exit code, or the negative number of the signal that ended a process."""
    return os.waitstatus_to_exitcode(waited)


def attempt(work: Callable[[], None]) -> int:
    """The status of a process that does the work."""
    with child() as inside:
        if inside:
            work()
    return status(os.wait()[1])


def every_event(scenario: str, fault: str, folder: Path) -> int:
    """How many events were hit, until the scenario passed undisturbed.

    Raises:
        AssertionError: what was there is neither the old nor the new, or a rerun is not clean.
    """
    work, at = SCENARIOS[scenario], 0
    whole = outcomes(scenario, folder)
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        prepare(scenario, folder)

        def disturbed(number: int = at) -> None:
            fired = inject(FAULTS[fault], number, folder)
            work(folder)
            if not fired:
                raise SystemExit

        came = attempt(disturbed)
        assert came != 1, (scenario, fault, at)
        assert seen(folder) in whole, (scenario, fault, at, seen(folder))
        # What disturbs the clearing away itself leaves names that the next run clears away.
        if fault != "kill" and seen(folder) != whole[-1]:
            left = [path.name for path in folder.rglob(".*")]
            assert not left, (scenario, fault, at, left)
        if came == PASSED:
            return at
        assert attempt(lambda: work(folder)) == 0, (scenario, fault, at)
        assert seen(folder) == whole[-1], (scenario, fault, at)
        assert not [*folder.rglob(".*")], (scenario, fault, at, [*folder.rglob(".*")])
        at += 1


def outcomes(scenario: str, folder: Path) -> list[dict[str, bytes]]:
    """What is there before and after the scenario."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepare(scenario, folder)
    before = seen(folder)
    SCENARIOS[scenario](folder)
    return [before, seen(folder)]


def race(kind: str, folder: Path) -> list[int]:
    """The statuses of two processes that write the same run or file at the same time."""
    folder.mkdir(parents=True)
    start, ready = os.pipe()
    both = multiprocessing.get_context("fork").Barrier(2)
    for mark in "ab":
        with child() as inside:
            if inside:
                os.close(ready)
                os.read(start, 1)
                RACES[kind](folder, mark, both)
    # Both wait for this end to be closed.
    os.close(ready)
    os.close(start)
    return sorted(status(os.wait()[1]) for _ in "ab")


def _reserve(folder: Path, mark: str, _: Barrier) -> None:
    with RUN.reserved(folder / "run"):
        replace_run(folder, mark)


def _at_the_end(folder: Path, mark: str, both: Barrier) -> None:
    with written(folder / "run", RUN.check) as partial:
        # Without this, a process that starts late finds a finished run, which it may replace.
        both.wait(60)
        (partial / "run.json").write_text(f'{{"kind": "circuits run", "mark": "{mark}"}}')


def _file(folder: Path, mark: str, _: Barrier) -> None:
    with guarded(folder / "means"):
        if (folder / "means").exists():
            raise CircuitsError("exists")
        write_file(folder / "means", lambda path: write_atomically(path, mark.encode()))


RACES = {"run": _reserve, "end": _at_the_end, "file": _file}


def main(what: str, how: str, folder: Path) -> None:
    """Print how many events were hit, or the outcomes of fifty races."""
    if what != "race":
        sys.stdout.write(f"{every_event(what, how, folder / 'work')}\n")
        return
    for i in range(50):
        codes = race(how, folder / str(i))
        left = sorted(path.name for path in (folder / str(i)).iterdir())
        sys.stdout.write(f"{codes} {left}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve())
