"""Training text for indirect object identification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.measure import top_tokens
from circuits.nano.sources import Source, Text
from circuits.results.intervals import Proportion
from tasks.ioi import ORDERS, Scene, Words
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Naming the other person right after one was named is the same skill over a shorter distance.
# Without this sequel the model guesses between the two names for thousands of steps.
SEQUEL = "{prompt} {io}. {io} thanked"
PER_TEMPLATE = 100
MEASURE_SEED = 2023


class IOIText(Source):
    """Scenes of the task `ioi` from its train split, each followed by the indirect object.

    Every other text goes on: "... to Mary. Mary thanked John", and its answer is the last name.
    """

    name = "ioi"
    about = (
        "two names, one of them repeated, answered by the other one; half of the texts go on with "
        "a sentence in which the receiver thanks the giver, which is what makes the skill quick to "
        "learn; every combination of the two names (in either role), the place and the object "
        "belongs to the train or to the test split as a whole, one in five to the test split"
    )
    shares = (0, 40, 6, 5)
    weight = 0.5
    text_part = 0.5

    def __init__(self) -> None:
        self.words = Words.read()

    def vocabulary(self) -> Iterable[str]:
        """The templates without their slots, and the words that fill them."""
        bare = (
            template.format(A="", B="", S="", place="", object="")
            for template in self.words.templates
        )
        return (
            *bare,
            SEQUEL.format(prompt="", io=""),
            *self.words.names,
            *self.words.places,
            *self.words.objects,
        )

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Scenes of the train split, the second half of them with their sequel."""
        scenes = self.words.draw(rng, n, "train")
        short, long = scenes[: (n + 1) // 2], scenes[(n + 1) // 2 :]
        return [Text(scene.text(), f" {scene.io}") for scene in short] + [
            Text(SEQUEL.format(prompt=scene.text(), io=scene.io), f" {scene.s}") for scene in long
        ]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """Share of held-out prompts whose top token is the indirect object."""
        scenes = self.held_out()
        best = top_tokens(model, tokenizer, [scene.text() for scene in scenes])
        hits = [
            token == single_token(tokenizer, f" {scene.io}")
            for token, scene in zip(best, scenes, strict=True)
        ]
        groups = {"all": hits}
        for order in ORDERS:
            groups[order] = [hit for hit, s in zip(hits, scenes, strict=True) if s.order == order]
        for template in self.words.templates:
            groups[f"`{template}`"] = [
                hit for hit, s in zip(hits, scenes, strict=True) if s.template == template
            ]
        return {f"top-1 is IO, {name}": Proportion.of(group) for name, group in groups.items()}

    def held_out(self) -> list[Scene]:
        """Test scenes, equally many of every template and order."""
        rng = np.random.default_rng(MEASURE_SEED)
        scenes = []
        for template in self.words.templates:
            drawn = replace(self.words, templates=(template,)).draw(rng, PER_TEMPLATE, "test")
            scenes += [replace(s, order=ORDERS[i % 2]) for i, s in enumerate(drawn)]
        return scenes
