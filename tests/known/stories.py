"""She or he, was or were: what the little story model stories260K answers.

Names and nouns of discovery and of held-out prompts are different ones.
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
OPENINGS = ("One day, the {noun}", "Once upon a time, the {noun}")
NOUNS = ("ball", "dog", "cat", "bird", "boy", "girl", "toy", "car", "flower", "tree", "duck")
NOUNS += ("bear", "frog", "kid", "friend", "king", "box", "bee", "cow", "pig")


def number(model: Model, held_out: bool, n: int = 64) -> PromptPairs:
    """At most ``n`` pairs of one and of many, equally many tokens long, both ways.

    The answers begin alike (`` w``), so the prompts end where the answers part.
    """
    tokenizer = model.tokenizer
    rows = []
    for opening, one, many in product(OPENINGS, NOUNS[held_out::2], NOUNS[held_out::2]):
        was, were = opening.format(noun=one), opening.format(noun=f"{many}s")
        ids = [encode(tokenizer, text + verb) for text in (was, were) for verb in (" was", " were")]
        if len(encode(tokenizer, was)) != len(encode(tokenizer, were)):
            continue
        end = next(i for i, (a, b) in enumerate(zip(*ids[:2], strict=False)) if a != b)
        single, plural, right, wrong = ids[0][:end], ids[3][:end], ids[0][end], ids[1][end]
        rows += [(single, plural, right, wrong), (plural, single, wrong, right)]
    rows = rows[:: max(1, len(rows) // n)][:n]
    longest = max(len(row[0]) for row in rows)
    padded = [[[0] * (longest - len(ids)) + ids for ids in row[:2]] for row in rows]
    return PromptPairs.from_tokens(
        clean=[clean for clean, _ in padded],
        corrupted=[corrupted for _, corrupted in padded],
        mask=[[False] * (longest - len(row[0])) + [True] * len(row[0]) for row in rows],
        answer=[row[2] for row in rows],
        counterfactual=[row[3] for row in rows],
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
