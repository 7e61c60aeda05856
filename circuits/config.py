"""What one discovery is asked to do: every choice resolved, checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from circuits.config_check import AUTO, FOR_EDGES, faults_of
from circuits.models import fingerprint, name_of
from circuits.prompts import WRITTEN as WRITTEN_BY_HAND
from circuits.settings import Choice, read_methods
from circuits.split import with_split
from tasks.errors import (
    CircuitsError,
    MethodError,
    TaskError,
    all_faults,
)
from tasks.written import WRITTEN, parted

if TYPE_CHECKING:
    from patching.journal import Journal
    from patching.progress import Progress
    from patching.sweep import Sweep

N_FROM_TASK = 64
PROMPTS = "prompts"
FILES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True, slots=True)
class Config:
    """The choices of one discovery. Equal configurations give equal circuits.

    task        a task, with options written behind it or none, or path of a file of prompt pairs
                (tasks/files.py); None: in memory
    model       name of an embedded model, Hugging Face id, or directory; None: in memory
    method      a method, or several separated by commas: the mean of their scores; auto is secant
                where edges are scored
    nodes       what nodes and edges are made of: heads and whole MLPs, or heads and neurons
    positions   named or all: edges at places, and crossing edges between them; empty: plain edges
    metric      None: the task's own
    select      how the circuit is chosen: see circuits.selectors
    top         how many edges (of level node: nodes) make the circuit; None: as the choice has it
    faithful    the share of the answer that the circuit is to give, instead of ``top``
    n           how many prompt pairs; None: 64 of a task, all of a file
    memory      what scores may take beside the model, such as 20GB; None: no limit
    ablation    what stands in for everything outside the circuit when it is run
    bos         whether every text begins with the beginning-of-sequence token; None: as the
                model's tokenizer does it
    chat        the form of chat turns: template or plain; empty: none
    asked       questions written by hand, instead of a task: (prompt, corrupted prompt,
                answer, counterfactual) each
    model_correct   whether pairs are left out on which the model does not prefer the right answer
                of both runs
    options     the method's own, by name
    skip_bad    whether rows of a file that have a fault are left out, not refused
    """

    task: str | None
    model: str | None = "nano"
    method: str = AUTO
    level: str = "edge"
    nodes: str = "heads"
    direction: str = "noising"
    metric: str | None = None
    select: str = "top"
    top: int | None = None
    faithful: float | None = None
    n: int | None = None
    seed: int = 0
    batch_size: int = 32
    memory: str | None = None
    ablation: str = "corrupted"
    bos: bool | None = None
    chat: str = ""
    asked: Sequence[Sequence[str]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    skip_bad: bool = False
    model_correct: bool = False
    positions: str = ""

    def __post_init__(self) -> None:
        if self.method == AUTO and self.level == "edge":
            object.__setattr__(self, "method", FOR_EDGES)

    @classmethod
    def named(cls, given: Mapping[str, Any], **more: Any) -> Self:
        """From whatever is called like a field; all else that is given is left out."""
        own = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in own} | more)

    @property
    def from_file(self) -> bool:
        """Whether the prompt pairs come from a file, not from a task."""
        if self.task is None or WRITTEN.match(self.task):
            return False
        return self.task.endswith(FILES) or "/" in self.task

    @property
    def folder_name(self) -> str:
        """What a run's folder is called where no other name is given."""
        if self.asked:
            return WRITTEN_BY_HAND
        if self.from_file:
            # The stem of ...jsonl is .., which is another folder.
            return Path(self.task or "").stem.strip(".") or PROMPTS
        return re.sub(r"[^\w=+.-]+", "-", self.task or "")

    @property
    def count(self) -> int | None:
        """How many prompt pairs to take; None for all of them."""
        named = self.task is not None and not self.from_file
        return N_FROM_TASK if self.n is None and named else self.n

    @property
    def methods(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """Every method with its options.

        Raises:
            MethodError: an unknown method or option, or an option set twice.
        """
        written = read_methods(self.method)
        if not self.options:
            return written
        if len(written) > 1:
            raise MethodError(
                f"options {', '.join(self.options)} could be meant for any of {self.method}; write "
                f"them behind the method they are for, as in secant,ig:steps=3"
            )
        (name, options), *_ = written
        if twice := sorted(set(options) & set(self.options)):
            raise MethodError(f"option {twice[0]} of {name} is set twice")
        return ((name, options | dict(self.options)),)

    @property
    def choice(self) -> Choice:
        """How the circuit is chosen.

        Raises:
            MethodError: an unknown selector, or an option that it does not have.
        """
        return Choice.read(self.select)

    @property
    def size(self) -> int | None:
        """How many edges or nodes are kept; None for as many as the choice leaves."""
        if self.faithful is not None:
            return None
        return self.choice.selector.top if self.top is None else self.top

    @property
    def model_label(self) -> str:
        """What a circuit calls its model, without the way to it."""
        return name_of(self.model) if self.model else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file, every default filled in."""
        from patching.ablation.kinds import outside

        filled: dict[str, Any] = {"n": self.count, "select": self.choice.name, "top": self.size}
        filled["ablation"] = outside(self.ablation).name
        filled["asked"] = [list(question) for question in self.asked]
        return asdict(self) | filled | {"options": dict(self.options)}

    def digest(self) -> str:
        """SHA-256 of the choices and of the local files they name.

        Two runs with the same digest are the same run. Weights behind a Hugging Face id do not
        count: to look at them means to load them.
        """
        named = self.to_json()
        for name in ("faithful", "memory"):
            # Runs made before there were these choices are the same runs.
            if named.get(name) is None:
                named.pop(name, None)
        if self.model is not None:
            named["model_files"] = fingerprint(self.model)
        if self.task is not None:
            named |= {f"file {i}": digest for i, digest in enumerate(self._task_files())}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def _task_files(self) -> Iterator[str]:
        """Digests of the file of prompts, or of files that the task's options name."""
        task = self.task or ""
        for path in (task,) if self.from_file else parted(task)[1].values():
            if Path(path).is_file():
                yield hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def sweep(self, progress: Progress | None = None, journal: Journal | None = None) -> Sweep:
        """How loops over the prompts run."""
        from patching.sizes import bytes_of
        from patching.sweep import Sweep

        limit = None if self.memory is None else bytes_of(self.memory)
        return Sweep(self.batch_size, progress, journal, memory=limit)

    def settled(self, model: str | None = None) -> Self:
        """With the split of the task's prompts that goes with the model, where none is given.

        ``model`` is where the model was opened from, if it has no name here. What is no task is
        left to :meth:`check`.
        """
        model = self.model or model
        if self.task is None or self.from_file or model is None:
            return self
        try:
            return replace(self, task=with_split(self.task, model))
        except TaskError:
            return self

    def check(self) -> None:
        """Refuse what cannot work, without loading a model.

        Raises:
            CircuitsError: one fault as it is, several listed together.
        """
        faults = faults_of(self)
        if len(faults) == 1:
            raise faults[0]
        if faults:
            lines = [str(fault) for fault in faults]
            raise CircuitsError(all_faults("this discovery cannot be carried out:", lines))
