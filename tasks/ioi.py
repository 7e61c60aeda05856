"""Indirect object identification: two names, one of them repeated, the other is the answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.resources import files
from itertools import combinations, product
from string import Formatter
from typing import Any, ClassVar

import numpy as np

from tasks.answers import size_of
from tasks.base import Option, Task
from tasks.chat import Asked, ChatForm
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.registry import register
from tasks.tokenize import Tokenizer, single_tokens

ORDERS = ("ABBA", "BABA")
SPLITS = ("test", "train", "all")
HELD_OUT_OF = 5
FEWEST = {"templates": 1, "names": 5, "places": 1, "objects": 1}
TWO = 2
DENSE = 20
SMALL = 50_000


@dataclass(frozen=True, slots=True)
class Scene:
    """One prompt: its template, who receives (`io`), who acts (`s`), where, what, in which order.

    Order ABBA names the indirect object first and the subject second; BABA is the other way round.
    The subject is then named again, and the prompt stops before the indirect object's turn.
    """

    template: str
    order: str
    io: str
    s: str
    place: str
    object: str

    def text(self, second: str | None = None) -> str:
        """The prompt; `second` takes the place of the repeated subject."""
        return "".join(part for _, part in self._parts(second))

    def ends(self) -> dict[str, int]:
        """Character in `text()` at which the names end: IO, S1 and S2."""
        ends, at = {}, 0
        for slot, part in self._parts(None):
            at += len(part)
            ends[slot] = at
        first, second = ("IO", "S1") if self.order == "ABBA" else ("S1", "IO")
        return {first: ends["A"], second: ends["B"], "S2": ends["S"]}

    def held_out(self) -> bool:
        """Whether names, place and object together belong to the test split, a fifth of all.

        The names count in either role, so the corrupted prompt, which swaps the roles, is in the
        same split as the clean one.
        """
        return _held_out(self.io, self.s, self.place, self.object)

    def _parts(self, second: str | None) -> Iterator[tuple[str, str]]:
        first, other = (self.io, self.s) if self.order == "ABBA" else (self.s, self.io)
        values = {"A": first, "B": other, "S": second or self.s}
        values |= {"place": self.place, "object": self.object}
        for literal, slot, _, _ in Formatter().parse(self.template):
            yield "", literal
            if slot is not None:
                yield slot, values[slot]


@dataclass(frozen=True, slots=True)
class Words:
    """What prompts are made of; slots A and B are the two names, S the subject's second mention."""

    templates: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Words:
        """The words that come with the project."""
        text = (files("tasks") / "data" / "ioi.json").read_text(encoding="utf-8")
        words: dict[str, list[str]] = json.loads(text)
        templates, names, places, objects = (tuple(words[kind]) for kind in FEWEST)
        return cls(templates, names, places, objects)

    def for_tokenizer(self, tokenizer: Tokenizer, longer_names: bool = False) -> Words:
        """Only names, places and objects that are one token; `TaskError` if too few are left.

        With `longer_names`, also names of two tokens, where there are enough of them.
        """
        kept = replace(
            self,
            names=tuple(single_tokens(tokenizer, self.names)),
            places=tuple(single_tokens(tokenizer, self.places)),
            objects=tuple(single_tokens(tokenizer, self.objects)),
        )
        if longer_names:
            kept = kept.with_names_of_two(tokenizer, self.names)
        sizes = {kind: len(getattr(kept, kind)) for kind in FEWEST}
        if any(sizes[kind] < least for kind, least in FEWEST.items()):
            counts = ", ".join(
                f"{sizes[kind]} of {len(getattr(self, kind))} {kind} (at least {least})"
                for kind, least in FEWEST.items()
            )
            raise TaskError(f"task ioi: too few words are one token for this tokenizer: {counts}")
        return kept

    def with_names_of_two(self, tokenizer: Tokenizer, names: Sequence[str]) -> Words:
        """These words and those of `names` that are two tokens after a space, if enough are."""
        sizes = {name: size_of(tokenizer, f" {name}") for name in names}
        longer = [name for name in names if sizes[name] == TWO]
        kept = set(self.names) | (set(longer) if len(longer) >= FEWEST["names"] else set())
        return replace(self, names=tuple(name for name in names if name in kept), sizes=sizes)

    def alike(self, first: str, other: str) -> bool:
        """Whether two names are equally many tokens, so that one can stand in for the other."""
        return self.sizes.get(first, 1) == self.sizes.get(other, 1)

    def size(self) -> int:
        """Number of distinct scenes, both splits together."""
        counts = Counter(self.sizes.get(name, 1) for name in self.names).values()
        pairs = sum(n * (n - 1) for n in counts)
        return 2 * len(self.templates) * pairs * len(self.places) * len(self.objects)

    def draw(self, rng: np.random.Generator, n: int, split: str) -> list[Scene]:
        """`n` distinct scenes of the split; `TaskError` with the count where there are fewer."""
        if n > self.size() // DENSE or self.size() < SMALL:
            every = list(self.scenes(split)) if n <= self.size() else []
            if n > len(every):
                counted = f"{len(every)}" if every else f"at most {self.size()}"
                raise TaskError(
                    f"task ioi: n={n}, but there are {counted} distinct prompts "
                    f"in split '{split}' for this tokenizer; ask for fewer"
                )
            return [every[i] for i in rng.choice(len(every), size=n, replace=False)]
        drawn: dict[Scene, None] = {}
        while len(drawn) < n:
            scene = self.one(rng)
            if not self.alike(scene.io, scene.s):
                continue
            if split == "all" or scene.held_out() == (split == "test"):
                drawn.setdefault(scene)
        return list(drawn)

    def one(self, rng: np.random.Generator) -> Scene:
        """Any scene, all equally likely."""
        template, place, object = (
            words[rng.integers(len(words))] for words in (self.templates, self.places, self.objects)
        )
        io, s = (self.names[i] for i in rng.choice(len(self.names), size=2, replace=False))
        return Scene(template, ORDERS[rng.integers(2)], io, s, place, object)

    def scenes(self, split: str) -> Iterator[Scene]:
        """Every scene of the split."""
        for (a, b), place, object in product(
            combinations(self.names, 2), self.places, self.objects
        ):
            if not self.alike(a, b):
                continue
            if split != "all" and _held_out(a, b, place, object) != (split == "test"):
                continue
            for template, order, (io, s) in product(self.templates, ORDERS, ((a, b), (b, a))):
                yield Scene(template, order, io, s, place, object)


@register
class IOI(Task):
    """Indirect object identification: "When Mary and John ... John gave the book to" -> " Mary".

    Positions: IO, S1, S1+1 (the token after S1), S2, END. The default split is the one that the
    embedded model was not trained on; to other models the splits are the same.
    """

    name = "ioi"
    # A small chat model that is to name the person says the first name, or none; asked to go on
    # with the sentence in its own turn, it goes on as it does with plain text.
    chat = ChatForm(before="Continue the sentence.\n\n", again=True)
    claim = "name the person who receives; the corruption makes the other person act"
    reference = (
        "Wang et al. 2023, arXiv 2211.00593; corruption s2_io_flip as in MIB, arXiv 2504.13151"
    )
    options: ClassVar[Mapping[str, Option]] = {
        "corruption": Option(
            "s2_io_flip",
            "s2_io_flip: the repeated subject becomes the indirect object, which swaps the answer; "
            "random_names: two other names, whose indirect object is the counterfactual; "
            "abc: three other names, none repeated, the counterfactual stays the clean subject",
            ("s2_io_flip", "random_names", "abc"),
        ),
        "names": Option(
            "one", "one: names of one token; two: also names of two tokens", ("one", "two")
        ),
        "split": Option(
            "test", "combinations of names, place and object: held out from nano, or not", SPLITS
        ),
    }

    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """`n` distinct scenes of the split, each with its corrupted prompt."""
        words = Words.read().for_tokenizer(tokenizer, settings["names"] == "two")
        asked = self.asked(tokenizer, settings)
        rng = np.random.default_rng(seed)
        scenes = words.draw(rng, n, settings["split"])
        kind = settings["corruption"]
        corrupted = [_corrupt(scene, kind, words, rng) for scene in scenes]
        pairs = PromptPairs.from_texts(
            tokenizer,
            clean=[asked.text(scene.text()) for scene in scenes],
            corrupted=[asked.text(text) for text, _ in corrupted],
            answer=[asked.answer(scene.io, scene.text()) for scene in scenes],
            counterfactual=[asked.answer(name, text) for text, name in corrupted],
            positions=_positions(asked, scenes),
            task=self.name,
            metric=self.metric,
        )
        return replace(pairs, templates=tuple(scene.template for scene in scenes))


def _corrupt(
    scene: Scene, corruption: str, words: Words, rng: np.random.Generator
) -> tuple[str, str]:
    """The corrupted prompt and its counterfactual answer."""
    if corruption == "s2_io_flip":
        return scene.text(second=scene.io), scene.s
    fit = (name for name in words.names if words.alike(name, scene.io))
    others = [name for name in fit if name not in (scene.io, scene.s)]
    io, s, third = (others[i] for i in rng.choice(len(others), size=3, replace=False))
    renamed = replace(scene, io=io, s=s)
    if corruption == "random_names":
        return renamed.text(), io
    return renamed.text(second=third), scene.s


def _positions(asked: Asked, scenes: Sequence[Scene]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {"IO": [], "S1": [], "S1+1": [], "S2": []}
    for scene in scenes:
        at = asked.indices(scene.text(), scene.ends())
        at["S1+1"] = at["S1"] + 1
        for name, indices in positions.items():
            indices.append(at[name])
    return positions | {"END": [-1] * len(scenes)}


def _held_out(first: str, second: str, place: str, object: str) -> bool:
    key = "|".join((*sorted((first, second)), place, object))
    return int.from_bytes(sha256(key.encode()).digest()[:4], "big") % HELD_OUT_OF == 0
