"""Every error the project raises on purpose.

CircuitsError
├── TaskError     a task or its prompt pairs: unknown name, misaligned prompts, bad answers
├── ModelError    a model that cannot be opened or taken apart
├── SiteError     a site, port, position or edge that this model does not have
├── MethodError   an unknown method, option, rule or metric, or a non-finite result
├── FormatError   a file that is not what its name says
├── EditError     an edit plan that does not fit the model, or edits that conflict
└── RunError      a run folder that exists, is in use, or cannot be resumed

The base lives in the lowest layer so that every package can raise it. A message says what was
given, what is allowed and what to do; the command line prints it without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral


class CircuitsError(Exception):
    """Base of every error raised on purpose; catch this one to catch them all."""


class TaskError(CircuitsError):
    """A task is unknown, or its prompt pairs are not usable."""


class ModelError(CircuitsError):
    """A model cannot be opened, or has parts that cannot be taken apart."""


class SiteError(CircuitsError):
    """A site, port, position or edge does not exist in this model."""


class MethodError(CircuitsError):
    """A method, option, rule or metric is unknown, or its result is not a finite number."""


class FormatError(CircuitsError):
    """A file is not what its name says, or comes from a newer version."""


class EditError(CircuitsError):
    """An edit does not fit the model, or two edits conflict."""


class RunError(CircuitsError):
    """A run folder exists with another configuration, or cannot be resumed."""


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "pair"), counted(2, "pair")
    ('1 pair', '2 pairs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unknown(what: str, given: object, allowed: Iterable[str]) -> str:
    """One line naming what was given, the nearest allowed name, and all allowed names.

    >>> unknown("task", "iou", ["ioi", "emotion"])
    "unknown task 'iou'; did you mean 'ioi'? choose from: emotion, ioi"
    """
    choices = sorted(allowed)
    near = get_close_matches(str(given), choices, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"unknown {what} '{given}'{hint} choose from: {', '.join(choices)}"


def number_faults(*given: tuple[str, object, int]) -> list[str]:
    """A line for every name whose number is not whole, or smaller than the least allowed.

    >>> number_faults(("n", 0, 1), ("seed", "7", 0), ("top", 5, 1))
    ['n is 0; give at least 1', "seed is '7'; give a whole number of at least 0"]
    """
    faults = []
    for name, number, least in given:
        if not isinstance(number, Integral):
            faults.append(f"{name} is {number!r}; give a whole number of at least {least}")
        elif number < least:
            faults.append(f"{name} is {number}; give at least {least}")
    return faults


def all_faults(headline: str, faults: list[str], shown: int = 20) -> str:
    """The message for a list of faults: the headline, then one line each, the rest counted."""
    lines = [headline, *(f"  {fault}" for fault in faults[:shown])]
    if len(faults) > shown:
        lines.append(f"  ... and {len(faults) - shown} more")
    return "\n".join(lines)
