"""What a model says: logits after a prompt, greedy continuations, perplexity of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from tasks.tokenize import encode, pad_id

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

IGNORED = -100
BATCH = 128


def last_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]
) -> Float[np.ndarray, "n vocab"]:
    """Logits of the token that follows each prompt."""
    import torch

    rows = []
    for ids, lengths in _batches(tokenizer, [encode(tokenizer, prompt) for prompt in prompts]):
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        rows.append(logits[torch.arange(len(ids)), torch.tensor(lengths) - 1].float().numpy())
    stacked: Float[np.ndarray, "n vocab"] = np.concatenate(rows)
    return stacked


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    tokens: int,
) -> list[str]:
    """Greedy continuations of at most `tokens` tokens, each up to its end-of-sequence token."""
    rows = [encode(tokenizer, prompt) for prompt in prompts]
    starts, end = [len(row) for row in rows], tokenizer.eos_token_id
    open_rows = list(range(len(rows)))
    for _ in range(tokens):
        best = _best(model, tokenizer, [rows[i] for i in open_rows])
        for i, token in zip(open_rows, best, strict=True):
            rows[i].append(token)
        open_rows = [i for i in open_rows if rows[i][-1] != end]
        if not open_rows:
            break
    return [
        tokenizer.decode([token for token in row[start:] if token != end])
        for row, start in zip(rows, starts, strict=True)
    ]


def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> float:
    """exp of the mean next-token loss over all tokens of the texts and the end of each."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, 0
    rows = [[*encode(tokenizer, text), tokenizer.eos_token_id] for text in texts]
    for ids, lengths in _batches(tokenizer, rows):
        wanted = ids.clone()
        wanted[torch.arange(ids.shape[1])[None] >= torch.tensor(lengths)[:, None]] = IGNORED
        with torch.no_grad():
            logits = model(input_ids=ids).logits[:, :-1].float().flatten(0, 1)
        kept = wanted[:, 1:].flatten()
        total += cross_entropy(logits, kept, ignore_index=IGNORED, reduction="sum").item()
        count += int((kept != IGNORED).sum())
    return exp(total / count)


def _best(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[int]]
) -> list[int]:
    import torch

    best: list[int] = []
    for ids, lengths in _batches(tokenizer, rows):
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        best += logits[torch.arange(len(ids)), torch.tensor(lengths) - 1].argmax(-1).tolist()
    return best


def _batches(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[int]]
) -> Iterator[tuple[Tensor, list[int]]]:
    """Ids padded on the right, which a causal model never looks at, and the rows' lengths."""
    import torch

    fill = pad_id(tokenizer)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        lengths = [len(row) for row in part]
        width = max(lengths)
        yield torch.tensor([[*row, *[fill] * (width - len(row))] for row in part]), lengths
