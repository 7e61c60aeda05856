"""The components that carry a label: chosen by budget, kept as a circuit of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.studies.emotion.budget import share_out
from graphs import CircuitGraph, CircuitInfo, ScoredNode, Selection
from patching.anatomy import Anatomy
from patching.sites import Site, head
from tasks.errors import MethodError

if TYPE_CHECKING:
    from circuits.studies.emotion.parts import Parts
    from circuits.studies.emotion.prompts import Concept
    from patching.model import Model


@dataclass(frozen=True, slots=True)
class Budget:
    """How many neurons and heads a circuit has, and the least of each in every layer."""

    neurons: int
    heads: int
    neuron_floor: int
    head_floor: int

    @classmethod
    def of(
        cls,
        anatomy: Anatomy,
        neurons: int | None = None,
        heads: int | None = None,
        neuron_floor: int | None = None,
        head_floor: int | None = None,
    ) -> Budget:
        """By default 14 neurons a layer and a quarter of the heads, as in arXiv 2510.11328.

        Floors not given are 4 neurons and 1 head, or less where the budget does not allow it.
        """
        layers = anatomy.n_layers
        neurons = min(14, anatomy.d_mlp) * layers if neurons is None else neurons
        heads = max(layers * anatomy.n_heads // 4, 1) if heads is None else heads
        if neuron_floor is None:
            neuron_floor = min(4, max(neurons, 0) // layers)
        if head_floor is None:
            head_floor = min(1, max(heads, 0) // layers)
        return cls(neurons, heads, neuron_floor, head_floor)

    def faults(self, anatomy: Anatomy) -> list[str]:
        """Why it cannot be shared out, known before anything is run; see :func:`share_out`."""
        if self.neurons == self.heads == 0:
            return ["a circuit of no neurons and no heads drives nothing; give some of either"]
        kinds = {
            "neurons": (self.neurons, self.neuron_floor, anatomy.d_mlp),
            "heads": (self.heads, self.head_floor, anatomy.n_heads),
        }
        listed = []
        for kind, (total, floor, most) in kinds.items():
            try:
                share_out([1.0] * anatomy.n_layers, total, floor=floor, most=most)
            except MethodError as fault:
                listed.append(f"{kind}: {fault}")
        return listed

    def shares(
        self, anatomy: Anatomy, influence: Float[np.ndarray, " points"]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Neurons and heads of every layer, by the influence of its MLP and its attention."""
        mlp, attention = influence[1::2].tolist(), influence[::2].tolist()
        return (
            share_out(mlp, self.neurons, floor=self.neuron_floor, most=anatomy.d_mlp),
            share_out(attention, self.heads, floor=self.head_floor, most=anatomy.n_heads),
        )


@dataclass(frozen=True, slots=True)
class Components:
    """Neurons and heads by number, layer by layer."""

    neurons: tuple[tuple[int, ...], ...]
    heads: tuple[tuple[int, ...], ...]

    @classmethod
    def strongest(
        cls,
        parts: Parts,
        label: int,
        shares: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> Components:
        """Of every layer as many as its share, in order of their scores."""
        pairs = ((parts.neurons[label], shares[0]), (parts.heads[label], shares[1]))
        neurons, heads = (
            tuple(
                tuple(np.argsort(-row, kind="stable")[:count].tolist())
                for row, count in zip(scores, counts, strict=True)
            )
            for scores, counts in pairs
        )
        return cls(neurons, heads)

    def random_others(self, anatomy: Anatomy, seed: int | Sequence[int]) -> Components:
        """As many of every layer, none of these as far as there are others."""
        rng = np.random.default_rng(seed)

        def draw(chosen: tuple[int, ...], size: int) -> tuple[int, ...]:
            others = [unit for unit in range(size) if unit not in chosen]
            pool = others if len(others) >= len(chosen) else list(range(size))
            return tuple(rng.choice(pool, len(chosen), replace=False).tolist())

        return Components(
            tuple(draw(chosen, anatomy.d_mlp) for chosen in self.neurons),
            tuple(draw(chosen, anatomy.n_heads) for chosen in self.heads),
        )

    def nodes(self, parts: Parts, label: int) -> list[ScoredNode]:
        """Every component with its score and the score's standard error."""
        kinds = (
            (self.neurons, parts.neurons, parts.neuron_errors),
            (self.heads, parts.heads, parts.head_errors),
        )
        return [
            ScoredNode(
                Site("neuron", layer, unit) if kind == 0 else head(layer, unit),
                float(scores[label, layer, unit]),
                float(errors[label, layer, unit]),
            )
            for kind, (chosen, scores, errors) in enumerate(kinds)
            for layer, units in enumerate(chosen)
            for unit in units
        ]


def as_graph(
    nodes: list[ScoredNode], anatomy: Anatomy, considered: int, **info: Any
) -> CircuitGraph:
    """A circuit of scored nodes; no edge between them was measured, so it has none."""
    selection = Selection(
        rule="integer budget",
        absolute=False,
        requested=len(nodes),
        considered=considered,
        chosen=len(nodes),
        kept=len(nodes),
    )
    about = CircuitInfo(
        anatomy=anatomy,
        level="node",
        method="write along the label's direction",
        metric="projection on the label's direction at the component's own layer",
        selection=selection,
        **info,
    )
    return CircuitGraph(about, nodes=nodes)


def merged(nodes: list[list[ScoredNode]]) -> list[ScoredNode]:
    """The components of all labels; one of several labels keeps its largest score."""
    best: dict[str, ScoredNode] = {}
    for node in (node for part in nodes for node in part):
        known = best.get(node.name)
        if known is None or (node.score or 0.0) > (known.score or 0.0):
            best[node.name] = node
    return list(best.values())


def circuits_of(
    model: Model,
    concept: Concept,
    parts: Parts,
    chosen: tuple[Components, ...],
    prompts: int,
    seed: int,
    name: str,
) -> tuple[CircuitGraph, dict[str, CircuitGraph]]:
    """The circuit of all labels together, and of each."""
    a = model.anatomy
    considered = a.n_layers * (a.n_heads + a.d_mlp)
    about: dict[str, Any] = {"task": concept.name, "prompts": prompts, "seed": seed}
    about |= {"model": name, "model_hash": model.hash}
    nodes = [components.nodes(parts, e) for e, components in enumerate(chosen)]
    graphs = {
        label: as_graph(part, a, considered, options={"label": label}, **about)
        for label, part in zip(concept.labels, nodes, strict=True)
    }
    labels = {"labels": list(concept.labels)}
    return as_graph(merged(nodes), a, considered, options=labels, **about), graphs
