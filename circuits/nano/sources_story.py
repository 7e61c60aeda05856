"""Plain training text: short stories that ask for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import perplexity
from circuits.nano.sources import Source, Text
from tasks.stories import stories, story, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MEASURED = 500
MEASURE_SEED = 2026


class StoryText(Source):
    """Stories of the train split."""

    name = "story"
    about = (
        "stories of three or four sentences from a small grammar; a person, animal, thing and "
        "place together belong to one split, one in ten to the test split"
    )
    shares = (0, 11, 4, 5)
    weight = 0.3
    text_weight = 1.0
    text_part = 0.5

    def vocabulary(self) -> Iterable[str]:
        """Every word of the grammar."""
        return vocabulary()

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Stories of the train split; there is no answer apart from the text."""
        return [Text(story(rng, "train"), "") for _ in range(n)]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, float]:
        """Perplexity per token of held-out stories."""
        texts = stories(MEASURED, MEASURE_SEED, "test")
        return {f"perplexity of {MEASURED} held-out stories": perplexity(model, tokenizer, texts)}
