"""Prompts that a circuit was not found on: same task or file, other prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from circuits.config import Config
from circuits.evaluation.outcomes import check_disjoint
from circuits.prompts import file_pairs, fitted, prompts_of
from tasks.errors import RunError, all_faults, number_faults
from tasks.limits import MAX_ROWS
from tasks.row import shorten

if TYPE_CHECKING:
    from circuits.results.record import RunRecord
    from patching.model import Model
    from tasks import PromptPairs

KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "model", "metric", "memory"), (str, NoneType)),
    **dict.fromkeys(
        ("method", "level", "nodes", "positions", "direction", "select", "ablation", "chat"), (str,)
    ),
    **dict.fromkeys(("top", "n"), (int, NoneType)),
    "faithful": (float, int, NoneType),
    **dict.fromkeys(("seed", "batch_size"), (int,)),
    **dict.fromkeys(("skip_bad", "model_correct"), (bool,)),
    "bos": (bool, NoneType),
    "asked": (list,),
    "options": (dict,),
}
"""What a run's record holds of every choice of a discovery."""


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
    if faults := _faults(record.config):
        raise RunError(all_faults("this run's choices cannot be those of a discovery:", faults))
    return Config(**record.config)


def _faults(choices: Mapping[str, Any]) -> list[str]:
    """Choices of a file that have another type than they must have, or numbers that cannot be."""
    odd = [
        f"{name} is {shorten(repr(value))}"
        for name, value in choices.items()
        if type(value) not in KINDS[name]
    ]
    if "task" not in choices:
        odd.append("no task is named, nor that there is none")
    questions = choices.get("asked", ())
    if not odd and not all(
        isinstance(question, list) and [type(text) for text in question] == [str] * 4
        for question in questions
    ):
        odd.append("asked holds something else than four texts for each question")
    if odd:
        return odd
    chosen = ((name, choices.get(name)) for name in ("top", "n", "batch_size"))
    given = {name: 1 if number is None else number for name, number in chosen}
    numbers = ((name, number, 1) for name, number in given.items())
    odd = number_faults(*numbers, ("seed", choices.get("seed", 0), 0))
    large = [name for name in ("n", "batch_size") if given[name] > MAX_ROWS]
    return odd + [f"{name} is {given[name]}, at most {MAX_ROWS:,}" for name in large]


def used_prompts(record: RunRecord, model: Model, other_model: bool = False) -> PromptPairs:
    """The prompts that a run was made with, drawn again.

    Raises:
        RunError: they come out differently now, so nothing could be called held out; not checked
            for ``other_model``, whose tokenizer may differ.
    """
    config = config_of(record)
    pairs = prompts_of(config, model)
    if not other_model and pairs.digest != record.prompts.sha256:
        raise RunError(
            f"the prompts of this run ({config.task or 'written by hand'}, seed {config.seed}) "
            f"come out differently now, so other prompts cannot be told from them; discover it "
            f"again"
        )
    return pairs


def from_file(
    path: Path, config: Config, model: Model, used: Sequence[PromptPairs], skip_bad: bool = False
) -> PromptPairs:
    """All prompts of a file, put to the model as those of a run; none of them may have been used.

    Raises:
        RunError: some were.
    """
    config = replace(config, skip_bad=skip_bad)
    pairs = fitted(file_pairs(path, config, model, None, 0), config.metric)
    for each in used:
        check_disjoint(each, pairs)
    return pairs
