"""Driving a model with components of a label, and baselines, all decoded in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import exp

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.studies.emotion.circuit import Components
from circuits.studies.emotion.prompts import EmotionPrompt
from patching.capture import Prompts
from patching.forward import Tap, no_tap
from patching.generate import generate
from patching.in_use import undisturbed
from patching.model import Model
from patching.sweep import Sweep
from patching.text_loss import text_loss
from tasks.errors import MethodError, unknown
from tasks.tokenize import encode, pad_id

POSITIONS = ("last", "all")


def enhance(
    chosen: Components,
    neurons: Float[np.ndarray, "layers d_mlp"],
    heads: Float[np.ndarray, "layers heads d_head"],
    strength: float = 1.0,
    positions: str = "last",
) -> Tap:
    """Add ``strength`` times the group-centred difference to the chosen components.

    ``positions`` is ``last`` (the last token of every pass: of the prompt, then each new one) or
    ``all``.
    """
    return _on_components(chosen, _adding(neurons, strength), _adding(heads, strength), positions)


def silence(chosen: Components, positions: str = "last") -> Tap:
    """Set the chosen components to zero."""
    return _on_components(chosen, _zero, _zero, positions)


Change = Callable[[int, list[int], Tensor], Tensor]


def _adding(differences: Float[np.ndarray, "layers *s"], strength: float) -> Change:
    def change(layer: int, units: list[int], value: Tensor) -> Tensor:
        rows = differences[layer][units] * strength
        return value + torch.tensor(rows, dtype=value.dtype, device=value.device)

    return change


def _zero(layer: int, units: list[int], value: Tensor) -> Tensor:
    del layer, units
    return torch.zeros_like(value)


def _on_components(chosen: Components, neurons: Change, heads: Change, positions: str) -> Tap:
    start = _start(positions)
    edits = {"mlp_post": (chosen.neurons, neurons), "z": (chosen.heads, heads)}

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if kind not in edits or not edits[kind][0][layer]:
            return value
        units, change = list(edits[kind][0][layer]), edits[kind][1]
        value = value.clone()
        value[:, start:, units] = change(layer, units, value[:, start:, units])
        return value

    return tap


def steer(
    vectors: Float[np.ndarray, "layers d"],
    layers: Sequence[int],
    strength: float,
    positions: str = "last",
) -> Tap:
    """Add ``strength`` times the stream's own norm along a vector, after each of ``layers``.

    The vectors may be directions or the weights of probes.
    """
    outside = [layer for layer in layers if not 0 <= layer < len(vectors)]
    if outside:
        raise MethodError(f"layers {outside} are outside the model's 0 to {len(vectors) - 1}")
    start = _start(positions)

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if kind != "resid_post" or layer not in layers:
            return value
        vector = torch.tensor(vectors[layer], dtype=value.dtype, device=value.device)
        part, value = value[:, start:], value.clone()
        value[:, start:] = part + strength * part.norm(dim=-1, keepdim=True) * vector
        return value

    return tap


def _start(positions: str) -> int:
    if positions not in POSITIONS:
        raise MethodError(unknown("positions", positions, POSITIONS))
    return -1 if positions == "last" else 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A generated text.

    ``tokens`` is how long it is, ``ended`` whether the model ended it before the limit, and
    ``repeats`` whether two or more of its runs of three tokens stood in it before.
    """

    text: str
    tokens: int
    ended: bool
    repeats: bool

    @property
    def short(self) -> bool:
        """Whether the model ended it before the second token."""
        return self.ended and self.tokens < 2

    @property
    def degenerate(self) -> bool:
        """Whether it is no proper reply: repeating, or hardly there."""
        return self.repeats or self.short


def replies(
    model: Model,
    prompts: Sequence[EmotionPrompt],
    new: int,
    tap: Tap = no_tap,
    batch_size: int | Sweep = 64,
) -> list[Reply]:
    """Greedy continuations; nothing differs between methods but the tap and the prompts."""
    tokenizer = model.tokenizer
    rows = [prompt.ids(tokenizer) for prompt in prompts]
    end, made = tokenizer.eos_token_id, []

    def work(tokens: Tensor, mask: Tensor) -> list[list[int]]:
        return generate(model, tokens, mask, new, tap=tap, stop=end).tolist()

    batch = Prompts.of(rows, pad_id(tokenizer))
    for row in chain.from_iterable(batch.sweep(model, work, Sweep.of(batch_size))):
        kept = row[: row.index(end)] if end in row else row
        triples = list(zip(kept, kept[1:], kept[2:], strict=False))
        repeats = len(triples) - len(set(triples)) >= 2
        made.append(Reply(tokenizer.decode(kept), len(kept), end in row, repeats))
    return made


@undisturbed
@torch.no_grad()
def perplexity(
    model: Model,
    texts: Sequence[str],
    tap: Tap = no_tap,
    batch_size: int | Sweep = 64,
    bos: bool | None = None,
) -> float:
    """exp of the mean next-token loss; with a tap for all positions, each token is changed as it
    would be were it the last.
    """
    rows = [encode(model.tokenizer, text, bos) for text in texts]
    longest = model.longest
    prompts = Prompts.of([row[:longest] for row in rows], pad_id(model.tokenizer))

    def work(tokens: Tensor, mask: Tensor) -> tuple[float, int]:
        return text_loss(model, tokens, mask, tap)

    losses, counts = zip(*prompts.sweep(model, work, Sweep.of(batch_size)), strict=True)
    return exp(sum(losses) / sum(counts))
