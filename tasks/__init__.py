"""What is asked of the model: prompt pairs, and the tasks that make them. No torch, no model.

Names are imported when first used, so that the errors in here cost nobody the time of numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base import Option, Task
    from tasks.errors import TaskError
    from tasks.files import read_pairs
    from tasks.pairs import PromptPairs
    from tasks.registry import get, names, register

_HOMES = {
    "Option": "base",
    "PromptPairs": "pairs",
    "Task": "base",
    "TaskError": "errors",
    "get": "registry",
    "names": "registry",
    "read_pairs": "files",
    "register": "registry",
}

__all__ = ["Option", "PromptPairs", "Task", "TaskError", "get", "names", "read_pairs", "register"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tasks' has no attribute '{name}'")
    return getattr(import_module(f"tasks.{_HOMES[name]}"), name)
