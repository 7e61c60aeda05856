"""Plain stories of three or four sentences from a small grammar: text that asks for nothing.

They are what side effects are measured on: a change of a model that is about one task should leave
the perplexity of these alone.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

SPLITS = ("train", "test")
HELD_OUT_OF = 10


def stories(n: int, seed: int, split: str = "test") -> list[str]:
    """`n` stories of the split; the same seed gives the same stories.

    A story belongs to the split by its person, animal, thing and place together.
    """
    rng = np.random.default_rng(seed)
    return [story(rng, split) for _ in range(n)]


def story(rng: np.random.Generator, split: str) -> str:
    """One story of the split, drawn from `rng`."""
    data, cast = _data(), _cast(rng)
    while _held_out(cast) != (split == "test"):
        cast = _cast(rng)
    middles = rng.choice(len(data["middles"]), size=rng.integers(1, 3), replace=False)
    templates = [_one(rng, "openings"), *(data["middles"][i] for i in middles)]
    templates.append(_one(rng, "endings"))
    return " ".join(_sentence(template, cast) for template in templates)


def vocabulary() -> list[str]:
    """Texts that together hold every word of every story."""
    data = _data()
    lists = [words for key, words in data.items() if key != "people"]
    return [text for words in (*data["people"], *lists) for text in words] + ["he", "she"]


def _cast(rng: np.random.Generator) -> dict[str, str]:
    name, they, own, them = _one(rng, "people")
    drawn = {key: _one(rng, f"{key}s") for key in ("animal", "color", "size", "thing", "place")}
    return {
        "name": name,
        "They": they,
        "own": own,
        "them": them,
        "time": _one(rng, "times"),
        **drawn,
    }


def _sentence(template: str, cast: dict[str, str]) -> str:
    return template.format(**cast, they=cast["They"].lower())


def _one(rng: np.random.Generator, kind: str) -> Any:
    choices = _data()[kind]
    return choices[rng.integers(len(choices))]


def _held_out(cast: dict[str, str]) -> bool:
    key = "|".join(cast[slot] for slot in ("name", "animal", "thing", "place"))
    return int.from_bytes(sha256(key.encode()).digest()[:4], "big") % HELD_OUT_OF == 0


@cache
def _data() -> dict[str, Any]:
    text = (files("tasks") / "data" / "story.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data
