"""Judges: which emotion a text shows, if any."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.errors import TaskError, all_faults
from tasks.scenarios import EMOTIONS, lexicon

WORD = re.compile(r"[a-z]+")
NONE_SHOWN = ("neutral", "none", "other")


class Judge(Protocol):
    """What tells which emotion a text shows."""

    def __call__(self, text: str) -> str | None:
        """The emotion shown, or None for none."""


@dataclass(frozen=True, slots=True)
class LexiconJudge:
    """Counts the words of each emotion; exact, so the right judge for text with a known vocabulary.

    The emotion with the most words is the one shown. A text without such words shows none, and so
    does one in which two emotions are equally frequent.
    """

    words: Mapping[str, frozenset[str]] = field(default_factory=lexicon)

    def __post_init__(self) -> None:
        owners = Counter(word for words in self.words.values() for word in words)
        shared = sorted(word for word, n in owners.items() if n > 1)
        if shared:
            raise TaskError(
                f"words that belong to two emotions: {', '.join(shared)}; keep each in one list"
            )

    def __call__(self, text: str) -> str | None:
        """The emotion shown, or None for none."""
        ranked = Counter(self.counts(text)).most_common(2)
        if not ranked or ranked[0][1] == 0 or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
            return None
        return ranked[0][0]

    def counts(self, text: str) -> dict[str, int]:
        """How many words of each emotion the text has."""
        by_word = Counter(WORD.findall(text.lower()))
        return {
            emotion: sum(by_word[word] for word in words) for emotion, words in self.words.items()
        }


@dataclass(frozen=True, slots=True)
class ClassifierJudge:
    """Asks a text classifier: a `transformers` text-classification pipeline, or any callable.

    classify  text -> a label, a {"label", "score"} mapping, or a sequence of them
    labels    the classifier's labels (lower-cased) -> the emotion they mean, None for none
    least     a best score below this counts as no emotion shown
    """

    classify: Callable[[str], Any]
    labels: Mapping[str, str | None] = field(default_factory=lambda: DEFAULT_LABELS)
    least: float = 0.0

    def __call__(self, text: str) -> str | None:
        """The emotion shown, or None for none; `TaskError` for a label that means nothing here."""
        label, score = _best(self.classify(text))
        if label.lower() not in self.labels:
            raise TaskError(
                f"the classifier answered '{label}', which is none of "
                f"{', '.join(sorted(self.labels))}; say what it means in labels="
            )
        return self.labels[label.lower()] if score >= self.least else None


def agreement(
    judge: Judge, texts: Sequence[str], wanted: Sequence[str | None]
) -> dict[str | None, float]:
    """Share of the texts of each wanted emotion (None for none) that the judge reads as such."""
    if len(texts) != len(wanted):
        raise TaskError(f"{len(texts)} texts but {len(wanted)} emotions; give one for each text")
    unknown = sorted({str(emotion) for emotion in wanted} - {*EMOTIONS, "None"})
    if unknown:
        faults = [f"'{emotion}' is none of {', '.join(EMOTIONS)}" for emotion in unknown]
        raise TaskError(all_faults("unknown emotions:", faults))
    hits: dict[str | None, list[bool]] = {}
    for text, emotion in zip(texts, wanted, strict=True):
        hits.setdefault(emotion, []).append(judge(text) == emotion)
    return {emotion: sum(each) / len(each) for emotion, each in hits.items()}


def _best(answer: Any) -> tuple[str, float]:
    if isinstance(answer, str):
        return answer, 1.0
    if isinstance(answer, Mapping):
        return str(answer["label"]), float(answer.get("score", 1.0))
    if isinstance(answer, Sequence) and answer:
        return max(map(_best, answer), key=lambda labelled: labelled[1])
    raise TaskError(
        f"the classifier answered {answer!r}; it should be a label, a mapping with 'label' and "
        "'score', or a list of them"
    )


DEFAULT_LABELS: Mapping[str, str | None] = {
    **{emotion: emotion for emotion in EMOTIONS},
    **dict.fromkeys(NONE_SHOWN),
    "angry": "anger",
    "annoyance": "anger",
    "sad": "sadness",
    "joy": "happiness",
    "happy": "happiness",
    "scared": "fear",
    "surprised": "surprise",
    "disgusted": "disgust",
}
