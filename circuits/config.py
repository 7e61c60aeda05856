"""What one discovery is asked to do: every choice resolved, checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from circuits.models import fingerprint, locate
from tasks.errors import CircuitsError, MethodError, TaskError, all_faults, unknown

N_FROM_TASK = 64
FILES = (".jsonl", ".json")
LEVELS = ("edge", "node")
EXACT = "activation"


@dataclass(frozen=True, slots=True)
class Config:
    """The choices of one discovery. Equal configurations give equal circuits.

    task        name of a task, or path of a JSON-lines file of prompt pairs; None: in memory
    model       name of an embedded model, Hugging Face id, or directory; None: in memory
    metric      None: the task's own
    top         how many of the strongest edges (of level node: nodes) make the circuit
    n           how many prompt pairs; None: 64 of a task, all of a file
    options     the method's own, by name
    """

    task: str | None
    model: str | None = "nano"
    method: str = "secant"
    level: str = "edge"
    direction: str = "noising"
    metric: str | None = None
    top: int = 100
    n: int | None = None
    seed: int = 0
    batch_size: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def from_file(self) -> bool:
        """Whether the prompt pairs come from a file, not from a task."""
        return self.task is not None and (self.task.endswith(FILES) or "/" in self.task)

    @property
    def count(self) -> int | None:
        """How many prompt pairs to take; None for all of them."""
        named = self.task is not None and not self.from_file
        return N_FROM_TASK if self.n is None and named else self.n

    @property
    def model_label(self) -> str:
        """What a circuit calls its model: a directory's own name, without the way there."""
        named = self.model or ""
        return Path(named).resolve().name if named and Path(named).is_dir() else named

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file, every default filled in."""
        return asdict(self) | {"n": self.count, "options": dict(self.options)}

    def digest(self) -> str:
        """SHA-256 of the choices and of the local files they name.

        Two runs with the same digest are the same run. Weights behind a Hugging Face id do not
        count: to look at them means to load them.
        """
        named = self.to_json()
        if self.model is not None:
            named["model_files"] = fingerprint(self.model)
        if self.task is not None and self.from_file:
            named["task_file"] = hashlib.sha256(Path(self.task).read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def check(self) -> None:
        """Refuse what cannot work, without loading a model.

        Raises:
            CircuitsError: one fault as it is, several listed together.
        """
        checks = (self._check_task, self._check_model, self._check_method, self._check_metric)
        faults = [fault for check in checks if (fault := _fault(check)) is not None]
        wrong = [
            f"{name} is {value}; give at least {least}"
            for name, value, least in [
                ("top", self.top, 1),
                ("n", self.count, 1),
                ("seed", self.seed, 0),
                ("batch size", self.batch_size, 1),
            ]
            if value is not None and value < least
        ]
        faults += [MethodError(text) for text in wrong]
        if len(faults) == 1:
            raise faults[0]
        if faults:
            lines = [str(fault) for fault in faults]
            raise CircuitsError(all_faults("this discovery cannot be carried out:", lines))

    def _check_task(self) -> None:
        import tasks

        if self.task is None:
            return
        if self.from_file:
            if not Path(self.task).is_file():
                raise TaskError(
                    f"there is no file '{self.task}'; give a JSON-lines file of prompt pairs, "
                    f"or a task: {', '.join(tasks.names())}"
                )
        elif self.task not in tasks.names():
            raise TaskError(f"{unknown('task', self.task, tasks.names())}, or a .jsonl file")

    def _check_model(self) -> None:
        if self.model is not None:
            locate(self.model)

    def _check_method(self) -> None:
        from patching.methods import get, linearisation
        from patching.scores import DIRECTIONS

        if self.direction not in DIRECTIONS:
            raise MethodError(unknown("direction", self.direction, DIRECTIONS))
        if self.level not in LEVELS:
            raise MethodError(unknown("level", self.level, LEVELS))
        options = get(self.method).check(self.options)
        if self.options and self.method != EXACT:
            linearisation(self.method, options)

    def _check_metric(self) -> None:
        if self.metric is None:
            return
        from patching.metrics import METRICS

        if self.metric not in METRICS:
            raise MethodError(unknown("metric", self.metric, METRICS))


def _fault(check: Callable[[], None]) -> CircuitsError | None:
    try:
        check()
    except CircuitsError as fault:
        return fault
    return None


def read_settings(method: str, settings: list[str]) -> dict[str, Any]:
    """Options of a method from `NAME=VALUE` texts, in the types the method gives them.

    Raises:
        MethodError: a text that is no `NAME=VALUE`, an unknown option, or a value of another type.
    """
    from patching.methods import get

    options = get(method).options if settings else {}
    found = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise MethodError(f"'{text}' is not a setting; write NAME=VALUE")
        if name not in options:
            raise MethodError(unknown(f"option of {method}", name, options or ["none"]))
        found[name] = _read_value(name, value, options[name].type)
    return found


def _read_value(name: str, text: str, kind: type) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise MethodError(f"option {name} is {kind.__name__}, not '{text}'") from None
