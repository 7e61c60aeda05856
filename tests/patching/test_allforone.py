"""What must hold of the three stages for any model, tried on random models of all families."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from patching.ablation.estimates import estimate_means
from patching.ablation.waiting import alternatives, cama
from patching.allforone.stages import Stages, grid, necessity, waiting_alone, waiting_points
from patching.allforone.subgraph import Subgraph, prune_heads, score_parts
from patching.forward import Record, chain, run_block
from patching.masks import (
    Attention,
    cut_last,
    full_peek,
    hide_first,
    on_heads,
    self_peek,
    window_peek,
)
from patching.runs import Batch
from tasks.errors import MethodError
from tasks.pairs import PromptPairs
from tests import planted
from tests.families import FAMILIES, make_pairs, one_batch, opened

SAMPLES = 12


@pytest.fixture(scope="module")
def pairs():
    """Prompts of six tokens that start alike and end alike; two operands among them vary."""
    rows = np.tile(np.arange(6), (10, 1))
    rows[:, [1, 3]] = np.random.default_rng(0).integers(10, 60, (10, 2))
    return as_pairs(rows)


def as_pairs(rows):
    """Prompts as pairs; what they are corrupted to does not matter here."""
    corrupted = rows.copy()
    corrupted[:, 1] = 9
    answers = np.full((len(rows), 1), 30)
    return PromptPairs.from_tokens(
        clean=rows, corrupted=corrupted, answer=answers, counterfactual=answers + 1, task="random"
    )


@pytest.fixture(scope="module")
def samples(pairs):
    """Draws in which the rest of the prompt does not depend on the token held fixed."""
    found = {}
    for position, column in enumerate(pairs.clean.T):
        for token in np.unique(column):
            rng = np.random.default_rng(1)
            rows = np.stack([rng.choice(other, SAMPLES) for other in pairs.clean.T], axis=1)
            rows[:, position] = token
            found[position, int(token)] = rows
    return found


def allowed_text(allowed):
    return [" ".join("".join("1" if k else "." for k in row) for row in allowed[0, 0])][0]


@pytest.mark.parametrize(
    ("length", "full", "own"),
    [
        (5, "1.... 11... 1.1.. 1..1. 11111", "1.... 11... 1.1.. 1..1. 1...1"),
        (
            7,
            "1...... 11..... 1.1.... 1..1... 1...1.. 1....1. 1111111",
            "1...... 11..... 1.1.... 1..1... 1...1.. 1....1. 1.....1",
        ),
    ],
)
def test_peeks_are_the_published_tables(length, full, own):
    mask = torch.ones(1, length, dtype=torch.bool)
    assert allowed_text(full_peek(mask)) == full
    assert allowed_text(self_peek(mask)) == own


def test_a_window_is_the_last_few_tokens_and_the_first():
    mask = torch.ones(1, 6, dtype=torch.bool)
    shown = "1..... 11.... 111... 1111.. 1.111. 1..111"
    assert allowed_text(window_peek(mask)) == shown
    alone = "1..... .1.... ..1... ...1.. ....1. .....1"
    assert allowed_text(window_peek(mask, bos=False, width=0)) == alone
    mask[:, :2] = False
    padded = allowed_text(window_peek(mask)).split()
    assert padded[2:] == ["..1...", "..11..", "..111.", "..1111"]


def test_peeks_of_padded_prompts_start_at_the_first_real_token():
    mask = torch.tensor([[False, False, True, True, True]])
    assert allowed_text(self_peek(mask)) == "1.1.. .11.. ..1.. ..11. ..1.1"
    assert allowed_text(full_peek(mask)).split()[-1] == "..111"
    assert allowed_text(cut_last(mask)) == "11111 11111 11111 11111 ..1.1"


def test_without_bos_the_first_token_is_one_of_many():
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert allowed_text(self_peek(mask, bos=False)) == "1... .1.. ..1. ...1"
    assert allowed_text(full_peek(mask, bos=False)) == "1... .1.. ..1. 1111"
    assert allowed_text(hide_first(full_peek(mask), mask)) == "1... .1.. ..1. .111"


def test_masks_for_some_heads_leave_the_others_alone():
    own = self_peek(torch.ones(1, 4, dtype=torch.bool))
    by_head = on_heads(own, [2], 3)
    assert by_head.shape == (1, 3, 4, 4)
    assert by_head[:, :2].all()
    assert torch.equal(by_head[:, 2:], own)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_that_allows_everything_changes_nothing(family, pairs):
    model = opened(family)
    batch = Batch.of(model, pairs)
    everything = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    layers = dict.fromkeys(range(model.anatomy.n_layers), everything)
    with torch.no_grad():
        plain = model.run(batch.clean, batch.mask)
        masked = model.run(batch.clean, batch.mask, Attention(layers))
    assert torch.equal(plain, masked)


@pytest.mark.parametrize("family", FAMILIES)
def test_cama_on_the_embedding_is_the_unmodified_model(family, pairs, samples):
    """W = -1 replaces what depends on token and position alone: nothing is lost."""
    model = opened(family)
    batch = one_batch(model, pairs)
    means = cama(model, pairs, samples)
    stages = Stages.of(model, batch, True)
    with torch.no_grad():
        plain = model.run(batch.clean, batch.mask)
        found = model.run_from(0, stages.waited(means, -1), stages.frame)
    assert torch.allclose(found, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_cama_at_the_first_token_and_the_first_operand_is_the_identity(family, pairs, samples):
    model = opened(family)
    batch = one_batch(model, pairs)
    means, tap = cama(model, pairs, samples), Record(("resid_post",))
    with torch.no_grad():
        model.run(batch.clean, batch.mask, tap)
    stages = Stages.of(model, batch, True)
    for wait in range(model.anatomy.n_layers):
        real, mean = tap.values["resid_post", wait], stages.waited(means, wait)
        assert torch.allclose(mean[:, :2], real[:, :2], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(mean[:, 3:], real[:, 3:], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_once_the_last_token_is_alone_no_other_matters(family, pairs):
    model = opened(family)
    batch = one_batch(model, pairs)
    stages = Stages.of(model, batch, True)
    generator = torch.Generator().manual_seed(0)
    shape = {"generator": generator, "dtype": model.dtype}
    x = torch.randn(10, 6, model.anatomy.d_model, **shape)
    other = x.clone()
    other[:, 1:-1] += 5 * torch.randn(10, 4, model.anatomy.d_model, **shape)
    last = model.anatomy.n_layers - 1
    with torch.no_grad():
        assert torch.equal(stages.finish(last, x), stages.finish(last, other))
        plainly = run_alone(stages, last, x), run_alone(stages, last, other)
        assert torch.allclose(plainly[0], plainly[1], atol=1e-5)
        assert torch.allclose(stages.finish(last, x), plainly[0], rtol=1e-4, atol=1e-4)
        peeking = stages.transfer(last, x)[:, -1], stages.transfer(last, other)[:, -1]
        assert not torch.allclose(*peeking, atol=1e-2)


def run_alone(stages, layer, x):
    """The computing stage with all rows, masked instead of left out."""
    allowed = self_peek(stages.batch.mask)
    layers = dict.fromkeys(range(layer, stages.model.anatomy.n_layers), allowed)
    return stages.model.run_from(layer, x, stages.frame, Attention(layers))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_peek_changes_the_last_row_alone(family, pairs):
    model = opened(family)
    batch = one_batch(model, pairs)
    frame = model.frame(batch.mask)
    with torch.no_grad():
        x = model.embed(batch.clean, frame)
        full = run_block(model.blocks[0], x, frame, Attention({0: full_peek(batch.mask)}))
        own = run_block(model.blocks[0], x, frame, Attention({0: self_peek(batch.mask)}))
    assert torch.equal(full[:, :-1], own[:, :-1])
    assert not torch.allclose(full[:, -1], own[:, -1], atol=1e-2)


def with_hooks(stages, means, wait, transfer):
    """The subgraph as its definition says: one overwrite and masks in an ordinary forward pass."""
    full, own = full_peek(stages.batch.mask), self_peek(stages.batch.mask)
    masks = dict.fromkeys(range(wait + 1, wait + 1 + transfer), full)
    masks |= dict.fromkeys(range(wait + 1 + transfer, stages.model.anatomy.n_layers), own)

    def overwrite(kind, layer, value):
        return stages.waited(means, wait) if (kind, layer) == ("resid_post", wait) else value

    tap = chain(overwrite, Attention(masks))
    return stages.model.run(stages.batch.clean, stages.batch.mask, tap)


def by_lookup(stages, means, wait, transfer):
    """The subgraph from table rows: a token never meets another one but the first, and the last.

    Every token's keys and values come from a run of its own with the first token; the last token
    alone reads them all.
    """
    model, length = stages.model, stages.batch.mask.shape[1]
    rows = stages.waited(means, wait)
    layers = range(wait + 1, wait + 1 + transfer)
    past = {(kind, layer): [] for kind in ("k_rot", "v_read") for layer in layers}
    for column in range(length - 1):
        pair = [0, column] if column else [0]
        x, frame = rows[:, pair], stages.frame.only(pair)
        kept = Record(("k_rot", "v_read"))
        for layer in layers:
            window = model.blocks[layer].window
            seen = stages.frame.visible(window)[:, :, pair][..., pair]
            x = run_block(model.blocks[layer], x, frame, chain(kept, Attention({layer: seen})))
        for point in past:
            past[point].append(kept.values[point][:, -1:])
    past = {point: torch.cat(values, dim=1) for point, values in past.items()}
    last = rows[:, -1:]
    for layer in layers:
        here = {("k_rot", layer): past["k_rot", layer], ("v_read", layer): past["v_read", layer]}
        last = run_block(model.blocks[layer], last, stages.frame.rows(length - 1), past=here)
    both = torch.cat([stages_first_row(stages, means, wait, transfer), last], dim=1)
    middle = both.new_zeros(len(both), length - 2, both.shape[2])
    x = torch.cat([both[:, :1], middle, both[:, 1:]], dim=1)
    return stages.finish(wait + 1 + transfer, x)


def stages_first_row(stages, means, wait, transfer):
    """The first token's stream after the transfer: it only ever sees itself."""
    x, frame = stages.waited(means, wait)[:, :1], stages.frame.only([0])
    for layer in range(wait + 1, wait + 1 + transfer):
        x = run_block(stages.model.blocks[layer], x, frame)
    return x


@pytest.mark.parametrize("family", FAMILIES)
def test_three_ways_to_compute_the_same_subgraph(family, pairs, samples):
    """Stage by stage, as hooks in a forward pass, and from table rows alone."""
    model = opened(family)
    stages = Stages.of(model, one_batch(model, pairs), True)
    means = cama(model, pairs, samples)
    with torch.no_grad():
        for wait, transfer in ((-1, 0), (-1, 1), (-1, 2), (0, 0), (0, 1), (1, 0)):
            ours = stages.run(means, wait, transfer)
            assert torch.allclose(by_lookup(stages, means, wait, transfer), ours, atol=2e-3)
            if wait >= 0:
                hooked = with_hooks(stages, means, wait, transfer)
                assert torch.allclose(hooked, ours, atol=2e-3)


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gemma2"])
def test_the_grid_is_made_of_the_single_subgraphs(family, pairs, samples):
    model = opened(family)
    means = cama(model, pairs, samples)
    stages = Stages.of(model, one_batch(model, pairs), True)
    with torch.no_grad():
        best = stages.run(means, 0, 1).argmax(-1).numpy()
    answered = replace(pairs, answer=best[:, None], counterfactual=(best[:, None] + 1) % 61)
    found = grid(model, answered, means, True, batch_size=4)
    assert sorted(found) == [(w, t) for w in (-1, 0, 1) for t in range(2 - w)]
    assert found[0, 1].all()
    assert len(necessity(model, answered, True)) == 2
    assert sorted(waiting_alone(model, answered, means)) == [-1, 0, 1]


def test_an_operator_does_not_vary_with_the_operand_after_it():
    """Independent draws keep the operator's mean free of B; keeping results in range leaks."""
    model = opened("llama")
    rows = [[0, 10 + a, 5, 10 + b] for a in range(8) for b in range(8)]
    every = np.array(rows)

    def operator_given(b, least):
        kept = every[(every[:, 3] == 10 + b) & (every[:, 1] - every[:, 3] >= least)]
        batch = Batch.of(model, as_pairs(kept))
        tap = Record(("resid_post",))
        with torch.no_grad():
            model.run(batch.clean, batch.mask, tap)
        return tap.values["resid_post", 1][:, 2].mean(0)

    independent = [operator_given(b, least=-99) for b in (0, 3, 7)]
    assert torch.allclose(independent[0], independent[1], atol=1e-5)
    assert torch.allclose(independent[0], independent[2], atol=1e-5)
    leaking = [operator_given(b, least=0) for b in (0, 3, 7)]
    assert not torch.allclose(leaking[0], leaking[2], atol=1e-2)


def test_stand_ins_are_what_they_say(pairs, samples):
    model = opened("gpt2")
    means = cama(model, pairs, samples)
    others = alternatives(model, pairs, samples, means, bos=True)
    batch = one_batch(model, pairs)
    stages = Stages.of(model, batch, True)
    points = waiting_points(model)
    by_position = estimate_means(model, pairs, points, "position")
    for wait in (0, 1):
        point = points[wait + 1]
        streams = {name: stages.waited(table, wait) for name, table in others.items()}
        assert not streams["zero"][:, 1:].any()
        skipped = stages.waited(means, -1)
        assert torch.allclose(streams["skip"], skipped)
        assert torch.allclose(streams["mean-by-position"][3], by_position.values[point])
        level = by_position.values[point][1:].mean(0)
        assert torch.allclose(streams["mean"][:, 1:], level.expand(10, 5, -1))
        for name in ("zero", "mean", "mean-by-position", "resample", "alone"):
            same = torch.allclose(streams[name][:, 0], stages.waited(means, wait)[:, 0], atol=1e-4)
            assert same, name
        peeking = Attention(dict.fromkeys(range(2), self_peek(batch.mask)))
        tap = Record(("resid_post",))
        model.run(batch.clean, batch.mask, chain(peeking, tap))
        alone = tap.values["resid_post", wait]
        assert torch.allclose(streams["alone"], alone, atol=1e-4)
        assert not torch.allclose(streams["alone"], streams["resample"], atol=1e-2)
    draws = {tuple(rows[i]) for rows in samples.values() for i in range(len(rows))}
    assert len(draws) > len(samples)


@pytest.mark.parametrize("peek", ["causal", "window", "no-bos", "no-attention"])
def test_other_peeks_differ_from_the_main_one(peek, pairs, samples):
    """In a single transfer block the others' mutual attention comes too late to be seen."""
    model = opened("gpt2")
    means = cama(model, pairs, samples)
    batch = Batch.of(model, pairs)
    with torch.no_grad():
        for transfer in (1, 2):
            main = Stages.of(model, batch, True).run(means, -1, transfer)
            other = Stages.of(model, batch, True, peek).run(means, -1, transfer)
            alike = torch.allclose(main, other, atol=1e-3)
            assert alike == (peek == "causal" and transfer == 1)


def test_cuts_of_one_head_and_of_all(pairs, samples):
    """A subgraph without peeking heads is one that transfers nothing."""
    model = opened("llama")
    means = cama(model, pairs, samples)
    whole = Subgraph.of(model, pairs, means, True, -1, 1)
    (stages,) = whole.sweep(lambda stages: stages)
    with torch.no_grad():
        none = stages.run(means, -1, 1, whole.keeping(()).cuts())
        assert torch.allclose(none, stages.run(means, -1, 0), atol=1e-4)
        assert torch.equal(stages.run(means, -1, 1, whole.cuts()), stages.run(means, -1, 1))
        some = stages.run(means, -1, 1, whole.keeping(whole.heads[:2]).cuts())
        assert not torch.allclose(some, none, atol=1e-3)


def planted_subgraph():
    model, pairs = planted.opened(), planted.pairs()
    samples = {
        (column, int(token)): pairs.clean[pairs.clean[:, column] == token]
        for column in range(5)
        for token in np.unique(pairs.clean[:, column])
    }
    means = cama(model, pairs, samples)
    return Subgraph.of(model, pairs, means, True, planted.WAIT, planted.TRANSFER)


def test_pruning_leaves_the_planted_heads():
    steps = prune_heads(planted_subgraph())
    assert {site.name for site, _ in steps[:2]} == {"a2.h1", "a3.h0"}
    assert steps[1][1].all()
    assert not steps[2][1].all()


def test_the_planted_edges_carry_everything():
    whole = planted_subgraph()
    kept = whole.keeping(head for head in whole.heads if head.name in planted.HEADS)
    scores = score_parts(kept, lambda column: {1: "A", 3: "B", 4: "END"}.get(column, column))
    carrying = {name for name in scores if scores[name] > 0.5}
    assert carrying == {
        "input@A->a2.h0@END<v>",
        "input@B->a3.h1@END<v>",
        "a2.h0@END->m4@END",
        "a3.h1@END->m4@END",
        "m4@END->logits",
    }
    assert all(abs(scores[name]) < 0.05 for name in set(scores) - carrying)


def test_prompts_of_several_lengths_and_unknown_peeks_are_refused(pairs):
    model = opened("gpt2")
    ragged = Batch.of(model, make_pairs())
    with pytest.raises(MethodError, match="prompts of 6, 7, 8, 9 tokens"):
        Stages.of(model, ragged, True)
    batch = Batch.of(model, pairs)
    with pytest.raises(MethodError, match="did you mean 'causal'"):
        Stages.of(model, batch, True, "casual")
