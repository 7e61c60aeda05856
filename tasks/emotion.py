"""Emotion: the prompt asks for a reply in one emotion, and the reply's first words show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, ClassVar

import numpy as np

from tasks.answers import following, size_of
from tasks.base import Option, Task
from tasks.chat import Asked, ChatForm
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.registry import register
from tasks.row import NO_ID
from tasks.scenarios import (
    ASKED,
    BRIEF,
    CUE,
    EMOTIONS,
    SHOWN,
    VALENCES,
    Scenario,
    feelings,
    scenarios,
)
from tasks.tokenize import Tokenizer, single_token, single_tokens, unknown_words

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
    """ "Always reply in fear. ... Reply: I feel" -> any word of fear, one token each.

    Of an emotion whose words are all several tokens, their first tokens are measured, as far as no
    other emotion has them. The two emotions of a pair have names of equally many tokens.

    Positions: `emotion` (its name in the instruction), `scenario` and `event` (the last token of
    each), END. The default split shares no scenario with the one that the embedded model was
    trained on.
    """

    name = "emotion"
    chat = ChatForm(reply=SHOWN.strip())
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
        words, sizes = _words(tokenizer), _sizes(tokenizer)
        chosen = [
            case for case in _cases(settings) if _others(case[-1], settings["against"], sizes)
        ]
        if n > len(chosen):
            raise TaskError(
                f"task emotion: n={n}, but there are {len(chosen)} distinct prompts with emotion "
                f"{settings['emotion']} in split '{settings['split']}'; ask for fewer"
            )
        rng = np.random.default_rng(seed)
        drawn = [chosen[i] for i in rng.choice(len(chosen), size=n, replace=False)]
        others = [_other(rng, emotion, settings["against"], sizes) for _, _, emotion in drawn]
        asked = self.asked(tokenizer, settings)
        return PromptPairs.from_texts(
            tokenizer,
            clean=[_prompt(asked, case) for case in drawn],
            corrupted=[
                _prompt(asked, (scenario, valence, other))
                for (scenario, valence, _), other in zip(drawn, others, strict=True)
            ],
            answer=[words[emotion] for _, _, emotion in drawn],
            counterfactual=[words[other] for other in others],
            positions=_positions(asked, drawn),
            task=self.name,
            metric=self.metric,
        )


Case = tuple[Scenario, str, str]


def _words(tokenizer: Tokenizer) -> dict[str, list[str]]:
    """For each emotion its words, with their space, that can be told from the others' words.

    They are the one-token ones, and of an emotion that has none all whose first token no other
    emotion's words begin with; `TaskError` with counts where an emotion has none of either.
    """
    single = {emotion: single_tokens(tokenizer, words) for emotion, words in feelings().items()}
    firsts = {
        emotion: {word: (following(tokenizer, "a", f" {word}") or [NO_ID])[0] for word in words}
        for emotion, words in feelings().items()
        if not single[emotion]
    }
    taken = Counter(token for words in firsts.values() for token in set(words.values()))
    taken.update(
        token
        for words in single.values()
        for word in words
        if (token := single_token(tokenizer, f" {word}")) is not None
    )
    for emotion, words in firsts.items():
        known = (word for word in words if not unknown_words(tokenizer, word))
        single[emotion] = [word for word in known if taken[words[word]] == 1]
    if not all(single.values()):
        counts = ", ".join(
            f"{len(single[emotion])} of {len(words)} words of {emotion}"
            for emotion, words in feelings().items()
        )
        raise TaskError(
            f"task emotion: this tokenizer can distinguish {counts}; at least 1 each is needed"
        )
    return {emotion: [f" {word}" for word in words] for emotion, words in single.items()}


def _sizes(tokenizer: Tokenizer) -> dict[str, int]:
    """How many tokens the name of each emotion is after a space; those unknown are left out.

    Raises:
        TaskError: no two are equally many.
    """
    sizes = {name: k for name in EMOTIONS if (k := size_of(tokenizer, f" {name}"))}
    if len(set(sizes.values())) == len(sizes):
        raise TaskError(
            f"task emotion: {len(sizes)} of {len(EMOTIONS)} emotions' names are in this "
            f"tokenizer's vocabulary, and no two of them are equally many tokens"
        )
    return sizes


def _cases(settings: Mapping[str, Any]) -> list[Case]:
    """Every scenario, valence and emotion that the settings allow."""
    asked, against = settings["emotion"], settings["against"]
    if asked == against != ANY:
        raise TaskError(f"task emotion: emotion and against are both {asked}; give two emotions")
    emotions = [e for e in EMOTIONS if asked in (ANY, e) and e != against]
    valences = [v for v in VALENCES if settings["valence"] in (ANY, v)]
    return list(product(scenarios(settings["split"]), valences, emotions))


def _others(emotion: str, against: str, sizes: Mapping[str, int]) -> list[str]:
    """The emotions that can stand in for this one: their names are equally many tokens."""
    others = [other for clean, other in permutations(EMOTIONS, 2) if clean == emotion]
    alike = [other for other in others if sizes.get(other, 0) == sizes.get(emotion)]
    return [other for other in alike if against in (ANY, other)]


def _other(rng: np.random.Generator, emotion: str, against: str, sizes: Mapping[str, int]) -> str:
    if against != ANY:
        return against
    others = _others(emotion, against, sizes)
    return others[rng.integers(len(others))]


def _question(case: Case, chat: bool) -> str:
    """What is asked; of a chat, the sign that a reply follows is the turn's own."""
    scenario, valence, emotion = case
    question = scenario.prompt(valence, emotion)
    return question.removesuffix(CUE) if chat else question


def _prompt(asked: Asked, case: Case) -> str:
    """The question and how the reply begins."""
    question = _question(case, bool(asked.form))
    return asked.text(question) if asked.form else question + SHOWN


def _positions(asked: Asked, drawn: Sequence[Case]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {"emotion": [], "scenario": [], "event": []}
    for case in drawn:
        scenario, valence, emotion = case
        named = ASKED.format(emotion=emotion)
        start = len(named) + len(BRIEF)
        ends = {
            "emotion": named.index(emotion) + len(emotion),
            "scenario": start + len(scenario.scenario),
            "event": start + len(scenario.story(valence)),
        }
        for name, index in asked.indices(_question(case, bool(asked.form)), ends).items():
            positions[name].append(index)
    return positions | {"END": [-1] * len(drawn)}
