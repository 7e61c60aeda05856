"""What a task is: a named, reproducible source of prompt pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from tasks.chat import Asked, ChatForm, begun, check_form, form_of
from tasks.errors import TaskError, all_faults, number_faults, unknown
from tasks.pairs import PromptPairs
from tasks.tokenize import Tokenizer

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a task: its default, what it means, and its allowed values if there are few.

    The type of the default is the type of the option; strings, as they come from a command line,
    are converted to it.
    """

    default: Value
    help: str
    choices: tuple[Value, ...] = ()

    def read(self, name: str, given: Any) -> Value:
        """`given` as a value of this option; ValueError says what is allowed instead."""
        kind = type(self.default)
        value = _converted(given, kind)
        if value is None:
            raise ValueError(f"option {name} is {kind.__name__}, not {given!r}")
        if self.choices and value not in self.choices:
            raise ValueError(unknown(f"value of option {name}", str(value), map(str, self.choices)))
        return value


class Task(ABC):
    """A question asked twice. Subclasses set the attributes below and implement `make`.

    name       what it is called on the command line
    claim      one line: what the prompts ask of a model, and what the corruption removes
    reference  where the task comes from
    metric     name of its default metric
    options    name -> Option, everything `pairs` accepts beside n and seed
    given      options set beforehand; those given to `pairs` go before them
    chat       how a question is put as a turn of a chat; None where it cannot be

    >>> circuits.load_task("ioi").claim
    '...'
    """

    name: ClassVar[str]
    claim: ClassVar[str]
    reference: ClassVar[str]
    metric: ClassVar[str] = "logit_diff"
    options: ClassVar[Mapping[str, Option]] = {}
    given: Mapping[str, Any] = MappingProxyType({})
    chat: ClassVar[ChatForm | None] = None

    def set(self, **options: Any) -> Self:
        """The same task with these options set; one `TaskError` lists all faults."""
        self.settings(**options)
        task = copy(self)
        task.given = {**self.given, **options}
        return task

    def pairs(
        self,
        tokenizer: Tokenizer,
        n: int = 64,
        seed: int = 0,
        *,
        bos: bool | None = None,
        chat: bool | str = "",
        **options: Any,
    ) -> PromptPairs:
        """`n` distinct prompt pairs for this tokenizer; the same `seed` gives the same pairs.

        `bos` begins every prompt with the beginning-of-sequence token, or with nothing, whatever
        the tokenizer does by itself. `chat` puts every question as a turn of a chat: by the
        tokenizer's "template" (or True), or in "plain" turns that every model reads.

        Raises `TaskError` for unknown options or values, for a tokenizer that cuts too many of the
        task's words or has no chat template, and for more prompts than there are, with the counts.
        """
        settings: dict[str, Any] = self.settings(**options)
        chat = form_of(chat)
        faults = number_faults(("n", n, 1), ("seed", seed, 0))
        if chat and self.chat is None:
            faults.append("it has no chat form; ask it without chat")
        if faults:
            raise TaskError(all_faults(f"task {self.name}:", faults))
        if chat:
            check_form(tokenizer, chat)
            settings["chat"] = chat
        return self.make(begun(tokenizer, bos, chat), n, seed, settings)

    def asked(self, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> Asked:
        """How the questions are put: as plain text, or as turns of a chat."""
        return Asked(tokenizer, settings.get("chat", ""), self.chat or ChatForm())

    def settings(self, **options: Any) -> dict[str, Value]:
        """Every option's value, the given ones checked; one `TaskError` lists all faults."""
        values = {name: option.default for name, option in self.options.items()}
        faults = []
        for name, given in {**self.given, **options}.items():
            if name not in self.options:
                faults.append(unknown("option", name, self.options))
                continue
            try:
                values[name] = self.options[name].read(name, given)
            except ValueError as fault:
                faults.append(str(fault))
        if faults:
            raise TaskError(all_faults(f"task {self.name}:", faults))
        return values

    def __repr__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self.given.items())
        return f"<task {self.name}{options}: {self.claim}>"

    @abstractmethod
    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """The pairs themselves; `settings` holds every option by name, checked.

        Where the questions are to be put as turns of a chat, its form is under the name `chat`.
        """


def _converted(given: Any, kind: type) -> Value | None:
    """`given` as `kind`, None where it is not one."""
    if kind is bool:
        words = {"true": True, "false": False}
        return given if isinstance(given, bool) else words.get(str(given).lower())
    if isinstance(given, bool) or (kind is str and not isinstance(given, str)):
        return None
    try:
        value: Value = kind(given)
    except (TypeError, ValueError):
        return None
    return value if isinstance(given, str) or value == given else None
