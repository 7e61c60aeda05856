"""Prompts of the same task or file that were not used to find a circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from circuits.config import Config
from circuits.evaluation.outcomes import check_disjoint, prompt_keys
from circuits.prompts import file_pairs, fitted, prompts_of
from tasks.errors import RunError, TaskError

if TYPE_CHECKING:
    from patching.model import Model
    from tasks import PromptPairs

ROUNDS = 8
"""Further seeds that are tried until enough new prompts are found."""


def held_out(
    config: Config, model: Model, used: Sequence[PromptPairs], n: int, seed: int = 1
) -> PromptPairs:
    """``n`` prompts of the same task or file that are in none of ``used``; fewer if there are.

    A task is asked with the seeds that follow ``seed + config.seed`` until it has given enough.

    Raises:
        RunError: every prompt there is was used.
    """
    seen = {key for pairs in used for key in prompt_keys(pairs)}
    unseen: PromptPairs | None = None
    for attempt in range(1 if config.from_file or config.asked else ROUNDS):
        drawn = _draw(config, model, n, config.seed + seed + attempt)
        if drawn is None:
            break
        fresh = [at for at, key in enumerate(prompt_keys(drawn)) if key not in seen]
        if unseen is None or len(fresh) > unseen.prompts:
            unseen = drawn.drawn(fresh[:n]) if fresh else unseen
        if unseen is not None and unseen.prompts >= n:
            break
    if unseen is None:
        raise RunError(
            f"every prompt of {config.task or 'this run'} was used to find the circuit; give other "
            f"prompts with --prompts FILE"
        )
    for pairs in used:
        check_disjoint(pairs, unseen)
    return unseen


def _draw(config: Config, model: Model, n: int, seed: int) -> PromptPairs | None:
    """Prompts with another seed, some more than needed; of a file, all that it has."""
    if config.asked:
        return None
    if config.from_file:
        return fitted(file_pairs(config.task or "", config, model, None, seed), config.metric)
    for count in (2 * n, n):
        try:
            return prompts_of(replace(config, n=count, seed=seed), model)
        except TaskError:
            continue
    return None
