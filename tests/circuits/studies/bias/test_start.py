"""Runs that start in the middle and share beginnings say what whole runs of single prompts say."""

import numpy as np
import pytest
import torch

from circuits.edits import edit as e
from circuits.edits.live import editing
from circuits.studies.bias import start as starts
from circuits.studies.bias.start import Start
from tests.families import FAMILIES, VOCABULARY, opened

ALIKE = 3
SHARED = (4, 1, 6, 0)
LENGTHS = (7, 8, 7, 9, 9, 8, 8, 8, 9, 5, 6, 4)


def questions():
    """Left-padded prompts, three in a row with as many first tokens alike as ``SHARED`` says."""
    rng = np.random.default_rng(0)
    tokens = np.full((len(LENGTHS), max(LENGTHS)), -100)
    for row, length in enumerate(LENGTHS):
        group, shared = row // ALIKE, SHARED[row // ALIKE]
        begun = np.random.default_rng(group + 10).integers(VOCABULARY - 3, size=shared)
        rest = rng.integers(VOCABULARY - 3, size=length - shared)
        # Where prompts part they differ for certain.
        rest[0] = VOCABULARY - 3 + row % ALIKE
        tokens[row, -length:] = [*begun, *rest]
    return tokens, tokens >= 0


@torch.no_grad()
def one_by_one(model, tokens, mask):
    rows = [torch.tensor(ids[real])[None] for ids, real in zip(tokens, mask, strict=True)]
    return torch.cat([model.run(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in rows])


@torch.no_grad()
def in_order(start, model):
    seen = torch.zeros(len(LENGTHS), model.vocabulary_size, dtype=model.dtype)
    for rows, logits in start.logits(model):
        seen[torch.tensor(rows)] = logits
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_what_prompts_share_is_run_once_and_says_the_same(family, monkeypatch):
    monkeypatch.setattr(starts, "BATCH", 2 * ALIKE)
    model = opened(family)
    tokens, mask = questions()
    wanted = one_by_one(model, tokens, mask)
    start = Start.of(model, tokens, mask, ALIKE)
    assert len(start.chunks) == 2
    for layer in (0, 1):
        torch.testing.assert_close(in_order(start.at(model, layer), model), wanted)
    windowed = any(block.window is not None for block in model.blocks)
    assert all((chunk.begun is None) == windowed for chunk in start.chunks)
    if not windowed:
        # Three prompts of 7 and 8 tokens, of which they share 4.
        assert Start.of(model, tokens[:ALIKE], mask[:ALIKE], ALIKE).tokens == 4 + ALIKE * 4


def test_an_edit_is_seen_in_what_prompts_share():
    model = opened("gpt2")
    tokens, mask = questions()
    start = Start.of(model, tokens, mask, ALIKE)
    for layer, edit in ((0, e.remove("m0.n3")), (1, e.remove("a1.h0"))):
        start = start.at(model, layer)
        with editing(model, edit):
            wanted, seen = one_by_one(model, tokens, mask), in_order(start, model)
        torch.testing.assert_close(seen, wanted)
        assert not torch.allclose(wanted, one_by_one(model, tokens, mask), atol=1e-3)


def test_prompts_that_are_all_alike_still_have_an_end_of_their_own():
    model = opened("llama")
    tokens = np.tile(np.arange(5), (2, 1))
    start = Start.of(model, tokens, tokens >= 0, 2)
    assert start.tokens == 4 + 2
    logits = torch.cat([logits for _, logits in start.logits(model)])
    torch.testing.assert_close(logits, one_by_one(model, tokens, tokens >= 0))


def test_a_start_cannot_go_back():
    model = opened("gpt2")
    with pytest.raises(ValueError, match="cannot go back"):
        Start.of(model, *questions()).at(model, 1).at(model, 0)


def test_no_prompts_are_no_chunks():
    start = Start.of(opened("gpt2"), np.zeros((0, 4), int), np.zeros((0, 4), bool))
    assert start.chunks == ()
    assert start.tokens == 0


def test_some_prompts_go_on_alone():
    model = opened("gemma2")
    tokens, mask = questions()
    rows = np.array([9, 2, 5])
    some = Start.of(model, tokens, mask).at(model, 1).only(model, rows)
    seen = torch.zeros(len(rows), model.vocabulary_size, dtype=model.dtype)
    for at, logits in some.logits(model):
        seen[torch.tensor(at)] = logits
    torch.testing.assert_close(seen, one_by_one(model, tokens, mask)[rows])
