"""Cells carried out on this machine, some at a time, as long as memory is there.

How much a cell takes is known once one of the same model is done. Until then no other of an unknown
model is begun beside it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from circuits.sweeps.grid import Cell

Done = Callable[[Cell, str], None]
"""Called with every cell that has ended, and why it failed; empty where it did not."""

AGAIN = 0.5
"""Seconds between two looks at how much memory is free."""


def free_memory() -> float:
    """Bytes that processes can still have; unlimited where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return float("inf")


@dataclass
class Room:
    """Which cells may run beside one another."""

    free: Callable[[], float] = free_memory
    peaks: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    _change: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, model: str) -> None:
        """Wait until a cell of this model may run."""
        with self._change:
            while not self._fits(model):
                self._change.wait(AGAIN)
            self.running.append(model)

    def leave(self, model: str, peak: int) -> None:
        """A cell has ended; its process took so many bytes at most."""
        with self._change:
            self.running.remove(model)
            self.peaks[model] = max(peak, self.peaks.get(model, 0))
            self._change.notify_all()

    def _fits(self, model: str) -> bool:
        if not self.running:
            return True
        if model not in self.peaks:
            return all(other in self.peaks for other in self.running)
        return self.free() >= self.peaks[model]


def carry_out(
    cells: Sequence[Cell],
    out: Path,
    evaluate: Mapping[str, Any] | None,
    done: Done,
    jobs: int = 1,
    device: str | None = None,
) -> None:
    """Carry out cells, so many at a time; in the end no process is left."""
    waiting, room, lock = list(cells), Room(), threading.Lock()
    workers: list[Worker] = []
    ended = threading.Event()

    def work() -> None:
        worker = Worker()
        workers.append(worker)
        while True:
            with lock:
                if not waiting or ended.is_set():
                    return
                cell = waiting.pop(0)
            model, peak, fault = cell.config.model or "", 0, ""
            room.enter(model)
            try:
                order = {"config": asdict(cell.config), "folder": str(out / cell.name)}
                answer = worker.asked(order | {"evaluate": evaluate, "device": device})
                fault, peak = answer["fault"], answer["peak"]
            except (OSError, ValueError) as error:
                fault = f"its process could not be asked: {error}"
            finally:
                room.leave(model, peak)
            with lock:
                if not ended.is_set():
                    done(cell, fault)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(cells)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        ended.set()
        for worker in workers:
            worker.stop()


class Worker:
    """A process for one cell after another; after one that ended it, another is begun."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def asked(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """What the process answers."""
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.process = self._begun()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        code = process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = "; perhaps memory ran out" if code == -signal.SIGKILL else ""
        return {"fault": f"its process was ended by {name}{hint}", "peak": 0}

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    @staticmethod
    def _begun() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "circuits.sweeps.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
