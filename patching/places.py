"""Places: which tokens of a prompt a label of a circuit stands for.

A circuit whose edges are tied to positions splits every prompt into places. A place is one token,
or several that are treated as one. Of ``token`` every token is a place of its own, by its index. Of
``named`` each position that the task names is one, and all tokens without a name are together the
place ``rest``; where the prompts have spans (:mod:`tasks.spans`), these are the places instead. So
every token is in exactly one place, and a circuit of all edges at all places is the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.runs import Batch
from patching.sites import Label
from patching.sitesets import check_readable, labels_of
from tasks.errors import MethodError, SiteError
from tasks.pairs import PromptPairs

REST = "rest"
"""The place of all tokens that no other one names."""


def places_of(positions: str, pairs: PromptPairs) -> tuple[Label, ...]:
    """The labels of the places that ``token`` or ``named`` splits these prompts into, in order.

    Raises:
        MethodError: another word.
        SiteError: there are no such positions, two of them are one token, or one is called rest.
    """
    if positions not in ("token", "named"):
        raise MethodError(f"places are token or named, given '{positions}'")
    if positions == "named" and pairs.spans:
        check_readable(pairs.spans)
        return tuple(sorted(pairs.spans, key=lambda name: float(pairs.spans[name][:, 0].mean())))
    labels = labels_of(positions, pairs)
    if positions == "token":
        return labels
    check_named(pairs)
    order = sorted(labels, key=lambda label: float(np.mean(pairs.positions[str(label)])))
    covered = len(labels) * len(pairs)
    return (*order, REST) if int(pairs.mask.sum()) > covered else tuple(order)


def check_named(pairs: PromptPairs) -> None:
    """Refuse named positions that cannot be places.

    Raises:
        SiteError: two names for one token, or a position of the name that stands for the others.
    """
    if REST in pairs.positions:
        raise SiteError(f"'{REST}' is the place of all tokens without a name; name it otherwise")
    names = list(pairs.positions)
    columns = np.stack([pairs.positions[name] for name in names], axis=1)
    for prompt, row in enumerate(columns):
        kinds, counts = np.unique(row, return_counts=True)
        if (counts > 1).any():
            at = int(kinds[counts > 1][0])
            both = [name for name, column in zip(names, row, strict=True) if column == at]
            raise SiteError(
                f"positions {' and '.join(both)} are one token in prompt {prompt + 1}; places must "
                f"not overlap: score every token (token), or name them otherwise"
            )


def place_numbers(labels: Sequence[Label], batch: Batch) -> Int[Tensor, "b s"]:
    """Which of the places every token is in; ``len(labels)`` where it is in none, or is padding.

    Raises:
        SiteError: the prompts have no position of a label.
    """
    first = batch.mask.long().argmax(1)
    columns = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    numbers = torch.full(batch.mask.shape, len(labels), device=batch.mask.device)
    for number, label in enumerate(labels):
        numbers[_tokens(label, batch, first, columns)] = number
    return torch.where(batch.mask, numbers, len(labels))


def _tokens(
    label: Label, batch: Batch, first: Int[Tensor, " b"], columns: Int[Tensor, " s"]
) -> Bool[Tensor, "b s"]:
    if isinstance(label, int):
        start = first if label >= 0 else torch.full_like(first, len(columns))
        return columns[None] == (start + label)[:, None]
    if label is None:
        return batch.mask
    if label != REST or REST in batch.pairs.spans:
        return _named(label, batch, columns)
    taken = [_named(name, batch, columns) for name in batch.pairs.positions]
    return batch.mask & ~torch.stack(taken).any(0) if taken else batch.mask


def _named(name: str, batch: Batch, columns: Int[Tensor, " s"]) -> Bool[Tensor, "b s"]:
    if name in batch.pairs.spans:
        at = torch.tensor(batch.pairs.spans[name], device=columns.device) - batch.dropped
        return (columns[None] >= at[:, :1]) & (columns[None] < at[:, 1:])
    if name not in batch.pairs.positions:
        known = ", ".join(batch.pairs.positions) or "none"
        raise SiteError(f"these prompts have no position '{name}'; they have: {known}")
    at = torch.tensor(batch.pairs.positions[name], device=columns.device) - batch.dropped
    return columns[None] == at[:, None]


def place_sizes(labels: Sequence[Label], pairs: PromptPairs) -> Float[np.ndarray, " places"]:
    """What share of a prompt's tokens each place is, mean over prompts."""
    return _members(labels, pairs).mean(0)


def pair_sizes(labels: Sequence[Label], pairs: PromptPairs) -> Float[np.ndarray, "query source"]:
    """What share of the token pairs that a head can carry lies between each two places."""
    shares = []
    for numbers, mask in numbers_of(labels, pairs):
        tokens = numbers[mask]
        seen = np.tril(np.ones((len(tokens), len(tokens))))
        hot = np.eye(len(labels) + 1)[tokens][:, : len(labels)]
        shares.append(hot.T @ seen @ hot / seen.sum())
    return np.mean(shares, axis=0)


def described(positions: str, pairs: PromptPairs) -> dict[str, Any]:
    """What scores keep of their places: the labels, and the shares that costs are made of."""
    labels = places_of(positions, pairs)
    return {
        "places": list(labels),
        "token_shares": place_sizes(labels, pairs).round(6).tolist(),
        "pair_shares": pair_sizes(labels, pairs).round(6).tolist(),
    }


def _members(labels: Sequence[Label], pairs: PromptPairs) -> Float[np.ndarray, "n places"]:
    counts = [
        np.bincount(numbers[mask], minlength=len(labels) + 1)[: len(labels)] / mask.sum()
        for numbers, mask in numbers_of(labels, pairs)
    ]
    return np.stack(counts)


def numbers_of(
    labels: Sequence[Label], pairs: PromptPairs
) -> list[tuple[Int[np.ndarray, " s"], Bool[np.ndarray, " s"]]]:
    """The places of every prompt's tokens (:func:`place_numbers`), and which are no padding."""
    dropped = int(pairs.mask.any(0).argmax())
    mask = torch.tensor(pairs.mask[:, dropped:])
    batch = Batch(pairs, mask.long(), mask.long(), mask, dropped)
    numbers = place_numbers(labels, batch).numpy()
    return list(zip(numbers, mask.numpy(), strict=True))
