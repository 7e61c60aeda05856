"""Is it a girl or a boy, she or he: what the little story model stories260K answers.

Names of discovery and of held-out prompts are different ones.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from patching.model import Model
from tasks.pairs import PromptPairs
from tasks.tokenize import encode

SHIPPED = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"
"""Beside the project, and not part of it."""
GIRLS = ("Lily", "Sue", "Amy", "Mia", "Sara", "Anna", "Lucy", "Jane", "Ella", "Molly")
BOYS = ("Tim", "Max", "Bob", "Sam", "Ben", "Tom", "Jack", "Leo", "John", "Billy")
TEMPLATES = (
    "Once upon a time, there was a little {kind} named {name}. One day,",
    "There was a {kind} named {name}. Every day,",
    "Once there was a {kind} named {name}. One morning,",
)


def pairs(model: Model, held_out: bool, n: int = 64) -> PromptPairs:
    """At most ``n`` pairs of a girl and a boy whose names are equally many tokens, both ways."""
    tokenizer = model.tokenizer
    girls, boys = (names[held_out::2] for names in (GIRLS, BOYS))
    alike = [
        (girl, boy)
        for girl, boy in product(girls, boys)
        if len(encode(tokenizer, f" {girl}")) == len(encode(tokenizer, f" {boy}"))
    ]
    rows = []
    for template, (girl, boy) in product(TEMPLATES, alike):
        she = template.format(kind="girl", name=girl), " she"
        he = template.format(kind="boy", name=boy), " he"
        rows += [(*she, *he), (*he, *she)]
    rows = rows[:: max(1, len(rows) // n)][:n]
    clean, answer, corrupted, other = (list(column) for column in zip(*rows, strict=True))
    return PromptPairs.from_texts(tokenizer, clean, corrupted, answer, other)
