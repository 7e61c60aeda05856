"""What is asked of the model: prompt pairs, and the tasks that make them. No torch, no model."""

from tasks.base import Option, Task
from tasks.errors import TaskError
from tasks.files import read_pairs
from tasks.pairs import PromptPairs
from tasks.registry import get, names, register

__all__ = ["Option", "PromptPairs", "Task", "TaskError", "get", "names", "read_pairs", "register"]
