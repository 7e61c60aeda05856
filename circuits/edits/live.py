"""Edits in force: for the length of a `with` block, and gone without a trace afterwards.

    with circuits.editing(model, [circuits.scale("a2.h1", 0)]) as edited:
        edited.logits(pairs)                 # the edited model
        edited.generate(tokens, mask, 8)     # its greedy continuation
        circuits.discover("ioi", model=model)  # anything that reads the model sees edited weights

Weight edits change the live model and are put back bit for bit, also after an error. Activation
edits and circuits act in what is run through the value that the block gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.arguments import check_kinds
from circuits.edits.check import edit_faults, is_weight_edit, token_ids
from circuits.edits.edit import (
    Add,
    Affine,
    AnyEdit,
    Circuit,
    Clamp,
    Direction,
    Latent,
    Project,
    RankOne,
    Scale,
    Steer,
    SwapAttention,
)
from patching.circuit_edit import circuit_logits, continued
from patching.directions import default_basis, token_direction
from patching.edits import Change, PatternSwap, ValueChange, edit_tap
from patching.forward import Tap, chain, no_tap
from patching.generate import generate
from patching.latent_change import LatentChange, altered
from patching.latent_sites import parse_node
from patching.model import Model
from patching.runs import Batch
from patching.sites import parse_site
from patching.sitesets import point_of, unit_axis
from patching.sweep import Sweep, sweep
from patching.weights import WeightChange, changed_weights, head_rows
from tasks.errors import EditError, SiteError, all_faults
from tasks.pairs import PromptPairs

Rows = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EditedModel:
    """A model with edits in force. Weight edits are in the model; the others are made here."""

    model: Model
    edits: tuple[AnyEdit, ...]
    changes: tuple[Change, ...]
    circuit: Circuit | None

    def tap(self, mask: Bool[Tensor, "b s"], positions: Mapping[str, Tensor] | None = None) -> Tap:
        """The activation edits as one tap, for one run of a batch."""
        return edit_tap(self.changes, mask, positions) if self.changes else no_tap

    @torch.no_grad()
    def run(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        positions: Mapping[str, Tensor] | None = None,
        tap: Tap = no_tap,
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position; ``tap`` sees the edited values.

        Raises:
            EditError: a circuit is among the edits, which needs pairs: use :meth:`logits`.
        """
        if self.circuit is not None:
            raise EditError("a circuit lives between two runs; give prompt pairs to logits()")
        return self.model.run(tokens, mask, chain(self.tap(mask, positions), tap))

    def logits(self, pairs: PromptPairs, batch_size: int = 64) -> Float[Tensor, "n v"]:
        """Logits after every clean prompt."""
        if self.circuit is not None:
            return circuit_logits(
                self.model, pairs, self.circuit.edges, **_how(self.circuit), batch_size=batch_size
            )

        def work(batch: Batch) -> Float[Tensor, "b v"]:
            return self.run(batch.clean, batch.mask, _columns(batch))

        return torch.cat([*sweep(self.model, pairs, work, Sweep(batch_size))])

    def generate(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        max_new_tokens: int,
        positions: Mapping[str, Tensor] | None = None,
        stop: int | None = None,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Int[Tensor, "b new"]:
        """Continuation by the edited model, greedy or sampled: see :func:`patching.generate`.

        Raises:
            EditError: a circuit is among the edits: use :meth:`generate_pairs`.
        """
        if self.circuit is not None:
            raise EditError("a circuit lives between two runs; use generate_pairs()")
        return generate(
            self.model,
            tokens,
            mask,
            max_new_tokens,
            self.tap(mask, positions),
            stop,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    def generate_pairs(self, pairs: PromptPairs, max_new_tokens: int) -> Int[np.ndarray, "n new"]:
        """Greedy continuation of every clean prompt, also with a circuit in force."""
        if self.circuit is not None:
            return continued(
                self.model, pairs, max_new_tokens, self.circuit.edges, **_how(self.circuit)
            )

        def work(batch: Batch) -> Int[np.ndarray, "b new"]:
            new = self.generate(batch.clean, batch.mask, max_new_tokens, _columns(batch))
            return new.cpu().numpy()

        return np.concatenate([*sweep(self.model, pairs, work, Sweep(len(pairs)))])


def _columns(batch: Batch) -> dict[str, Tensor]:
    """Where in a batch its named positions are."""
    return {name: torch.tensor(at - batch.dropped) for name, at in batch.pairs.positions.items()}


@contextmanager
def editing(
    model: Model, edits: AnyEdit | Sequence[AnyEdit], basis: str | None = None
) -> Iterator[EditedModel]:
    """Put edits in force for the length of a `with` block.

    ``basis`` is that of directions given by tokens (:mod:`patching.directions`); by default the
    folded one that fits the model's norm.

    >>> whole = circuits.evaluate(graph, model, pairs).full
    >>> with circuits.editing(model, circuits.remove("a3.h0")):
    ...     without = circuits.evaluate(graph, model, pairs).full
    >>> without < whole == circuits.evaluate(graph, model, pairs).full
    True

    Raises:
        EditError: listing every edit that does not fit the model, and every conflict; nothing is
            changed then.
    """
    check_kinds(model=model)
    given = tuple(edits) if isinstance(edits, Sequence) and not isinstance(edits, str) else (edits,)
    basis = basis or default_basis(model)
    faults = edit_faults(given, model.anatomy, model.tokenizer, model.vocabulary_size)
    if faults:
        raise EditError(all_faults("these edits cannot be made:", faults))
    circuits = [edit for edit in given if isinstance(edit, Circuit)]
    weights = [weight_change(model, edit, basis) for edit in given if is_weight_edit(edit)]
    changes = tuple(
        _activation_change(model, edit, basis)
        for edit in given
        if not is_weight_edit(edit) and not isinstance(edit, Circuit)
    )
    with changed_weights(model, weights):
        yield EditedModel(model, given, changes, circuits[0] if circuits else None)


def weight_change(model: Model, edit: AnyEdit, basis: str) -> WeightChange:
    """What a weight edit does to the live model's weights."""
    site = parse_site(edit.site)  # type: ignore[union-attr]
    one = slice(site.unit, site.unit + 1)
    if isinstance(edit, Scale):
        rows = head_rows(model, site.unit) if site.kind == "head" else one
        part = "attention" if site.kind == "head" else "mlp"
        return WeightChange(part, site.layer, rows, lambda v: v * edit.factor)
    assert isinstance(edit, Add | Project | RankOne)
    toward = _vector(model, edit.direction, basis) * edit.strength
    if isinstance(edit, RankOne):
        keys = torch.tensor(edit.keys, device=toward.device)
        return WeightChange("mlp", site.layer, slice(None), lambda v: v + torch.outer(keys, toward))
    if isinstance(edit, Add):
        return WeightChange("mlp", site.layer, one, lambda v: v + toward)
    unit = _unit(_vector(model, edit.direction, basis))
    return WeightChange("mlp", site.layer, one, lambda v: _without(v, unit, edit.strength))


def _without(
    rows: Float[Tensor, "r d"], unit: Float[Tensor, " d"], strength: float
) -> Float[Tensor, "r d"]:
    """Rows minus their component along a unit vector, in the wider of the two number types."""
    dtype = torch.promote_types(rows.dtype, unit.dtype)
    rows, unit = rows.to(dtype), unit.to(dtype)
    return rows - strength * (rows @ unit)[:, None] * unit


def _activation_change(model: Model, edit: AnyEdit, basis: str) -> Change:
    assert not isinstance(edit, Circuit)
    if isinstance(edit, Latent):
        return _latent_change(model, edit)
    site = parse_site(edit.site)
    if isinstance(edit, SwapAttention):
        return PatternSwap(site.layer, site.unit, edit.first, edit.second)
    point = point_of(site)
    unit = None if unit_axis(point[0]) is None else site.unit
    return ValueChange(point, _function(model, edit, basis), unit, site.position)


def _latent_change(model: Model, edit: Latent) -> Change:
    """The change of a latent, with its dictionary read.

    Raises:
        FormatError, SiteError: the dictionary cannot be read, does not fit, or has no such latent.
    """
    from patching.dictionaries.read import read_dictionaries

    (dictionary,) = read_dictionaries([edit.dictionary])
    site = parse_node(edit.site)
    name = site.at(None).name
    if not (dictionary.latent(site.unit) == name and site.unit < dictionary.n_latents):
        last = dictionary.latent(dictionary.n_latents - 1)
        raise SiteError(
            f"{edit.dictionary} has no latent '{name}'; it has {dictionary.latent(0)} to {last}"
        )
    new = altered(edit.factor, edit.add, edit.low, edit.high)
    return LatentChange.of(model, dictionary, site.unit, new, edit.where, site.position)


def _function(model: Model, edit: AnyEdit, basis: str) -> Rows:
    if isinstance(edit, Scale):
        return lambda x: x * edit.factor
    if isinstance(edit, Steer):
        toward = _vector(model, edit.direction, basis) * edit.strength
        return lambda x: x + toward.to(x.dtype)
    if isinstance(edit, Clamp):
        unit = _unit(_vector(model, edit.direction, basis))
        low, high = edit.low, edit.high

        def clamped(x: Tensor) -> Tensor:
            along = x @ unit.to(x.dtype)
            return x + (along.clamp(low, high) - along)[..., None] * unit.to(x.dtype)

        return clamped
    assert isinstance(edit, Affine)
    matrix = None if edit.matrix is None else torch.tensor(edit.matrix, device=model.device)
    offset = torch.tensor(0.0 if edit.offset is None else edit.offset, device=model.device)
    return lambda x: (x if matrix is None else x @ matrix.T.to(x.dtype)) + offset.to(x.dtype)


def _vector(model: Model, direction: Direction, basis: str) -> Float[Tensor, " d"]:
    if direction.vector is not None:
        return torch.tensor(direction.vector, device=model.device)
    ids = token_ids(direction, model.tokenizer, model.vocabulary_size)
    return token_direction(model, basis, ids)


def _unit(vector: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    return vector / vector.norm().clamp(min=1e-12)


def _how(circuit: Circuit) -> dict[str, Any]:
    return {"keep": circuit.keep, "factor": circuit.factor, "ablation": circuit.ablation}
