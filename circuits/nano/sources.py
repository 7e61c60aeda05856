"""Where the embedded model's training text comes from: one source per behaviour.

To add a behaviour, subclass `Source` in a module of its own (`sources_ioi.py` is the example), name
it in `SOURCES`, and train with `--tasks ioi,yours`. The recipe asks a source for its vocabulary
once, for some texts at every step, and for its measurements at the end.
A source draws training texts from the train split alone and measures on the test split alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from tasks.errors import TaskError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from circuits.results.intervals import Proportion

SOURCES: Mapping[str, str] = {
    "ioi": "circuits.nano.sources_ioi:IOIText",
    "mental_math": "circuits.nano.sources_math:MathText",
    "mcq_bias": "circuits.nano.sources_mcq:MCQText",
    "facts": "circuits.nano.sources_facts:FactText",
    "letters": "circuits.nano.sources_letters:LetterText",
    "emotion": "circuits.nano.sources_emotion:EmotionText",
    "story": "circuits.nano.sources_story:StoryText",
}


class Text(NamedTuple):
    """A training text: the prompt, and the answer that follows it ("" for plain text).

    The answer starts with its own space (" Mary") and may be several tokens long.
    """

    prompt: str
    answer: str


class Source(ABC):
    """A behaviour's training text and its measurement. Subclasses set these and the methods below.

    name         as given to `--tasks`
    about        one line for the model card: what the texts are and how they are split
    shares       of the texts of every step, relative to the other sources, in each of the recipe's
                 phases: what is quick to learn makes room for what is slow
    weight       of its loss in the loss of a step
    text_weight  weight of the next-token loss on the whole text, beside the answer's own loss of
                 weight 1
    text_part    share of a text's tokens, drawn anew each time, that the whole-text loss looks at
    """

    name: ClassVar[str]
    about: ClassVar[str]
    shares: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    weight: float = 1.0
    text_weight: float = 1.0
    text_part: float = 1.0

    @abstractmethod
    def vocabulary(self) -> Iterable[str]:
        """Strings that together hold every word of every text: single words, or whole texts.

        They are cut into words, numbers and single signs; each becomes a token with and without a
        leading space.
        """

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """`n` training texts; everything random comes from `rng`."""

    @abstractmethod
    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion | float]:
        """What the trained model does on held-out text: a line of the card per entry.

        Shares come with their count and interval; a plain number (a perplexity) stands as it is.
        """


def sources(names: Sequence[str]) -> list[Source]:
    """The named sources, in the order given; `TaskError` for unknown or repeated names."""
    for name in names:
        if name not in SOURCES:
            raise TaskError(unknown("training text", name, SOURCES))
    if not names or len(set(names)) < len(names):
        raise TaskError(f"training texts {', '.join(names) or '(none)'}: give each name once")
    return [_load(SOURCES[name]) for name in names]


def _load(target: str) -> Source:
    module, _, kind = target.partition(":")
    return getattr(import_module(module), kind)()
