"""A random model of letters, and a concept whose judge knows what it says to which prompt.

The model has learned nothing, so its replies to prompts that ask for a label are taken for what
showing that label looks like. All else, such as whether circuits drive it there, is measured.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from circuits.studies.emotion.control import replies
from circuits.studies.emotion.pipeline import Study, study
from circuits.studies.emotion.prompts import Concept, EmotionPrompt
from circuits.studies.emotion.settings import Settings
from patching.model import Model
from tests import families

LETTERS = " abcdefghijklmnopqrstuvwxyz.$<>&|"
LABELS = ("calm", "$x<b>")
NEW = 4


class Letters:
    """A token per letter; id 0 ends a text."""

    bos_token_id = None
    eos_token_id = 0
    all_special_ids = (0,)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [max(LETTERS.find(letter), 0) + 1 for letter in text.lower()]

    def decode(self, token_ids: Any) -> str:
        return "".join(LETTERS[(int(i) - 1) % len(LETTERS)] for i in token_ids)


@cache
def opened() -> Model:
    """The model; not to be changed."""
    return Model.open(families.build("gpt2"), tokenizer=Letters())


def prompts(split: str, count: int) -> tuple[EmotionPrompt, ...]:
    """Groups of a prompt per label, and one that asks for none."""
    asks = {None: "b", LABELS[0]: "q", LABELS[1]: "z"}
    start = "" if split == "discovery" else "k"
    return tuple(
        EmotionPrompt(f"{start}{chr(97 + n)} m{asked}", f"{split}{n}", label, ("up", "down")[n % 2])
        for n in range(count)
        for label, asked in asks.items()
    )


@cache
def concept(groups: int = 6, tests: int = 4) -> Concept:
    """The concept, with as many discovery and test groups."""
    found = {split: prompts(split, n) for split, n in (("discovery", groups), ("test", tests))}
    asking = [p for part in found.values() for p in part if p.label is not None]
    said = replies(opened(), asking, NEW)
    meant = {reply.text: p.label for reply, p in zip(said, asking, strict=True)}
    return Concept("tiny", LABELS, found["discovery"], found["test"], meant.get)


def settings(**changes: Any) -> Settings:
    """Settings with which a whole study takes about a second."""
    given = {"groups": 6, "tests": 4, "new_tokens": NEW, "neurons": 8, "heads": 3, "draws": 2}
    return Settings(**(given | {"tuning": 2} | changes))


@cache
def found() -> Study:
    """A whole study."""
    return study(opened(), concept(), settings(), name="tiny | model")
