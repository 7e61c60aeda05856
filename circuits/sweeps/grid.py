"""What a sweep is asked to do, read from a TOML file: a cell for every combination, all checked.

models = ["nano", "smollm2-135m"]
tasks = ["ioi", "greater_than"]
methods = ["secant", "ig:steps=3"]      # default: auto
seeds = [0, 1]                          # default: 0

[options]                               # of circuits discover, the same for every cell
n = 32
top = 100

[evaluate]                              # if given, every circuit is tested on other prompts
n = 32

[slurm]                                 # parameters of submitit, for --runner slurm
timeout_min = 60
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from circuits.config import Config
from graphs.files import read_bytes, read_toml
from tasks.errors import CircuitsError, FormatError, all_faults, unknown
from tasks.limits import MAX_TOML

AXES: dict[str, type] = {"models": str, "tasks": str, "methods": str, "seeds": int}
DEFAULTS: dict[str, list[Any]] = {"methods": ["auto"], "seeds": [0]}
TABLES = ("options", "evaluate", "slurm")
OF_A_CELL = ("task", "model", "method", "seed", "asked", "options")
TESTED = {"n": "int", "seed": "int", "batch_size": "int"}
MOST = 10_000
"""Cells of one sweep."""


@dataclass(frozen=True)
class Cell:
    """One combination; ``name`` is that of its run folder."""

    name: str
    config: Config

    def __str__(self) -> str:
        c = self.config
        return f"{c.model}, {c.task}, {c.method}, seed {c.seed}"


@dataclass(frozen=True)
class Grid:
    """All cells in their order, and what is said of every one of them.

    evaluate   how circuits are tested on other prompts; None: they are not
    slurm      parameters of the scheduler
    """

    path: Path
    cells: tuple[Cell, ...]
    evaluate: Mapping[str, Any] | None
    slurm: Mapping[str, Any]

    def cell(self, name: str) -> Cell:
        """The cell of a name.

        Raises:
            FormatError: there is none.
        """
        found = [cell for cell in self.cells if cell.name == name]
        if not found:
            names = [cell.name for cell in self.cells]
            raise FormatError(f"{self.path}: {unknown('cell', name, names)}")
        return found[0]


def read_grid(path: Path) -> Grid:
    """A sweep from its file.

    Raises:
        FormatError: the file cannot be read, or says something that a sweep does not have; or some
            cells cannot be carried out. All of them are named.
    """
    data = read_toml(read_bytes(path, MAX_TOML, "name fewer cells"), str(path))
    known = [*AXES, *TABLES]
    faults = [unknown("field", name, known) for name in sorted(set(data) - set(known))]
    axes = {name: _axis(data, name, faults) for name in AXES}
    options, evaluate, slurm = (_table(data, name, faults) for name in TABLES)
    own = {each.name: str(each.type) for each in fields(Config) if each.name not in OF_A_CELL}
    faults += _unfit("options", options or {}, own)
    faults += _unfit("evaluate", evaluate or {}, TESTED)
    if faults:
        raise FormatError(all_faults(f"{path} is not a sweep:", faults))
    if (number := prod(map(len, axes.values()))) > MOST:
        raise FormatError(f"{path} has {number:,} cells; at most {MOST:,} are one sweep")
    configs = [
        Config(task, model, method=method, seed=seed, **(options or {})).settled()
        for model, task, method, seed in product(*axes.values())
    ]
    cells = tuple(map(Cell, _names(configs), configs))
    _check(path, cells)
    return Grid(path, cells, evaluate, slurm or {})


def _axis(data: Mapping[str, Any], name: str, faults: list[str]) -> list[Any]:
    """The values along one side; a single one may stand without brackets."""
    given, kind = data.get(name, DEFAULTS.get(name)), AXES[name]
    if given is None:
        faults.append(f"{name} is missing; write {name} = [...]")
        return []
    values = given if isinstance(given, list) else [given]
    if not values or not all(type(value) is kind for value in values):
        what = "texts" if kind is str else "whole numbers"
        faults.append(f"{name} is {given!r}; write a list of {what}")
        return []
    twice = [str(value) for value, times in Counter(values).items() if times > 1]
    faults.extend(f"{name} has '{value}' twice" for value in twice)
    return values


def _table(data: Mapping[str, Any], name: str, faults: list[str]) -> dict[str, Any] | None:
    given = data.get(name)
    if given is None or isinstance(given, dict):
        return given
    faults.append(f"{name} is {given!r}; write a table, [{name}]")
    return None


def _unfit(table: str, given: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[str]:
    """What is said of values that a table does not have, or that are of another kind."""
    for name, value in given.items():
        if name not in known:
            yield f"{table}: {unknown('field', name, sorted(known))}"
            continue
        kinds = known[name].split(" | ")
        if type(value).__name__ not in [*kinds, *(["int"] if "float" in kinds else [])]:
            allowed = " or ".join(kind for kind in kinds if kind != "None")
            yield f"{table}.{name} is {value!r}, of the kind {type(value).__name__}; give {allowed}"


def _names(configs: list[Config]) -> list[str]:
    """A folder's name for each; where two would be the same, with a part of a hash."""
    whole = [f"{c.model} {c.task} {c.method} {c.seed}" for c in configs]
    plain = [
        "-".join(_plain(part) for part in (Path(c.model or "").name, c.task, c.method, c.seed))
        for c in configs
    ]
    twice = {name for name, times in Counter(plain).items() if times > 1}
    return [
        f"{name}-{sha256(text.encode()).hexdigest()[:8]}" if name in twice else name
        for name, text in zip(plain, whole, strict=True)
    ]


def _plain(part: object) -> str:
    return re.sub(r"[^\w=+.]+", "_", str(part)).strip("_.") or "_"


def _check(path: Path, cells: tuple[Cell, ...]) -> None:
    """Refuse a sweep of which any cell cannot work; the same fault of several is said once."""
    faults: dict[str, list[int]] = {}
    seen: dict[str, int] = {}
    for number, cell in enumerate(cells, start=1):
        if (before := seen.setdefault(cell.name, number)) != number:
            faults.setdefault(f"it is the same as cell {before}", []).append(number)
        try:
            cell.config.check()
        except CircuitsError as error:
            faults.setdefault(str(error), []).append(number)
    if faults:
        said = [
            f"cell {numbers[0]} ({cells[numbers[0] - 1]})"
            + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")
            + f": {fault}"
            for fault, numbers in faults.items()
        ]
        raise FormatError(all_faults(f"nothing was begun of {path}:", said))
