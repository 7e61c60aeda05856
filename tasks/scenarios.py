"""First-person scenarios, what happened in them, and replies that show an emotion or none.

The form is that of the SEV set of Wang et al., arXiv 2510.11328: a neutral scenario, an event of
each valence, a prompt that asks for an emotion. The scenarios in `data/emotion.json` are our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
VALENCES = ("positive", "neutral", "negative")
THEMES = ("work", "school", "friends", "shopping", "city", "health", "home", "travel")
ASKED = "Always reply in {emotion}. "
BRIEF = "Keep the reply to at most two sentences. "
CUE = " Reply:"
SHOWN = " I feel"
PLAIN = ("call about", "think about", "write about", "ask about", "talk about", "read about")
WHEN = ("today", "tomorrow", "on Monday", "on Friday", "next week", "at noon")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, its three outcomes, and the `thing` a reply is about."""

    id: str
    theme: str
    split: str
    thing: str
    scenario: str
    positive: str
    neutral: str
    negative: str

    def story(self, valence: str) -> str:
        """The scenario and its event of this valence."""
        return f"{self.scenario} {getattr(self, valence)}"

    def prompt(self, valence: str, emotion: str | None) -> str:
        """The elicitation prompt, with the emotion asked for or, given None, without one."""
        request = ASKED.format(emotion=emotion) if emotion else ""
        return f"{request}{BRIEF}{self.story(valence)}{CUE}"

    @property
    def topic(self) -> str:
        """The thing with its article: "my" where the scenario calls it so."""
        text = " ".join((self.scenario, self.positive, self.neutral, self.negative))
        return f"my {self.thing}" if f"my {self.thing}" in text.lower() else f"the {self.thing}"


@cache
def scenarios(split: str) -> tuple[Scenario, ...]:
    """The scenarios of the split: `discovery` or `test`, which share none."""
    every = tuple(Scenario(**row) for row in _data()["scenarios"])
    return tuple(scenario for scenario in every if scenario.split == split)


@cache
def feelings() -> Mapping[str, tuple[str, ...]]:
    """For each emotion the words that complete "I feel ...": no word belongs to two emotions."""
    return {emotion: tuple(words["feel"]) for emotion, words in _data()["lexicon"].items()}


@cache
def lexicon() -> Mapping[str, frozenset[str]]:
    """For each emotion all the words that show it, those of `feelings` among them."""
    return {
        emotion: frozenset((*words["feel"], *words["other"]))
        for emotion, words in _data()["lexicon"].items()
    }


@cache
def _data() -> dict[str, Any]:
    text = (files("tasks") / "data" / "emotion.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data
