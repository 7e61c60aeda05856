"""What a trace gives: a pruned attribution graph as a circuit, with scores of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table
from graphs.trace_notes import TraceNotes

if TYPE_CHECKING:
    import pandas as pd

    from graphs import CircuitGraph
    from patching.traces.influence import Adjacency

KIND = "circuits trace"
TITLES = ("node", "at", "share of influence", "activation")


@dataclass(frozen=True, repr=False)
class Trace(Reported):
    """The attribution graph of a prompt, or of the difference between two.

    circuit       the pruned graph: tokens, latents (``m3.f12@5``), error terms and logits, with
                  direct effects as scores of edges
    influence     of its nodes, by name: how much of what the logits are comes through them
    replacement   share of the influence that comes from tokens rather than errors
    completeness  share of what nodes read that is not from errors, weighted by influence
    pruned_replacement  the first with all that was pruned counted as error
    gap           the largest difference between a target and its effects and constant, summed
    active        latents that were active (of a pair, that differ)
    whole         all direct effects, before pruning
    """

    circuit: CircuitGraph
    influence: dict[str, float]
    replacement: float
    completeness: float
    pruned_replacement: float
    gap: float
    active: int
    paired: bool
    whole: Adjacency

    def __repr__(self) -> str:
        nodes, edges = len(self.circuit.nodes), len(self.circuit.edges)
        return f"Trace({nodes} nodes, {edges} edges, replacement {self.replacement:.2f})"

    @cached_property
    def notes(self) -> TraceNotes:
        """Tokens, activations and probabilities."""
        return TraceNotes.of(self.circuit.info)

    def to_frame(self) -> pd.DataFrame:
        """A row per node, the most influential first."""
        import pandas as pd

        notes = self.notes.nodes
        rows = [
            {"node": name, "influence": value, "activation": notes.get(name, {}).get("activation")}
            for name, value in self.ranked()
        ]
        return pd.DataFrame(rows, columns=["node", "influence", "activation"]).set_index("node")

    def ranked(self) -> list[tuple[str, float]]:
        """Nodes with their influence, the largest first."""
        return sorted(self.influence.items(), key=lambda pair: -pair[1])

    def report(self, top: int = 20) -> Report:
        """The logits, the scores, and the most influential latents and errors."""
        notes = self.notes
        logits = {
            notes.words.get(name, name): f"{values['probability']:.1%}"
            for name, values in notes.nodes.items()
            if "probability" in values
        }
        asked = ", ".join(f"{word!r} {share}" for word, share in logits.items())
        rows = {
            "prompt": repr(notes.prompt),
            "logits": asked,
            "latents": f"{self.active:,} {'differ' if self.paired else 'active'}",
            "graph": f"{len(self.circuit.nodes):,} nodes, {len(self.circuit.edges):,} edges",
            "replacement": f"{self.replacement:.3f} ({self.pruned_replacement:.3f} pruned)",
            "completeness": f"{self.completeness:.3f}",
            "sums miss by": f"{self.gap:.1e}",
        }
        named = [pair for pair in self.ranked() if not pair[0].startswith(("input@", "logit."))]
        best = [
            [
                name,
                repr(self.circuit.info.token(name.partition("@")[2])),
                f"{value:.3f}",
                f"{notes.nodes.get(name, {}).get('activation', 0):+.3f}",
            ]
            for name, value in named[:top]
        ]
        return Report.of(Rows(rows), Table(TITLES, best))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; the graph itself is the circuit's own JSON."""
        notes = self.notes
        return {
            "kind": KIND,
            "prompt": notes.prompt,
            "tokens": list(notes.tokens),
            "paired": self.paired,
            "model": self.circuit.info.model,
            "model_hash": self.circuit.info.model_hash,
            "dictionaries": self.circuit.info.options.get("dictionaries", []),
            "scores": {
                name: value if isfinite(value) else None
                for name in ("replacement", "completeness", "pruned_replacement")
                for value in (float(getattr(self, name)),)
            },
            "gap": self.gap,
            "active": self.active,
            "traced": len(self.whole.nodes),
            "nodes": [self._node(name, value) for name, value in self.ranked()],
        }

    def _node(self, name: str, influence: float) -> dict[str, Any]:
        known = self.notes.nodes.get(name, {})
        return {
            "name": name,
            "word": self.notes.words.get(name),
            "influence": influence,
            "reached": known.get("influence"),
            "activation": known.get("activation"),
            "probability": known.get("probability"),
        }
