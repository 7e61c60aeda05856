"""On which prompts a model knows the answer, and which templates it does not know at all.

A pair is known where the model prefers the clean answer after the clean prompt and the
counterfactual one after the corrupted prompt: only there do both runs do the task. An answer that
is measured whole, without a counterfactual, is known where each of its tokens is the model's first
choice after the clean prompt. A template is not known where fewer than half of its pairs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from tasks.errors import TaskError, counted

if TYPE_CHECKING:
    from patching.model import Model
    from patching.runs import Batch
    from patching.sweep import Sweep
    from tasks import PromptPairs

SHOWN = 3


@dataclass(frozen=True)
class Knowledge:
    """Whether each pair is known, and its template (empty where the pairs have none)."""

    known: Bool[np.ndarray, " n"]
    templates: tuple[str, ...]

    @property
    def by_template(self) -> Mapping[str, tuple[int, int]]:
        """How many of a template's pairs are known, and how many there are."""
        counts: dict[str, tuple[int, int]] = {}
        for name, known in zip(self.templates, self.known.tolist(), strict=True):
            if name:
                right, all_of_it = counts.get(name, (0, 0))
                counts[name] = right + known, all_of_it + 1
        return counts

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        by_template = {name: list(counts) for name, counts in self.by_template.items()}
        return {
            "pairs": int(self.known.sum()),
            "of": len(self.known),
            "by_template": by_template,
        }


def unknown(by_template: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """The templates of which fewer than half of the pairs are known."""
    return {name: at for name, at in by_template.items() if 2 * at[0] < at[1]}


def describe_known(known: Mapping[str, Any]) -> str:
    """What :meth:`Knowledge.to_json` holds, in a line."""
    text = f"the model knows {known['pairs']} of {counted(known['of'], 'pair')}"
    templates, missing = known["by_template"], unknown(known["by_template"])
    if not templates:
        return text
    if not missing:
        return f"{text}, and all {counted(len(templates), 'template')}"
    named = [f'"{name}" ({right} of {n})' for name, (right, n) in missing.items()]
    more = f"; and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return (
        f"{text}; not {len(named)} of {counted(len(templates), 'template')}: "
        f"{'; '.join(named[:SHOWN])}{more}. 'discover --model-correct' leaves such pairs out"
    )


def knowledge(model: Model, pairs: PromptPairs, batch_size: int | Sweep = 64) -> Knowledge:
    """Which pairs the model knows, whatever their metric: two forward passes of each."""
    from patching.ablation.run import baselines

    if (pairs.counterfactual < 0).all():
        missed = 1.0 - _first_choices(model, pairs, batch_size)
        known = pairs.by_prompt(missed) == 0
        return Knowledge(known, ("",) * len(known))
    clean, corrupted = baselines(model, pairs, "logit_diff", batch_size)
    return Knowledge((clean > 0) & (corrupted < 0), pairs.templates)


def _first_choices(
    model: Model, pairs: PromptPairs, batch_size: int | Sweep
) -> Bool[np.ndarray, " n"]:
    """Whether the most likely token after each clean prompt is an answer."""
    from patching.sweep import Sweep, sweep

    def top(batch: Batch) -> Int[np.ndarray, " b"]:
        return model.run(batch.clean, batch.mask).argmax(-1).cpu().numpy()

    first = np.concatenate([*sweep(model, pairs, top, Sweep.of(batch_size))])
    hits: Bool[np.ndarray, " n"] = (pairs.answer == first[:, None]).any(1)
    return hits


def only_known(model: Model, pairs: PromptPairs, batch_size: int | Sweep = 64) -> PromptPairs:
    """The pairs that the model knows.

    Raises:
        TaskError: there are none.
    """
    known = knowledge(model, pairs, batch_size).known
    if not known.any():
        raise TaskError(
            f"the model knows none of {counted(len(pairs), 'pair')}: it does not prefer the right "
            f"answer on both sides of any; choose another task or model, or leave out "
            f"--model-correct"
        )
    return pairs.drawn(np.flatnonzero(known))
