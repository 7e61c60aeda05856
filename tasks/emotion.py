"""Emotion: the prompt asks for a reply in one emotion, and the reply's first words show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, ClassVar

import numpy as np

from tasks.base import Option, Task
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.registry import register
from tasks.scenarios import (
    ASKED,
    BRIEF,
    EMOTIONS,
    SHOWN,
    VALENCES,
    Scenario,
    feelings,
    scenarios,
)
from tasks.tokenize import Tokenizer, single_tokens, token_index

ANY = "any"
SPLITS = ("test", "discovery")


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt of a group. A group is a scenario with an event of one valence, named by `group`;
    its samples differ only in the emotion asked for, None for none.
    """

    scenario: Scenario
    valence: str
    emotion: str | None

    @property
    def group(self) -> str:
        """The group's name, such as `work_03/negative`."""
        return f"{self.scenario.id}/{self.valence}"

    @property
    def prompt(self) -> str:
        """The elicitation prompt, ending where the reply follows."""
        return self.scenario.prompt(self.valence, self.emotion)


def samples(
    split: str = "discovery", emotions: Sequence[str | None] = EMOTIONS
) -> tuple[Sample, ...]:
    """Every group of the split with every emotion, group by group; None asks for no emotion.

    Directions of an emotion are differences within a group, so a group is used whole or not at all.
    """
    unknown = [emotion for emotion in emotions if emotion not in (*EMOTIONS, None)]
    if unknown or split not in SPLITS:
        raise TaskError(
            f"split '{split}', emotions {', '.join(map(str, emotions))}; choose a split from "
            f"{', '.join(SPLITS)} and emotions from {', '.join(EMOTIONS)} and None"
        )
    return tuple(
        Sample(scenario, valence, emotion)
        for scenario, valence, emotion in product(scenarios(split), VALENCES, emotions)
    )


@register
class Emotion(Task):
    """ "Always reply in fear. ... Reply: I feel" -> any word of fear that is one token.

    Positions: `emotion` (its name in the instruction), `scenario` and `event` (the last token of
    each), END. The default split shares no scenario with the one that the embedded model was
    trained on.
    """

    name = "emotion"
    claim = "reply in the emotion asked for; the corruption asks for another one"
    reference = "Wang et al. 2025, arXiv 2510.11328 (form of scenarios and prompts)"
    options: ClassVar[Mapping[str, Option]] = {
        "emotion": Option(ANY, "the emotion asked for", (ANY, *EMOTIONS)),
        "against": Option(ANY, "the emotion that the corrupted prompt asks for", (ANY, *EMOTIONS)),
        "valence": Option(ANY, "what the event is like", (ANY, *VALENCES)),
        "split": Option("test", "which scenarios; they share none", SPLITS),
    }

    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """`n` distinct prompts of the split, each with one that asks for another emotion."""
        words = _words(tokenizer)
        chosen = _cases(settings)
        if n > len(chosen):
            raise TaskError(
                f"task emotion: n={n}, but there are {len(chosen)} distinct prompts with emotion "
                f"{settings['emotion']} in split '{settings['split']}'; ask for fewer"
            )
        rng = np.random.default_rng(seed)
        drawn = [chosen[i] for i in rng.choice(len(chosen), size=n, replace=False)]
        others = [_other(rng, emotion, settings["against"]) for _, _, emotion in drawn]
        prompts = [s.prompt(valence, emotion) + SHOWN for s, valence, emotion in drawn]
        return PromptPairs.from_texts(
            tokenizer,
            clean=prompts,
            corrupted=[
                s.prompt(valence, other) + SHOWN
                for (s, valence, _), other in zip(drawn, others, strict=True)
            ],
            answer=[words[emotion] for _, _, emotion in drawn],
            counterfactual=[words[other] for other in others],
            positions=_positions(tokenizer, drawn, prompts),
            task=self.name,
            metric=self.metric,
        )


Case = tuple[Scenario, str, str]


def _words(tokenizer: Tokenizer) -> dict[str, list[str]]:
    """For each emotion its one-token words, with their space; `TaskError` with counts if none."""
    kept = {emotion: single_tokens(tokenizer, words) for emotion, words in feelings().items()}
    named = single_tokens(tokenizer, EMOTIONS)
    if len(named) < len(EMOTIONS) or not all(kept.values()):
        counts = ", ".join(
            f"{len(kept[emotion])} of {len(words)} words of {emotion}"
            for emotion, words in feelings().items()
        )
        raise TaskError(
            f"task emotion: for this tokenizer {len(named)} of {len(EMOTIONS)} emotions' names are "
            f"one token (all are needed), and {counts} (at least 1 each)"
        )
    return {emotion: [f" {word}" for word in words] for emotion, words in kept.items()}


def _cases(settings: Mapping[str, Any]) -> list[Case]:
    """Every scenario, valence and emotion that the settings allow."""
    asked, against = settings["emotion"], settings["against"]
    if asked == against != ANY:
        raise TaskError(f"task emotion: emotion and against are both {asked}; give two emotions")
    emotions = [e for e in EMOTIONS if asked in (ANY, e) and e != against]
    valences = [v for v in VALENCES if settings["valence"] in (ANY, v)]
    return list(product(scenarios(settings["split"]), valences, emotions))


def _other(rng: np.random.Generator, emotion: str, against: str) -> str:
    if against != ANY:
        return against
    others = [other for clean, other in permutations(EMOTIONS, 2) if clean == emotion]
    return others[rng.integers(len(others))]


def _positions(
    tokenizer: Tokenizer, drawn: Sequence[Case], prompts: Sequence[str]
) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"emotion": [], "scenario": [], "event": []}
    for (scenario, valence, emotion), text in zip(drawn, prompts, strict=True):
        asked = ASKED.format(emotion=emotion)
        start = len(asked) + len(BRIEF)
        ends = {
            "emotion": asked.index(emotion) + len(emotion),
            "scenario": start + len(scenario.scenario),
            "event": start + len(scenario.story(valence)),
        }
        for name, end in ends.items():
            found[name].append(token_index(tokenizer, text, end))
    return found | {"END": [-1] * len(drawn)}
