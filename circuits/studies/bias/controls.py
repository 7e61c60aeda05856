"""Controls of an edit: random ones of the same norm, and the same edit aimed at another letter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from circuits.edits.edit import Add, AnyEdit, Direction, Project, RankOne
from circuits.edits.live import editing
from circuits.studies.bias.answers import answer, measures, start_at
from circuits.studies.bias.items import Items
from circuits.studies.bias.start import Start
from patching.blocks import weight_in_out
from patching.model import Model
from patching.progress import Progress
from patching.weights import WeightChange, changed_weights, output_module

DRAWS = 10


def random_moves(
    model: Model,
    edits: Sequence[AnyEdit],
    basis: str,
    items: Items,
    seed: int,
    progress: Progress | None = None,
    start: Start | None = None,
) -> list[float]:
    """By how much the share of 'A' moves under each of several random edits of the same norm.

    Of questions to which another letter is the answer. ``start`` is where all of them enter a block
    before which the edits change nothing.
    """
    draws = [random_changes(model, edits, basis, seed + draw) for draw in range(DRAWS)]
    rows = np.flatnonzero(items.gold)
    start = start or start_at(model, items, first_changed(draws[0]))
    items, start = items[rows], start.only(model, rows)

    def share() -> float:
        top = answer(model, items, start).top
        measure = measures(top, items.gold, items.n_options)["A share, gold not A"]
        return measure(np.arange(len(items)))

    plain, moved = share(), []
    for done, changes in enumerate(draws):
        if progress:
            progress(done, DRAWS, "random edits")
        with changed_weights(model, changes):
            moved.append(share() - plain)
    return moved


def first_changed(changes: Sequence[WeightChange]) -> int:
    """The first layer that changes; 0 where none does."""
    return min((change.layer for change in changes), default=0)


def random_changes(
    model: Model, edits: Sequence[AnyEdit], basis: str, seed: int
) -> list[WeightChange]:
    """The edits' changes of weights, every row turned by one random rotation: norms stay."""
    places = [(p, layer) for p in ("mlp", "attention") for layer in range(model.anatomy.n_layers)]

    def weights() -> list[Tensor]:
        return [weight_in_out(output_module(model, *place)).clone() for place in places]

    before = weights()
    with editing(model, edits, basis):
        after = weights()
    generator = torch.Generator().manual_seed(seed)
    width = model.anatomy.d_model
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    changes = []
    for place, old, new in zip(places, before, after, strict=True):
        if torch.equal(old, new):
            continue
        moved = (new - old) @ turn.to(old)
        changes.append(WeightChange(*place, slice(None), lambda v, moved=moved: v + moved))  # type: ignore[misc]
    return changes


def aimed_elsewhere(
    edits: Sequence[AnyEdit], names: Sequence[str] = (" A", " B")
) -> tuple[AnyEdit, ...]:
    """The same edits with the first two letters swapped in their directions."""
    swapped = {names[0]: names[1], names[1]: names[0]}

    def other(edit: AnyEdit) -> AnyEdit:
        if not isinstance(edit, Add | Project | RankOne) or edit.direction.tokens is None:
            return edit
        tokens = {swapped.get(t, t): w for t, w in edit.direction.tokens.items()}
        return edit.model_copy(update={"direction": Direction(tokens=tokens)})

    return tuple(other(edit) for edit in edits)
