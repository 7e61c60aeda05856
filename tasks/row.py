"""One prompt pair before it is padded, and everything that can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

NO_ID = -1
SHOWN = 70
BOTH = "answer and counterfactual"
"""The name of a fault that is neither's alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one pair, the texts they came from, and the faults found while reading them.

    shared   how many of the prompts' last tokens are the beginning of every answer
    rest     what follows the measured token in the right answer
    longer   whether a right or a wrong answer goes on after the measured token
    remark   what is odd about the pair, though it can be used
    alone    whether the answer is measured without a counterfactual
    """

    where: str
    clean: list[int]
    corrupted: list[int]
    answer: list[int]
    counterfactual: list[int]
    texts: tuple[str, str] = ("", "")
    unreadable: Mapping[str, str] = field(default_factory=dict)
    shared: int = 0
    rest: Sequence[int] = ()
    longer: bool = False
    remark: str = ""
    alone: bool = False

    def faults(self) -> Iterator[str]:
        """One line per fault, each starting with the pair's name."""
        unread = (f"{column}: {fault}" for column, fault in self.unreadable.items())
        for fault in (*unread, *self._prompt_faults(), *self._answer_faults()):
            yield f"{self.where}: {fault}"

    def _prompt_faults(self) -> Iterator[str]:
        if {"clean", "corrupted"} & self.unreadable.keys():
            return
        sizes = len(self.clean), len(self.corrupted)
        if not all(sizes):
            yield "an empty prompt"
        elif sizes[0] != sizes[1]:
            yield (
                f"clean has {sizes[0]} tokens, corrupted {sizes[1]}; "
                f"both need the same number: {self._show()}"
            )
        elif self.clean == self.corrupted:
            yield f"clean and corrupted are the same prompt: {self._show()}"
        if any(token < 0 for token in (*self.clean, *self.corrupted)):
            yield f"a negative token id: {self._show()}"

    def _answer_faults(self) -> Iterator[str]:
        answer = [token for token in self.answer if token != NO_ID]
        counterfactual = [token for token in self.counterfactual if token != NO_ID]
        for name, ids in (("answer", answer), ("counterfactual", counterfactual)):
            needed = not (self.alone and name == "counterfactual")
            if needed and not ids and not {name, BOTH} & self.unreadable.keys():
                yield f"no {name}: {self._show()}"
            if any(token < 0 for token in ids):
                yield f"{name} {ids} has a negative token id"
        shared = sorted(set(answer) & set(counterfactual))
        if shared:
            yield f"answer and counterfactual are the same (token {shared[0]}): {self._show()}"

    def _show(self) -> str:
        """The prompt that is at fault: both where they differ in length, as text where possible."""
        sides = [repr(text) for text in self.texts] if any(self.texts) else None
        clean, corrupted = sides or (str(self.clean), str(self.corrupted))
        if self.clean == self.corrupted or len(self.clean) == len(self.corrupted):
            return shorten(clean)
        return f"{shorten(clean)} against {shorten(corrupted)}"


def shorten(text: str) -> str:
    """`text` cut to a length that keeps a message on one line."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
