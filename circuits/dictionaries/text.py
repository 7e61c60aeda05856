"""The text that a dictionary is trained on or looked at: of tasks, of a file, of the model itself.

* ``tasks``: clean and corrupted prompts of every task that the model can be asked, with their
  answers; for the embedded model the text that it was trained on
* ``model``: what the model writes when its tokens are drawn (temperature 1), from its own start
* else the name of a text file, a text a line
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from circuits.split import is_embedded, split_options
from tasks.errors import TaskError
from tasks.limits import MAX_BYTES
from tasks.tokenize import encode

if TYPE_CHECKING:
    from circuits.clock import Progress
    from patching.model import Model

TASKS, OWN = "tasks", "model"
LENGTH, BATCH = 64, 32
"""Tokens of a text that the model writes, and how many it writes at once."""


def text_rows(
    model: Model,
    name: str,
    tokens: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Texts as token ids, about as many tokens as asked for, or all there are.

    Raises:
        TaskError: the model has no tokenizer, or there is no such text.
    """
    if model.tokenizer is None:
        raise TaskError("a dictionary is trained on text, and this model has no tokenizer")
    longest = model.longest or 10**9
    if name == OWN:
        return _written(model, tokens, seed, progress)
    if name == TASKS:
        texts = _nano_texts(seed) if is_embedded(model.path) else _task_texts(model, seed)
    else:
        texts = _lines(Path(name))
    rows, total = [], 0
    for text in texts:
        row = list(encode(model.tokenizer, text))[:longest]
        if len(row) > 1:
            rows.append(row)
            total += len(row) - 1
        if total >= tokens:
            break
        if progress is not None:
            progress(total, tokens, "reading text")
    if not rows:
        raise TaskError(f"{name} holds no text of at least two tokens")
    return rows


def _nano_texts(seed: int) -> Iterator[str]:
    """Texts that the embedded model was trained on, a few of each source in turn, without end."""
    from circuits.nano.sources import SOURCES, sources

    rng = np.random.default_rng((seed, 1))
    every = sources(list(SOURCES))
    while True:
        for source in every:
            for text in source.sample(rng, SHARES.get(source.name, 4)):
                yield f"{text.prompt}{text.answer}"


SHARES = {"mental_math": 16}
"""Arithmetic has the shortest texts, and is what reconstructions lose first."""


def _task_texts(model: Model, seed: int) -> Iterator[str]:
    """Prompts of all tasks in turn, with their answers."""
    import tasks

    each: list[list[str]] = []
    for name in tasks.names():
        task = tasks.get(name)
        try:
            pairs = task.pairs(model.tokenizer, n=2048, seed=seed, **split_options(name, {}, ""))
        except TaskError:
            pairs = None
        if pairs is None:
            continue
        words = [_word(model, ids) for ids in pairs.answer]
        others = [_word(model, ids) for ids in pairs.counterfactual]
        rows = zip(pairs.texts, zip(words, others, strict=True), strict=True)
        each.append([a + b for texts, ends in rows for a, b in zip(texts, ends, strict=True)])
    for number in range(max(map(len, each), default=0)):
        yield from (texts[number] for texts in each if number < len(texts))


def _word(model: Model, ids: Iterable[int]) -> str:
    first = next((int(token) for token in ids if token >= 0), None)
    return "" if first is None else str(model.tokenizer.decode([first]))


def _lines(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TaskError(f"{path} is larger than {MAX_BYTES:,} bytes; give a part of it")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise TaskError(
            f"there is no text '{path}' ({error.strerror}); give {TASKS}, {OWN}, or a text file"
        ) from None
    except ValueError as error:
        raise TaskError(f"{path} is no text in UTF-8: {error}") from None
    return (line for line in lines if line.strip())


def _written(model: Model, tokens: int, seed: int, progress: Progress | None) -> list[list[int]]:
    import torch

    from patching.generate import generate

    start = list(encode(model.tokenizer, ""))
    if not start:
        ends = (getattr(model.tokenizer, name, None) for name in ("bos_token_id", "eos_token_id"))
        first = next((token for token in ends if token is not None), None)
        if first is None:
            raise TaskError("this model's tokenizer has no token that begins or ends a text")
        start = [int(first)]
    length = min(LENGTH, (model.longest or LENGTH) - len(start))
    prompts = torch.tensor([start] * BATCH)
    rows: list[list[int]] = []
    for number in range(-(-tokens // (BATCH * length))):
        more = generate(
            model,
            prompts,
            torch.ones_like(prompts, dtype=torch.bool),
            length,
            temperature=1.0,
            seed=seed * 1_000_003 + number,
        )
        rows += torch.cat([prompts, more.cpu()], dim=1).tolist()
        if progress is not None:
            progress(min(len(rows) * length, tokens), tokens, "writing text")
    return rows
