"""Spans: which tokens of each prompt are one place, where prompts are of unequal length.

A file says so under ``spans``, a name for each place with the tokens from start to stop, the stop
left out, as they are counted in the clean prompt as it is run:

    "spans": {"subject": [0, 3], "verb": [3, 4], "rest of it": [4, 9]}

Every row names the same places, every token is in exactly one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import TaskError, all_faults

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs

KEY = "spans"


def with_spans(pairs: PromptPairs, given: Sequence[Any], where: Sequence[str]) -> PromptPairs:
    """The pairs with the spans of their rows; ``where`` names the rows in messages.

    Tokens that answers have in common stand behind a prompt; they belong to its last span.

    Raises:
        TaskError: every row whose spans overlap, miss a token, lie outside of the prompt, or have
            other names than those of the first row.
    """
    lengths = pairs.mask.sum(1)
    first = given[0] if isinstance(given[0], Mapping) else {}
    faults = [
        f"{place}: {fault}"
        for place, row, length in zip(where, given, lengths - pairs.shared, strict=True)
        for fault in _faults(row, int(length), list(first))
    ]
    if faults:
        raise TaskError(all_faults("these spans cannot be used:", faults))
    start = pairs.clean.shape[1] - lengths
    spans = {name: np.array([row[name] for row in given]) + start[:, None] for name in first}
    last = max(first, key=lambda name: int(first[name][1]))
    spans[last][:, 1] += pairs.shared
    return replace(pairs, spans=spans)


def _faults(row: Any, length: int, names: list[str]) -> Iterator[str]:
    """What is wrong with the spans of one prompt of so many tokens."""
    if not isinstance(row, Mapping) or not row:
        yield 'spans are an object such as {"subject": [0, 3], "rest": [3, 8]}'
        return
    if list(row) != names:
        yield f"it names {', '.join(map(str, row))}, and the first row {', '.join(names) or 'none'}"
        return
    odd = [name for name, at in row.items() if not _is_span(at)]
    if odd:
        yield f"{odd[0]} is {row[odd[0]]!r}; give [start, stop] with start below stop"
        return
    end, before = 0, "the beginning"
    for name, (start, stop) in sorted(row.items(), key=lambda item: item[1][0]):
        if start < end:
            yield f"{name} [{start}, {stop}] overlaps {before}, which goes on to {end}"
        elif start > end:
            yield f"token {end} is in no span: {before} ends there, {name} begins at {start}"
        end, before = max(end, stop), name
    if end < length:
        yield f"token {end} is in no span: the prompt has {length} tokens"
    elif end > length:
        yield f"{before} goes on to {end}, and the prompt has {length} tokens"


def _is_span(at: Any) -> bool:
    whole = isinstance(at, list | tuple) and len(at) == 2 and all(type(i) is int for i in at)
    return whole and 0 <= at[0] < at[1]
