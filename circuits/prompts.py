"""The prompt pairs of a configuration: of a task, of a file, or written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError

if TYPE_CHECKING:
    from circuits.config import Config
    from patching.model import Model
    from tasks import PromptPairs
    from tasks.files import PairsFile

WRITTEN = "ask"
"""What prompts that were written by hand are called instead of a task."""


def prompts_of(config: Config, model: Model) -> PromptPairs:
    """The prompt pairs of the configured task, file or questions, in the model's tokens.

    With ``model_correct`` those of them that the model knows, so fewer than ``n`` where it does not
    know some.

    Raises:
        TaskError: they cannot be made for this model, or it knows none of them.
    """
    return noted_prompts(config, model)[0]


def noted_prompts(config: Config, model: Model) -> tuple[PromptPairs, tuple[str, ...]]:
    """The same, and what to know of them: of their file, and of how their answers are measured."""
    if config.asked:
        pairs, notes = written_pairs(config, model)[: config.n], list[str]()
    elif config.from_file:
        file = _file(config.task or "", config, model, config.n, config.seed)
        pairs, notes = file.pairs, file.notes()
    else:
        pairs, notes = _task_pairs(config, model), []
    pairs = fitted(pairs, config.metric)
    if config.model_correct:
        from circuits.knowledge import only_known

        pairs = only_known(model, pairs, config.batch_size)
    return pairs, (*notes, *pairs.notes)


def _task_pairs(config: Config, model: Model) -> PromptPairs:
    import tasks

    tokenizer, n = _tokenizer(f"task {config.task}", model), config.count or 0
    task = tasks.get(config.task or "")
    if config.skip_bad and "skip_bad" in task.options:
        task = task.set(skip_bad=True)
    return task.pairs(tokenizer, n=n, seed=config.seed, bos=config.bos, chat=config.chat)


def written_pairs(config: Config, model: Model) -> PromptPairs:
    """The questions that the configuration itself holds."""
    from tasks import PromptPairs

    clean, corrupted, answer, counterfactual = map(list, zip(*config.asked, strict=True))
    return PromptPairs.from_texts(
        _tokenizer("this question", model),
        clean,
        corrupted,
        answer,
        counterfactual,
        bos=config.bos,
        chat=config.chat,
        task=WRITTEN,
        where=[f"question {i + 1}" for i in range(len(clean))],
    )


def file_pairs(
    path: str | Path, config: Config, model: Model, n: int | None, seed: int
) -> PromptPairs:
    """Prompt pairs of a file, put to the model as the configuration says."""
    return _file(path, config, model, n, seed).pairs


def _file(path: str | Path, config: Config, model: Model, n: int | None, seed: int) -> PairsFile:
    from tasks.files import read_file

    how: dict[str, Any] = {"bos": config.bos, "chat": config.chat, "skip_bad": config.skip_bad}
    return read_file(path, model.tokenizer, n=n, seed=seed, **how)


def fitted(pairs: PromptPairs, metric: str | None) -> PromptPairs:
    """The pairs as the metric needs them: with a row for every token of an answer, or as is."""
    from tasks.spelled import SEQUENCE

    return pairs.each_token() if metric == SEQUENCE and pairs.in_part else pairs


def _tokenizer(what: str, model: Model) -> Any:
    if model.tokenizer is None:
        raise TaskError(
            f"{what} is text, and this model has no tokenizer; give it one, as in "
            f"circuits.load_model(model, tokenizer=...), or prompts as lists of token ids"
        )
    return model.tokenizer
