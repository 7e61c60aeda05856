"""What a circuit that is an attribution graph says of its prompt: tokens, activations, influence.

It stands among the options of the circuit's metadata, as ``trace``. What is missing or of another
type counts as unknown: files come from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from graphs.info import CircuitInfo

FIELD = "trace"


@dataclass(frozen=True, slots=True)
class TraceNotes:
    """Notes on an attribution graph.

    nodes       by name: activation, influence (the share that nodes at least as strong have
                together), of logits probability
    words       by name: what a token or logit is
    node_share  the share of the influence that was kept
    """

    prompt: str = ""
    tokens: tuple[str, ...] = ()
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    node_share: float = 1.0

    @classmethod
    def of(cls, info: CircuitInfo) -> TraceNotes:
        """The notes of a circuit; empty ones where it is no attribution graph."""
        given = info.options.get(FIELD)
        if not isinstance(given, dict):
            return cls()
        tokens = given.get("tokens")
        tokens = tokens if isinstance(tokens, list) else []
        if not all(isinstance(token, str) for token in tokens):
            tokens = []
        share = given.get("node_share")
        return cls(
            prompt=_text(given.get("prompt")),
            tokens=tuple(tokens),
            nodes={k: _numbers(v) for k, v in _dict(given.get("nodes")).items()},
            words={k: _text(v) for k, v in _dict(given.get("words")).items()},
            node_share=share if isinstance(share, float) and isfinite(share) else 1.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as :meth:`of` reads them."""
        return {
            "prompt": self.prompt,
            "tokens": list(self.tokens),
            "nodes": {name: dict(values) for name, values in self.nodes.items()},
            "words": dict(self.words),
            "node_share": self.node_share,
        }

    def of_node(self, name: str, kind: str) -> dict[str, Any]:
        """What Neuronpedia's viewer shows of a node."""
        known, word = self.nodes.get(name, {}), self.words.get(name, "")
        made: dict[str, Any] = {
            key: known[key] for key in ("activation", "influence") if key in known
        }
        if "probability" in known:
            made["token_prob"] = known["probability"]
            made["clerp"] = f'Output "{word}" (p={known["probability"]:.3f})'
        elif kind == "logit":
            made["clerp"] = f"{word or name} (p=unknown)"
        elif kind == "input" and word:
            made["clerp"] = f'Emb: "{word}"'
        return made


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _numbers(value: Any) -> dict[str, float]:
    found = {k: v for k, v in _dict(value).items() if isinstance(v, int | float)}
    return {k: float(v) for k, v in found.items() if abs(v) < 1e300}
