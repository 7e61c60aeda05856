"""The tasks of the circuit track, and what was published for other models on them.

The published figures are those of the public test set (Mueller et al. 2025, arXiv 2504.13151,
tables 2 and 14; the row of GIM as it was run again in 2026). None of them is of the model that is
measured here, unless it is one of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tasks.errors import MethodError, unknown

LEAST = 0.75
"""A model that answers fewer of a task's prompts has no cell in the benchmark."""

TASKS = MappingProxyType(
    {
        "ioi": "ioi:corruption=s2_io_flip",
        "mcqa": "colored_objects",
        "arithmetic_addition": "arithmetic:operator=+",
        "arithmetic_subtraction": "arithmetic:operator=-",
    }
)
"""The benchmark's names for tasks that need no file, and ours."""

FILED = ("arc_easy", "arc_challenge")
"""Tasks whose questions stand in a file."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One task of the track.

    name   the benchmark's name
    task   ours, with its options
    """

    name: str
    task: str


def cells(names: Sequence[str] = (), files: Mapping[str, Path] | None = None) -> tuple[Cell, ...]:
    """The named tasks, or all that can be asked; those of `files` have their questions there.

    Raises:
        MethodError: a name that the track does not have, or a task without its file.
    """
    given = dict(files or {})
    known = (*TASKS, *FILED)
    for name in (*names, *given):
        if name not in known:
            raise MethodError(unknown("task of the circuit track", name, known))
    if odd := sorted(set(given) - set(FILED)):
        raise MethodError(f"{odd[0]} takes no file; questions of a file are asked as {FILED[0]}")
    wanted = names or (*TASKS, *(name for name in FILED if name in given))
    if missing := [name for name in wanted if name in FILED and name not in given]:
        raise MethodError(
            f"{missing[0]} needs its questions: --file {missing[0]}=FILE, with a file as the hub "
            f"has it (see the how-to page on question files)"
        )
    return tuple(Cell(name, TASKS.get(name) or _of_file(given[name])) for name in wanted)


def _of_file(path: Path) -> str:
    """Questions whose letters are replaced by others, as the benchmark does."""
    return f"mcq_bias:file={path}+gold=balanced+corruption=symbols"


PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "random": {
            "ioi": {"GPT-2": 0.25, "Qwen2.5-0.5B": 0.28, "Gemma-2-2B": 0.30, "Llama-3.1-8B": 0.25},
            "mcqa": {"Qwen2.5-0.5B": 0.27, "Gemma-2-2B": 0.32, "Llama-3.1-8B": 0.26},
            "arithmetic_addition": {"Llama-3.1-8B": 0.25},
            "arithmetic_subtraction": {"Llama-3.1-8B": 0.25},
            "arc_easy": {"Gemma-2-2B": 0.32, "Llama-3.1-8B": 0.26},
            "arc_challenge": {"Llama-3.1-8B": 0.25},
        },
        "EAP-IG on inputs": {
            "ioi": {"GPT-2": 1.85, "Qwen2.5-0.5B": 1.63, "Gemma-2-2B": 3.20, "Llama-3.1-8B": 2.08},
            "mcqa": {"Qwen2.5-0.5B": 1.16, "Gemma-2-2B": 1.64, "Llama-3.1-8B": 1.05},
            "arithmetic_addition": {"Llama-3.1-8B": 0.96},
            "arithmetic_subtraction": {"Llama-3.1-8B": 1.03},
            "arc_easy": {"Gemma-2-2B": 1.53, "Llama-3.1-8B": 1.04},
            "arc_challenge": {"Llama-3.1-8B": 0.98},
        },
        "UGS": {
            "ioi": {"GPT-2": 0.97, "Qwen2.5-0.5B": 0.98},
            "mcqa": {"Qwen2.5-0.5B": 1.17},
        },
    }
)
"""CPR by method, task and model: signed ranking of edges, corrupted activations outside."""
