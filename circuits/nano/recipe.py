"""The numbers of a training run, and the learning rate they imply."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import cos, pi
from typing import Any

from tasks.errors import TaskError


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights: data, seed, size and schedule.

    tasks         sources of training text (circuits/nano/sources.py)
    steps         optimizer steps; the cosine of the learning rate ends at zero after the last
    turns         steps at which the next phase of the sources' shares begins
    texts         texts per step in each phase, divided among the sources by their shares
    width, heads  d_model and heads per layer; the MLP is four times as wide
    context       positions the model has
    decay         AdamW weight decay, on matrices alone
    low           matrix products in bfloat16 (circuits/nano/forward.py)
    """

    tasks: tuple[str, ...] = (
        "ioi",
        "mental_math",
        "mcq_bias",
        "facts",
        "letters",
        "emotion",
        "story",
    )
    seed: int = 0
    steps: int = 15000
    turns: tuple[int, ...] = (1000, 1900, 6600)
    texts: tuple[int, ...] = (256, 250, 250, 300)
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    rate: float = 2e-3
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.1
    clip: float = 1.0
    low: bool = True

    def __post_init__(self) -> None:
        sizes = (self.steps, *self.texts, self.layers, self.heads, self.width, self.context)
        if min(sizes) < 1 or self.seed < 0 or self.width % self.heads:
            raise TaskError(
                f"steps, texts, layers, heads, width and context are {sizes}, seed {self.seed}; "
                "give positive sizes, a seed of at least 0 and a width that the heads divide"
            )

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0: linear warm-up, then half a cosine to zero."""
        warmup = min(self.warmup, self.steps // 2)
        if step < warmup:
            return self.rate * (step + 1) / warmup
        return self.rate * 0.5 * (1 + cos(pi * (step + 1 - warmup) / (self.steps - warmup)))

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
