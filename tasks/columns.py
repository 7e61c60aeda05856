"""What is said of each prompt beside its question: by what results can be grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import TaskError, unknown

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs

MOST_CHARACTERS = 200


def column(pairs: PromptPairs, name: str) -> tuple[str, ...]:
    """The values of one column, a value for each prompt.

    Raises:
        TaskError: there is no such column, with those there are.
    """
    known: dict[str, Sequence[str]] = dict(pairs.columns)
    if any(pairs.templates):
        known.setdefault("template", pairs.templates)
    known.setdefault("length", [f"{count} tokens" for count in pairs.mask.sum(1).tolist()])
    if name not in known:
        raise TaskError(
            f"{unknown('column of these prompts', name, known)}; further keys of a file of prompts "
            f"are columns, where every row has them"
        )
    values = known[name]
    if not len(pairs.prompt):
        return tuple(values)
    first = np.unique(pairs.prompt, return_index=True)[1]
    return tuple(values[row] for row in first)


def further(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What every row of a file says beside its question, in short values."""
    names = [name for name in (rows[0] if rows else ()) if name]
    every = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: tuple(map(str, values))
        for name, values in every.items()
        if all(isinstance(v, str | int | bool) and len(str(v)) <= MOST_CHARACTERS for v in values)
    }
