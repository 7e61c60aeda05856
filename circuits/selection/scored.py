"""What one or several methods make of the prompts, in all and prompt by prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from circuits.selection.combine import ensemble, ensemble_weights
from circuits.selection.placed import WORDS
from patching.scores import Scores

if TYPE_CHECKING:
    from circuits.config import Config
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs

Rows = Float[np.ndarray, "n names"]


@dataclass(frozen=True)
class ScoreSet:
    """Scores of every method, and, where they were kept, the scores of every single prompt.

    ``rows[i]`` belongs to ``parts[i]``: its mean over prompts are the values there.
    """

    parts: tuple[Scores, ...]
    rows: tuple[Rows, ...] = ()

    @cached_property
    def scores(self) -> Scores:
        """The scores of the only method, or the mean of several.

        Of several methods the mean has standard errors only if every prompt's scores were kept.
        """
        if len(self.parts) == 1:
            return self.parts[0]
        mean = ensemble(*self.parts)
        return replace(mean, squares=(self.per_prompt**2).sum(0)) if self.rows else mean

    @property
    def notes(self) -> tuple[str, ...]:
        """What the method ``auto`` chose, and how far its estimates are right."""
        return tuple(f"scored {part.chosen}" for part in self.parts if part.chosen is not None)

    @cached_property
    def per_prompt(self) -> Rows:
        """Every prompt's own scores, whose mean over prompts are the values of :attr:`scores`."""
        if len(self.rows) == 1:
            return self.rows[0]
        weights = ensemble_weights(self.parts)
        weighted = [w * each for w, each in zip(weights, self.rows, strict=True)]
        return np.mean(weighted, axis=0)

    def drawn(self, prompts: Int[np.ndarray, " m"]) -> ScoreSet:
        """What the same methods make of another draw of these prompts, some of them repeated."""
        rows = tuple(each[prompts] for each in self.rows)
        parts = tuple(
            replace(
                part,
                totals=some.sum(0),
                squares=(some**2).sum(0),
                count=len(prompts),
                clean=float("nan"),
                corrupted=float("nan"),
            )
            for part, some in zip(self.parts, rows, strict=True)
        )
        return ScoreSet(parts, rows)


def score_by(
    config: Config,
    model: Model,
    pairs: PromptPairs,
    options: Sweep | None = None,
    keep_rows: bool = False,
) -> ScoreSet:
    """Score the pairs by every method of a configuration.

    Every prompt's scores are kept where ``keep_rows`` says so, and of several methods.

    Raises:
        MethodError: they are to be kept, and a method has none.
    """
    from patching.scoring import prompt_scores, score

    methods = config.methods
    parts, rows = [], []
    for name, own in methods:
        how = {
            "level": "placed" if config.positions else config.level,
            "positions": WORDS.get(config.positions, "all"),
            "nodes": config.nodes,
            "direction": config.direction,
            "metric": config.metric or pairs.metric,
            "batch_size": options or config.batch_size,
            **own,
        }
        if keep_rows or len(methods) > 1:
            scores, each = prompt_scores(model, pairs, name, **how)
            rows.append(each)
        else:
            scores = score(model, pairs, name, **how)
        parts.append(scores)
    return ScoreSet(tuple(parts), tuple(rows))
