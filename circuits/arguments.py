"""Arguments of another kind than is wanted, refused in words before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from tasks.errors import CircuitsError, FormatError, ModelError, TaskError, all_faults


@dataclass(frozen=True, slots=True)
class Kind:
    """What an argument has to be, where its class lies, how to come by one, and the error."""

    module: str
    name: str
    hint: str
    error: type[CircuitsError]

    def holds(self, value: object) -> bool:
        """Whether the value is of this kind."""
        return isinstance(value, getattr(import_module(self.module), self.name))


KINDS = {
    "model": Kind("patching.model", "Model", "open it with circuits.load_model", ModelError),
    "pairs": Kind(
        "tasks.pairs",
        "PromptPairs",
        "make them with circuits.load_task(...).pairs(model.tokenizer) or circuits.load_pairs",
        TaskError,
    ),
    "graph": Kind(
        "graphs.circuit",
        "CircuitGraph",
        "circuits.discover finds one, circuits.CircuitGraph.load reads one",
        FormatError,
    ),
}


def check_kinds(**given: object) -> None:
    """Refuse a `model`, `pairs` or `graph` that is something else.

    Raises:
        ModelError, TaskError, FormatError: one of them is; of several, CircuitsError lists all.
    """
    wrong = {name: value for name, value in given.items() if not KINDS[name].holds(value)}
    faults = [f"{name} is {_told(value)}; {KINDS[name].hint}" for name, value in wrong.items()]
    if len(faults) == 1:
        raise KINDS[next(iter(wrong))].error(faults[0])
    if faults:
        raise CircuitsError(all_faults("arguments of another kind than is wanted:", faults))


def check_unput(bos: bool | None, chat: bool | str) -> None:
    """Refuse to put pairs to a model in another way than they were made.

    Raises:
        TaskError: see above.
    """
    if bos is not None or chat:
        raise TaskError(
            "these prompt pairs are token ids already; give bos and chat where they are made: "
            "PromptPairs.from_texts, load_pairs, load_task(...).pairs"
        )


def _told(value: object) -> str:
    if isinstance(value, str):
        return f"the text '{value}'"
    return "None" if value is None else f"of the kind {type(value).__name__}"
