"""A training step's texts as token ids: encoded, sorted by length, and cut into even chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from circuits.nano.sources import Text
from tasks.errors import TaskError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 64


class Row(NamedTuple):
    """A text's token ids, from beginning to end of sequence; its answer is `ids[start:end]`."""

    ids: list[int]
    start: int
    end: int


class Chunk(NamedTuple):
    """Texts of about the same length, padded on the right.

    ids     int64 [n, pos]
    owner   int64 [n], the source that each text came from
    answer  bool [n, pos - 1], True where the next token is part of the answer
    text    bool [n, pos - 1], True where the next token counts for the whole-text loss
    """

    ids: Int[np.ndarray, "n pos"]
    owner: Int[np.ndarray, " n"]
    answer: Bool[np.ndarray, "n pos1"]
    text: Bool[np.ndarray, "n pos1"]


def rows_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text], context: int) -> list[Row]:
    """The texts as rows; `TaskError` for words outside the vocabulary and for texts too long."""
    if not texts:
        return []
    prompts, answers = (
        tokenizer(list(part), add_special_tokens=False)["input_ids"]
        for part in zip(*texts, strict=True)
    )
    rows = []
    for text, prompt, answer in zip(texts, prompts, answers, strict=True):
        ids = [tokenizer.bos_token_id, *prompt, *answer, tokenizer.eos_token_id]
        if tokenizer.unk_token_id in ids or len(ids) > context:
            raise TaskError(
                f"training text {''.join(text)!r} has words outside its source's vocabulary, "
                f"or more than {context} tokens"
            )
        rows.append(Row(ids, 1 + len(prompt), 1 + len(prompt) + len(answer)))
    return rows


def chunks_of(
    rows: Sequence[Row],
    owners: Sequence[int],
    parts: Sequence[float],
    rng: np.random.Generator,
    size: int = CHUNK,
) -> Iterator[Chunk]:
    """The rows by length, `size` to a chunk, so that little padding is computed.

    Of the tokens of a text from source `i` a random share `parts[i]` counts for the whole-text
    loss: its expectation is the same, and the unembedding costs less.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        shape = len(chosen), max(len(rows[i].ids) for i in chosen)
        ids = np.zeros(shape, dtype=np.int64)
        answer, real = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for k, row in enumerate(rows[i] for i in chosen):
            ids[k, : len(row.ids)] = row.ids
            real[k, : len(row.ids)] = True
            answer[k, row.start : row.end] = True
        owner = np.array([owners[i] for i in chosen])
        text = real & (rng.random(shape) < np.array(parts)[owner][:, None])
        yield Chunk(ids, owner, answer[:, 1:], text[:, 1:])
