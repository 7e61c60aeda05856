"""Which of a task's prompts a model is asked, where nobody says: those it was not trained on.

The embedded model was trained on most of the prompts that tasks can make, so it is asked the rest
(``split=test``). Other models were trained on none of them, and are asked any (``split=all``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuits.models import EMBEDDED
from tasks.written import parted

SPLIT, ALL = "split", "all"


def is_embedded(model: str) -> bool:
    """Whether a name or a path is that of an embedded model."""
    return model in EMBEDDED or any(
        Path(model) == embedded.directory() for embedded in EMBEDDED.values()
    )


def split_options(task: str, given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The options of a task, with the split that goes with the model where none is given.

    A task without the split ``all`` is left as it is.
    """
    import tasks

    option = tasks.get(task).options.get(SPLIT)
    chosen = SPLIT in given or SPLIT in parted(task)[1]
    if chosen or option is None or ALL not in option.choices or is_embedded(model):
        return dict(given)
    return {**given, SPLIT: ALL}


def with_split(task: str, model: str) -> str:
    """A task as it is written, with its split behind it where that is not the task's own.

    >>> with_split("ioi", "gpt2"), with_split("ioi", "nano"), with_split("ioi:split=train", "gpt2")
    ('ioi:split=all', 'ioi', 'ioi:split=train')
    """
    if SPLIT not in split_options(task, {}, model):
        return task
    return f"{task}{'+' if parted(task)[1] else ':'}{SPLIT}={ALL}"
