"""Training text for emotion: scenarios, and replies that show the emotion asked for, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import continuations
from circuits.nano.sources import Source, Text
from circuits.results.intervals import Proportion
from tasks.judges import LexiconJudge
from tasks.scenarios import (
    EMOTIONS,
    PLAIN,
    SHOWN,
    VALENCES,
    WHEN,
    Scenario,
    feelings,
    lexicon,
    scenarios,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

NOT_ASKED = 0.25
REPLY_TOKENS = 24


class EmotionText(Source):
    """Prompts of the task `emotion` on its discovery scenarios, each followed by a reply."""

    name = "emotion"
    about = (
        "a scenario, an event and a short reply, which shows the emotion that the prompt asks for, "
        "or none where none is asked for (a quarter of the texts); trained on the discovery "
        "scenarios, measured on the test scenarios, which share none"
    )
    shares = (0, 14, 4, 5)
    weight = 0.5
    text_weight = 0.3
    text_part = 0.3

    def vocabulary(self) -> Iterable[str]:
        """Every prompt of both splits, every reply, and every word that shows an emotion."""
        everything = (*scenarios("discovery"), *scenarios("test"))
        prompts = (s.prompt(valence, emotion) for s in everything for valence, emotion in _asked())
        words = (word for group in lexicon().values() for word in group)
        return (
            *prompts,
            *(s.topic for s in everything),
            _shown("", ""),
            *PLAIN,
            *WHEN,
            *words,
            _plain("", "", ""),
        )

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Prompts on discovery scenarios and their replies."""
        return [self._text(rng) for _ in range(n)]

    def _text(self, rng: np.random.Generator) -> Text:
        chosen = scenarios("discovery")
        scenario = chosen[rng.integers(len(chosen))]
        valence = VALENCES[rng.integers(len(VALENCES))]
        emotion = None if rng.random() < NOT_ASKED else EMOTIONS[rng.integers(len(EMOTIONS))]
        return Text(scenario.prompt(valence, emotion), reply(rng, scenario, emotion))

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """Share of greedy replies to test scenarios that the lexicon judge reads as asked for."""
        judge = LexiconJudge()
        cases = [(s, v, emotion) for s in scenarios("test") for v, emotion in _asked()]
        prompts = [scenario.prompt(valence, emotion) for scenario, valence, emotion in cases]
        replies = continuations(model, tokenizer, prompts, REPLY_TOKENS)
        hits = [
            judge(text) == emotion for text, (_, _, emotion) in zip(replies, cases, strict=True)
        ]
        emotional = [hit for hit, case in zip(hits, cases, strict=True) if case[2]]
        none = [hit for hit, case in zip(hits, cases, strict=True) if not case[2]]
        lines = {"emotion asked for is shown": emotional, "none asked for, none shown": none}
        for emotion in EMOTIONS:
            lines[f"{emotion} asked for is shown"] = [
                hit for hit, case in zip(hits, cases, strict=True) if case[2] == emotion
            ]
        return {what: Proportion.of(group) for what, group in lines.items()}


def reply(rng: np.random.Generator, scenario: Scenario, emotion: str | None) -> str:
    """One sentence that shows the emotion in one word, or a plain plan where there is none."""
    if emotion is None:
        return _plain(
            PLAIN[rng.integers(len(PLAIN))], scenario.topic, WHEN[rng.integers(len(WHEN))]
        )
    words = feelings()[emotion]
    return _shown(words[rng.integers(len(words))], scenario.topic)


def _shown(word: str, topic: str) -> str:
    return f"{SHOWN} {word} about {topic}."


def _plain(verb: str, topic: str, when: str) -> str:
    return f" I will {verb} {topic} {when}."


def _asked() -> list[tuple[str, str | None]]:
    return [(valence, emotion) for valence in VALENCES for emotion in (*EMOTIONS, None)]
