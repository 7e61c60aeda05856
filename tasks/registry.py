"""Tasks by name: the ones that come with the project, and those of installed packages.

Another package adds a task by declaring an entry point in the group `circuits.tasks` that names a
`Task` subclass. It is imported when the task is first asked for, and never replaces another task.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from tasks.base import Task
from tasks.errors import TaskError, unknown
from tasks.written import parted

GROUP = "circuits.tasks"
BUILT_IN: tuple[str, ...] = (
    *("tasks.ioi", "tasks.mcq_bias", "tasks.mental_math", "tasks.emotion"),
    *("tasks.sentences", "tasks.sequences", "tasks.knowledge"),
)

Kind = TypeVar("Kind", bound=type[Task])


@dataclass(slots=True)
class Registry:
    """Task classes by name. Built-in modules are imported when something is first looked up."""

    modules: tuple[str, ...] = ()
    group: str = ""
    kinds: dict[str, type[Task]] = field(default_factory=dict)

    def register(self, kind: Kind) -> Kind:
        """Class decorator that adds a task under its name; a name taken already is refused."""
        taken = self.kinds.get(kind.name)
        if taken is not None and taken is not kind:
            raise TaskError(
                f"a task named '{kind.name}' exists already ({_where(taken)}); "
                f"give {_where(kind)} another name"
            )
        self.kinds[kind.name] = kind
        return kind

    def get(self, name: str) -> Task:
        """The task called `name`, with options written behind it or none.

        `TaskError` names the nearest task where there is none, and every faulty option.

        >>> circuits.load_task("ioi").pairs(model.tokenizer, n=2, seed=0)
        PromptPairs(ioi: 2 pairs, ... tokens, positions IO, S1, S1+1, S2, END)
        >>> circuits.load_task("mental_math:form=-").pairs(model.tokenizer, n=1).texts[0][0]
        '...-...='
        """
        name, options = parted(name)
        self._load_built_in()
        if name not in self.kinds:
            self._load_entry_point(name)
        task = self.kinds[name]()
        return task.set(**options) if options else task

    def names(self) -> list[str]:
        """Names of all tasks, sorted; entry points are listed without importing them."""
        self._load_built_in()
        return sorted({*self.kinds, *(point.name for point in self._entry_points())})

    def _load_built_in(self) -> None:
        for module in self.modules:
            import_module(module)

    def _entry_points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group)) if self.group else ()

    def _load_entry_point(self, name: str) -> None:
        points = self._entry_points()
        if name not in {point.name for point in points}:
            raise TaskError(unknown("task", name, self.names()))
        clashes = Counter(point.name for point in points)
        if clashes[name] > 1:
            owners = ", ".join(_owner(point) for point in points if point.name == name)
            raise TaskError(f"task '{name}' is offered by several packages: {owners}; keep one")
        point = next(point for point in points if point.name == name)
        try:
            kind = point.load()
        except Exception as cause:
            raise TaskError(
                f"task '{name}' from {_owner(point)} cannot be imported ({point.value}): {cause}"
            ) from cause
        if not (isinstance(kind, type) and issubclass(kind, Task)) or kind.name != name:
            raise TaskError(
                f"entry point {name} = {point.value} of {_owner(point)} "
                f"is not a Task subclass whose name is '{name}'"
            )
        self.register(kind)


def _where(kind: type[Task]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


TASKS = Registry(BUILT_IN, GROUP)
register, get, names = TASKS.register, TASKS.get, TASKS.names
