"""Prompts that a circuit was not found on: same task or file, other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from circuits.config import Config
from circuits.discover import ask
from circuits.evaluation.outcomes import check_disjoint, prompt_keys
from tasks.errors import RunError, TaskError

if TYPE_CHECKING:
    from circuits.record import RunRecord
    from patching.model import Model
    from tasks import PromptPairs

ROUNDS = 8
"""Further seeds that are tried until enough new prompts are found."""


def config_of(record: RunRecord) -> Config:
    """The choices of a finished discovery.

    Raises:
        RunError: the run was no discovery, or a later version made it.
    """
    known = {field.name for field in fields(Config)}
    if record.config.get("method") == "af1":
        raise RunError(
            "this run is an All-for-One search, which carries its own test; evaluate and compare "
            "are for runs of circuits discover"
        )
    if others := sorted(set(record.config) - known):
        raise RunError(
            f"this run was made with choices that this version does not know: {', '.join(others)}"
        )
    return Config(**record.config)


def used_prompts(record: RunRecord, model: Model, other_model: bool = False) -> PromptPairs:
    """The prompts that a run was made with, drawn again.

    Raises:
        RunError: they come out differently now, so nothing could be called held out; not checked
            for ``other_model``, whose tokenizer may differ.
    """
    config = config_of(record)
    pairs = ask(config, model)
    if not other_model and pairs.digest != record.prompts.sha256:
        raise RunError(
            f"the prompts of this run ({config.task}, seed {config.seed}) come out differently "
            f"now, so other prompts cannot be told from them; discover it again"
        )
    return pairs


def held_out(
    config: Config, model: Model, used: Sequence[PromptPairs], n: int, seed: int = 1
) -> PromptPairs:
    """``n`` prompts of the same task or file that are in none of ``used``; fewer if there are.

    A task is asked with the seeds that follow ``seed + config.seed`` until it has given enough.

    Raises:
        RunError: every prompt there is was used.
    """
    seen = {key for pairs in used for key in prompt_keys(pairs)}
    found: PromptPairs | None = None
    for attempt in range(1 if config.from_file else ROUNDS):
        drawn = _draw(config, model, n, config.seed + seed + attempt)
        if drawn is None:
            break
        fresh = [row for row, key in enumerate(prompt_keys(drawn)) if key not in seen]
        if found is None or len(fresh) > len(found):
            found = drawn[np.array(fresh[:n], dtype=int)] if fresh else found
        if found is not None and len(found) >= n:
            break
    if found is None:
        raise RunError(
            f"every prompt of {config.task} was used to find the circuit; give other prompts "
            f"with --prompts FILE"
        )
    for pairs in used:
        check_disjoint(pairs, found)
    return found


def _draw(config: Config, model: Model, n: int, seed: int) -> PromptPairs | None:
    """Prompts with another seed, some more than needed; of a file, all that it has."""
    import tasks

    if config.from_file:
        return tasks.read_pairs(
            config.task or "", model.tokenizer, seed=seed, skip_bad=config.skip_bad
        )
    for count in (2 * n, n):
        try:
            return ask(replace(config, n=count, seed=seed), model)
        except TaskError:
            continue
    return None


def from_file(
    path: Path, model: Model, used: Sequence[PromptPairs], skip_bad: bool = False
) -> PromptPairs:
    """All prompts of a file, none of which may have been used.

    Raises:
        RunError: some were.
    """
    import tasks

    pairs = tasks.read_pairs(path, model.tokenizer, skip_bad=skip_bad)
    for each in used:
        check_disjoint(each, pairs)
    return pairs
