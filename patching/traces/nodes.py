"""The nodes of an attribution graph, as columns of numbers, and their names.

In order of computation: tokens; then for every place that is taken apart (the MLP of every layer,
in an attribution graph) its error terms, position by position, and its active latents, by position
and number; then the logits that are asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from patching.latent_sites import latent_site, logit_site
from patching.sites import Site

TOKEN, ERROR, LATENT, LOGIT = range(4)
COLUMNS = ("kind", "layer", "position", "unit", "value")


@dataclass(frozen=True)
class Nodes:
    """``n`` nodes.

    kind      :data:`TOKEN`, :data:`ERROR`, :data:`LATENT` or :data:`LOGIT`
    layer     which of the places, in order; -1 for tokens, the number of places for logits
    position  token index
    unit      the number of the latent, or the id of the token; -1 for errors
    value     a latent's amount (of a pair: clean minus corrupted), an error's length, a logit's
              probability
    places    names of the places: ``m0``, ``resid_post.1``
    """

    kind: Int[np.ndarray, " n"]
    layer: Int[np.ndarray, " n"]
    position: Int[np.ndarray, " n"]
    unit: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    places: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: np.ndarray | slice) -> Nodes:
        """Some of the nodes."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Nodes(**columns, places=self.places)

    @classmethod
    def joined(cls, parts: Sequence[Nodes], places: tuple[str, ...] = ()) -> Nodes:
        """Several groups of nodes one after another."""
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
        return cls(**columns, places=places)

    @classmethod
    def group(
        cls, kind: int, layer: int, position: np.ndarray, unit: np.ndarray, value: np.ndarray
    ) -> Nodes:
        """Nodes of one kind and place."""
        size = len(position)
        return cls(
            np.full(size, kind),
            np.full(size, layer),
            position.astype(np.int64),
            unit.astype(np.int64),
            value.astype(np.float64),
        )

    def of(self, kind: int) -> Bool[np.ndarray, " n"]:
        """Which nodes are of a kind."""
        return self.kind == kind

    @property
    def n_sources(self) -> int:
        """How many nodes have effects on others: all but the logits, which come last."""
        return int((self.kind != LOGIT).sum())

    @property
    def targets(self) -> Int[np.ndarray, " t"]:
        """Which nodes are acted on: latents and logits."""
        return np.flatnonzero((self.kind == LATENT) | (self.kind == LOGIT))

    def site(self, number: int) -> Site:
        """A node as a site."""
        kind, unit, at = (int(getattr(self, n)[number]) for n in ("kind", "unit", "position"))
        if kind == TOKEN:
            return Site("input", position=at)
        if kind == LOGIT:
            return logit_site(unit).at(at)
        place = self.places[int(self.layer[number])]
        return latent_site(place, unit if kind == LATENT else None, at)
