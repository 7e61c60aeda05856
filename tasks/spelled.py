"""Prompt pairs whose answers are several tokens: what is measured of them, and all of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from tasks.errors import TaskError, all_faults
from tasks.row import NO_ID
from tasks.rows import left_pad

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs

SEQUENCE = "sequence_log_prob"
"""The metric of pairs that :func:`each_token` makes."""
SHOWN = 3


def notes(pairs: PromptPairs) -> tuple[str, ...]:
    """What a reader of results should know: where answers are cut, and what is odd about pairs."""
    if pairs.metric == SEQUENCE:
        return (
            *pairs.about,
            f"every one of the {len(pairs)} tokens of the answers of {pairs.prompts} prompts is "
            f"asked for in turn; means are over tokens, intervals over prompts",
        )
    n, shared, first = len(pairs), pairs.shared > 0, pairs.longer & (pairs.shared == 0)
    notes = [*pairs.about]
    if shared.any():
        notes.append(
            f"in {shared.sum()} of {n} pairs answer and counterfactual begin with the same tokens: "
            f"these were added to both prompts, and the first token that differs is measured"
        )
    if first.any():
        notes.append(
            f"in {first.sum()} of {n} pairs the answer or the counterfactual is several tokens: "
            f"the first one is measured"
        )
    remarks = Counter(filter(None, pairs.remarks)).most_common()
    notes += [f"{remark} ({count} of {n} pairs)" for remark, count in remarks[:SHOWN]]
    if len(remarks) > SHOWN:
        notes.append(f"and {len(remarks) - SHOWN} more remarks on single pairs")
    return tuple(notes)


def each_token(pairs: PromptPairs) -> PromptPairs:
    """A row for every token of every answer: the prompt with the tokens before it, and that token.

    The log-probability of a whole answer is the sum over its rows, so that the mean over rows is
    the mean log-probability of a token of an answer, each token read after the right ones before
    it. There is no counterfactual, and clean and corrupted prompts get the same tokens.

    Raises:
        TaskError: a pair has several right answers, whose probabilities cannot be multiplied.
    """
    from tasks.pairs import PromptPairs

    several = (pairs.answer >= 0).sum(1) > 1
    if several.any():
        faults = [f"pair {i}: {(pairs.answer[i] >= 0).sum()} answers" for i in np.where(several)[0]]
        raise TaskError(all_faults(f"{SEQUENCE} takes one right answer of a pair:", faults))
    rows = [row for i in range(len(pairs)) for row in _rows(pairs, i)]
    clean = left_pad([clean for clean, _, _, _ in rows], 0)
    lengths = np.array([len(clean) for clean, _, _, _ in rows])
    owner = np.array([i for _, _, _, i in rows])
    width = clean.shape[1]
    grown = width - pairs.clean.shape[1]
    moved = {name: _moved(pairs, at, owner, lengths, grown) for name, at in pairs.positions.items()}
    return PromptPairs(
        clean=clean,
        corrupted=left_pad([corrupted for _, corrupted, _, _ in rows], 0),
        mask=np.arange(width) >= (width - lengths)[:, None],
        answer=np.array([[token] for _, _, token, _ in rows]),
        counterfactual=np.full((len(rows), 1), NO_ID),
        positions=moved,
        texts=tuple(pairs.texts[i] for i in owner),
        task=pairs.task,
        metric=SEQUENCE,
        remarks=tuple(pairs.remarks[i] for i in owner),
        about=pairs.about,
        prompt=owner,
    )


def by_prompt(
    values: Float[np.ndarray, "*runs n"], prompt: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "*runs m"]:
    """One value a prompt from one a row; see :meth:`tasks.pairs.PromptPairs.by_prompt`."""
    if not len(prompt):
        return values
    names, owner = np.unique(prompt, return_inverse=True)
    belongs = owner[:, None] == np.arange(len(names))
    return values @ (belongs * (len(names) / len(prompt)))


def _rows(pairs: PromptPairs, i: int) -> list[tuple[list[int], list[int], int, int]]:
    """(clean, corrupted, token, pair) for every token of the answer of pair `i`."""
    clean = pairs.clean[i][pairs.mask[i]].tolist()
    corrupted = pairs.corrupted[i][pairs.mask[i]].tolist()
    start = len(clean) - int(pairs.shared[i])
    first = int(pairs.answer[i][pairs.answer[i] >= 0][0])
    answer = [*clean[start:], first, *(int(token) for token in pairs.rest[i] if token >= 0)]
    return [
        ([*clean[:start], *answer[:k]], [*corrupted[:start], *answer[:k]], token, i)
        for k, token in enumerate(answer)
    ]


def _moved(
    pairs: PromptPairs, at: np.ndarray, owner: np.ndarray, lengths: np.ndarray, grown: int
) -> np.ndarray:
    """A position as a column of the new rows; the place that is read stays the last one."""
    last = pairs.clean.shape[1] - 1
    before = pairs.mask.sum(1)[owner]
    columns = at[owner] + grown + before - lengths
    new_last = last + grown
    moved: np.ndarray = np.where(at[owner] == last, new_last, np.minimum(columns, new_last))
    return moved
