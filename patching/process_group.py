"""How the processes of one command meet and hear of one another: the only module that knows
torch.distributed.

Short messages and signs of life go through torch's store, results through gloo, on the CPU: what a
batch gives is there already, in float64, also where the model computes on CUDA. In every turn each
process first says in the store what it is at, and how many bytes it has for the others.

Nobody waits for ever. A process that ends, is killed, or gives no sign of life for :data:`SILENCE`
seconds is named; ``CIRCUITS_TIMEOUT`` is how many seconds are waited for one that has yet to begin
(600).
"""

from __future__ import annotations

import atexit
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from patching.messages import packed, unpacked
from patching.processes import OtherProcessError, count, number, own_device, rank
from patching.program import program
from tasks.atomic import alive, host
from tasks.errors import RunError

SILENCE, BEAT, FAREWELL = 60.0, 2.0, 10.0
"""Seconds without a sign of life after which a process is given up, between two such signs, and for
which the first process stays while others may still have something to ask."""

TIMEOUT = "CIRCUITS_TIMEOUT"
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


class Group:
    """The processes of one command, once all of them are here."""

    def __init__(self, store: Any) -> None:
        self.rank, self.size, self.store = rank(), count(), store
        self.turn = 0
        self.others: dict[int, dict[str, Any]] = {}
        self.way: Any = None
        self._beats: dict[int, tuple[bytes, float]] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()

    def meet(self) -> None:
        """Wait for all, and see that they run the same program.

        Raises:
            RunError: one did not come, or runs another program.
        """
        about = {"process": os.getpid(), "host": host(), **program()}
        self.store.set(f"here {self.rank}", json.dumps(about))
        for other in range(self.size):
            self.others[other] = here = self._about(other)
            for what in program():
                if here[what] != self.others[0][what]:
                    raise RunError(
                        f"{self._name(other)} runs another program than process 0: {what} is "
                        f"{here[what]} on {here['host']}, and {self.others[0][what]} on "
                        f"{self.others[0]['host']}; start all of them with the same installation"
                    )

    def connect(self) -> None:
        """Open the way by which results go."""
        distributed = _torch().distributed
        if distributed.is_initialized():
            self.way = distributed.new_group(backend="gloo")
            return
        prefixed = distributed.PrefixStore("results", self.store)
        limit = timedelta(seconds=_patience())
        with _lost(self):
            distributed.init_process_group(
                "gloo", store=prefixed, rank=self.rank, world_size=self.size, timeout=limit
            )
        self.way = distributed.group.WORLD

    def gathered(self, value: Any, about: str) -> list[Any]:
        """See :func:`gathered`."""
        torch, distributed = _torch(), _torch().distributed
        self.turn += 1
        body = packed(value)
        head = {"about": about, "length": len(body)}
        self.store.set(f"{self.turn} {self.rank}", json.dumps(head))
        heads = [json.loads(self._await(f"{self.turn} {r}", r)) for r in range(self.size)]
        for other, each in enumerate(heads):
            if each["about"] != heads[0]["about"]:
                theirs, ours = (DIGEST.sub(r"\1", h["about"]) for h in (each, heads[0]))
                raise RunError(
                    f"{self._name(other)} is at something else than process 0 ({theirs}; process "
                    f"0: {ours}); start all of them with the same command, on the same files"
                )
        # When all have asked for this turn, nobody reads those before the last any more.
        self.store.delete_key(f"{self.turn - 2} {self.rank}")
        found = []
        for other, each in enumerate(heads):
            mine = other == self.rank
            data = torch.empty(each["length"], dtype=torch.uint8)
            if mine:
                data = torch.frombuffer(bytearray(body), dtype=torch.uint8)
            with _lost(self):
                distributed.broadcast(data, src=other, group=self.way)
            found.append(value if mine else unpacked(data.numpy(), _place))
        return found

    def fail(self) -> None:
        """Let all others know that this process has failed."""
        with suppress(RuntimeError):
            self.store.set("failed", str(self.rank))

    def end(self) -> None:
        """Go away in good order."""
        distributed = _torch().distributed
        self._ended.set()
        with suppress(RuntimeError, AttributeError):
            self.store.set(f"ended {self.rank}", "")
            # The store is in the first process, unless torchrun keeps it, and others may need it.
            if self.rank == 0 and not _kept_by_torchrun():
                _until(self._all_ended)
            if self.way is not None and self.way is distributed.group.WORLD:
                distributed.destroy_process_group()

    def _all_ended(self) -> bool:
        return all(
            self.store.check([f"ended {other}"]) or not self._runs(other)
            for other in range(self.size)
        )

    def _runs(self, other: int) -> bool:
        """Whether a process that was here still runs, as far as can be seen from this machine."""
        here = self.others.get(other)
        return here is None or here["host"] != host() or alive(here["process"])

    def _live(self) -> None:
        """Give signs of life."""
        beat = 0
        while not self._ended.wait(min(BEAT, _silence() / 4)):
            beat += 1
            try:
                self.store.set(f"beat {self.rank}", str(beat))
            except RuntimeError:
                return

    def _about(self, other: int) -> dict[str, Any]:
        return json.loads(self._await(f"here {other}", other, limit=_patience()))

    def _await(self, key: str, other: int, limit: float | None = None) -> bytes:
        """What a process says under a name, once it does."""
        began = time.monotonic()
        with _lost(self):
            while not self.store.check([key]):
                waited = time.monotonic() - began
                if limit is not None and waited > limit:
                    raise RunError(
                        f"{self._name(other)} did not begin within {limit:.0f} seconds; see "
                        f"whether it runs, or wait longer with {TIMEOUT}"
                    )
                if waited > 0.5:
                    self._check(other, known=limit is None)
                time.sleep(min(0.0002 + waited / 50, 0.05))
            return self.store.get(key)

    def _check(self, other: int, known: bool) -> None:
        """Refuse to wait for a process that will not come."""
        if self.store.check(["failed"]):
            failed = int(self.store.get("failed"))
            raise OtherProcessError(f"{self._name(failed)} has failed; it says itself why")
        if not known:
            return
        if self.store.check([f"ended {other}"]) or not self._runs(other):
            raise RunError(f"{self._name(other)} has ended before the others; see what it says")
        name, now = f"beat {other}", time.monotonic()
        beat = self.store.get(name) if self.store.check([name]) else b""
        last, since = self._beats.get(other, (b"-", now))
        if beat != last:
            self._beats[other] = beat, now
        elif now - since > _silence():
            raise RunError(
                f"{self._name(other)} has given no sign of life for {_silence():.0f} seconds"
            )

    def _name(self, other: int) -> str:
        return f"process {other} of {self.size}"


def joined() -> Group:
    """The processes of this command, all of them here.

    Raises:
        RunError: they cannot meet; which one is missing or different is named.
    """
    group = Group(_store(_patience()))
    atexit.register(group.end)
    group.meet()
    group.connect()
    return group


def asked_first(message: str, group: Group | None) -> bool:
    """Whether no other process has asked for the same; all now know that this one has failed.

    Raises:
        RunError: there is no group yet, and no store either.
    """
    store = _store(FAREWELL) if group is None else group.store
    store.set("failed", str(rank()))
    first, asked = store.add(f"said {message}", 1) == 1, store.add("asked", 1)
    if group is None and rank() == 0 and not _kept_by_torchrun():
        _until(lambda: asked == count() or store.add("asked", 0) == count())
    return first


def _store(seconds: float) -> Any:
    """Torch's store, where torchrun or the first process keeps it."""
    distributed = _torch().distributed
    place, port = os.environ.get("MASTER_ADDR", ""), number("MASTER_PORT", 0)
    if not place or not port or rank() >= count():
        raise RunError(
            f"WORLD_SIZE is {count()} and RANK {rank()}, MASTER_ADDR '{place}' and MASTER_PORT "
            f"{port}; start with torchrun --nproc-per-node {count()} -m -- circuits ..., which "
            f"sets all four, or without these variables for one process"
        )
    limit = timedelta(seconds=seconds)
    try:
        store = distributed.TCPStore(
            place,
            port,
            is_master=rank() == 0 and not _kept_by_torchrun(),
            timeout=limit,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        if "in use" in str(error):
            raise RunError(
                f"port {port} is in use; give another, as in torchrun --master-port {port + 1}"
            ) from None
        raise RunError(
            f"process {rank()} of {count()} found no other at {place}, port {port}, within "
            f"{seconds:.0f} seconds"
        ) from None
    # A later start of failed processes is another command.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"circuits {start}", store)


def _kept_by_torchrun() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _until(done: Callable[[], bool]) -> None:
    """Wait for something, but not for long."""
    began = time.monotonic()
    while time.monotonic() < began + FAREWELL and not done():
        time.sleep(0.02)


def _patience() -> float:
    return float(number(TIMEOUT, 600))


def _silence() -> float:
    return min(SILENCE, _patience())


def _place(kind: str) -> Any:
    """Where tensors of a kind of device lie in this process."""
    torch, own = _torch(), own_device(kind)
    # Several processes may have been put on one device.
    if own is None or own >= torch.cuda.device_count():
        return torch.device(kind)
    return torch.device(kind, own)


@contextmanager
def _lost(group: Group) -> Iterator[None]:
    """A connection that breaks means that a process is gone: say which, where that is known."""
    try:
        yield
    except RuntimeError as error:
        with suppress(RuntimeError):
            if group.store.check(["failed"]):
                group._check(0, known=False)
        gone = [other for other in range(group.size) if not group._runs(other)]
        which = group._name(gone[0]) if gone else "another process"
        said = str(error).splitlines()[0]
        raise RunError(f"the connection to {which} is lost ({said})") from None


def _torch() -> Any:
    """Torch with what it knows of processes, which it does not declare as its own."""
    import torch.distributed

    return torch
