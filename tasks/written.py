"""A task with options written behind its name: ``mental_math:form=-+style=question``."""

from __future__ import annotations

import re

from tasks.errors import TaskError, all_faults

BETWEEN = re.compile(r"\+(?=\w+=)")
"""A plus before the next option; any other is part of a value, such as the form of ``A+B-C``."""

WRITTEN = re.compile(r"\w+:\w+=")
"""How a task with options begins; what begins otherwise is a name, or the path of a file."""


def parted(text: str) -> tuple[str, dict[str, str]]:
    """The name of a task, and the options written behind it.

    >>> parted("mental_math:form=+-+style=python")
    ('mental_math', {'form': '+-', 'style': 'python'})

    Raises:
        TaskError: no text, or a list of what is no `OPTION=VALUE` and of options set twice.
    """
    if not isinstance(text, str):
        raise TaskError(f"a task is named by a text such as 'ioi', given {text!r}")
    name, colon, rest = text.partition(":")
    options: dict[str, str] = {}
    faults = []
    for part in BETWEEN.split(rest) if colon else ():
        option, equals, value = part.partition("=")
        if not equals:
            faults.append(f"'{part}' is not OPTION=VALUE")
        elif option in options:
            faults.append(f"option {option} is set twice: leave one out")
        else:
            options[option] = value
    if faults:
        raise TaskError(all_faults(f"task {name}:", faults))
    return name, options
