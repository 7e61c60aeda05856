"""Scores at places, and the circuits that a budget in plain edges pays for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from patching.nodes.edges import EdgeSet
from patching.nodes.layout import Layout, layout_of
from patching.placed import PlacedEdges
from patching.scores import Scores
from patching.sites import Label
from tasks.errors import SiteError


@dataclass(frozen=True)
class PlacedScores:
    """Scores at places as arrays, with what every edge costs.

    ``names`` of the scores are in the order of the arrays: edge by edge and place by place, then
    crossing edges by layer, head, query and source.
    """

    layout: Layout
    places: tuple[Label, ...]
    sizes: Float[np.ndarray, " places"]
    between: Float[np.ndarray, "query source"]
    values: Float[np.ndarray, " names"]

    @classmethod
    def of(cls, scores: Scores) -> PlacedScores | None:
        """Of scores that are at places; None of others.

        Raises:
            SiteError: they are not of all edges at their places.
        """
        options = scores.options
        if "pair_shares" not in options:
            return None
        layout, places = layout_of(scores.anatomy), tuple(options["places"])
        sizes, between = np.array(options["token_shares"]), np.array(options["pair_shares"])
        heads = scores.anatomy.n_layers * scores.anatomy.n_heads
        if len(scores) != layout.n_edges * len(places) + heads * len(places) ** 2:
            raise SiteError(f"{len(scores)} scores are not those of all edges at {len(places)}")
        return cls(layout, places, sizes, between, scores.values)

    @property
    def costs(self) -> Float[np.ndarray, " names"]:
        """What each edge costs, in plain edges."""
        heads = self.layout.anatomy.n_layers * self.layout.anatomy.n_heads
        edges = np.tile(self.sizes, self.layout.n_edges)
        return np.concatenate([edges, np.tile(self.between.ravel(), heads)])

    def order(self, absolute: bool) -> Int[np.ndarray, " names"]:
        """Places of the names from strongest to weakest, without pairs that cannot carry."""
        strengths = np.abs(self.values) if absolute else self.values
        order = np.argsort(-strengths, kind="stable")
        return order[self.costs[order] > 0]

    def affordable(self, order: Int[np.ndarray, " names"], budget: float) -> int:
        """How many of the strongest cost no more together than the budget."""
        spent = np.cumsum(self.costs[order])
        return int(np.searchsorted(spent, budget * (1 + 1e-9), side="right"))

    def circuit(self, chosen: Int[np.ndarray, " some"]) -> PlacedEdges:
        """Some of the edges, without those that connect nothing."""
        circuit = PlacedEdges.none(self.layout, self.places)
        flat = np.zeros(len(self.values), dtype=bool)
        flat[chosen] = True
        circuit.kept[:] = flat[: circuit.kept.size].reshape(circuit.kept.shape)
        circuit.crossing[:] = flat[circuit.kept.size :].reshape(circuit.crossing.shape)
        return circuit.connected()

    def plain(self) -> Float[np.ndarray, " edges"]:
        """The plain edges' scores: the sums over places."""
        size = self.layout.n_edges * len(self.places)
        return self.values[:size].reshape(-1, len(self.places)).sum(1)


def plain_at_cost(
    layout: Layout, order: Int[np.ndarray, " edges"], budgets: Sequence[float]
) -> list[EdgeSet]:
    """The strongest plain edges that cost no more than each budget, and connect."""
    _, ports = layout.ends(order)
    receivers = layout.receivers[ports]
    heads = np.concatenate([np.r_[g.slice] for g in layout.senders if g.kind == "head"])
    first = np.zeros(len(order), dtype=bool)
    first[np.unique(receivers, return_index=True)[1]] = True
    spent = np.cumsum(1.0 + (first & np.isin(receivers, heads)))
    counts = np.searchsorted(spent, [budget * (1 + 1e-9) for budget in budgets], side="right")
    return [EdgeSet.numbered(layout, order[:count]).connected() for count in counts]
