"""The attribution-graph JSON that Neuronpedia's viewer opens."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from typing import Any

from graphs import style
from graphs.circuit import CircuitGraph
from graphs.files import write_json
from graphs.order import layer_of
from graphs.parts import ScoredNode
from graphs.trace_notes import TraceNotes
from patching.anatomy import Anatomy

_TYPES = {"head": "attention head", "mlp": "mlp", "neuron": "mlp neuron", "input": "embedding"}
_TYPES |= {"latent": "cross layer transcoder", "error": "mlp reconstruction error"}
Position = int | str | None


def to_neuronpedia(graph: CircuitGraph) -> str:
    """JSON in the viewer's schema 1.0.0, with one column for each position of the circuit.

    The viewer's graphs are of one prompt and ours of many, so columns are not tokens but the
    positions the circuit names; parts without a position stand in the column "all positions".
    Loses: ports (the viewer keeps one link between two nodes, so the scores of q, k and v are
    summed), standard errors, notes on supernodes, and nothing is said of a logit's probability.
    There is no reading back. Attribution graphs are of one prompt: columns are its tokens, and
    nodes have their activations, influence and probabilities.
    """
    anatomy, columns, trace = graph.info.anatomy, _columns(graph), TraceNotes.of(graph.info)
    nodes = [
        _node(node, columns.index(node.site.position), anatomy, trace)
        for node in graph.scored_nodes
    ]
    ids = {node.name: made["node_id"] for node, made in zip(graph.scored_nodes, nodes, strict=True)}
    weights: dict[tuple[str, str], float] = {}
    for item in graph.scored_edges:
        ends = ids[item.edge.sender.name], ids[item.edge.receiver.name]
        weights[ends] = weights.get(ends, 0.0) + item.score
    links = [{"source": a, "target": b, "weight": weight} for (a, b), weight in weights.items()]
    marks = graph.info.view
    view = {
        "pinnedIds": [ids[name] for name in marks.pinned],
        # The viewer's supernodes are a label and its members; a note has no place there.
        "supernodes": [[g.name, *(ids[name] for name in g.members)] for g in marks.groups],
        "linkType": "both",
        "clickedId": "",
        "sg_pos": "",
    }
    return write_json(
        {"metadata": _metadata(graph, columns), "qParams": view, "nodes": nodes, "links": links}
    )


def _metadata(graph: CircuitGraph, columns: list[Position]) -> dict[str, Any]:
    info, trace = graph.info, TraceNotes.of(graph.info)
    title, *lines = style.caption(info)
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "circuit"
    settings = {"method": info.method, "direction": info.direction, "metric": info.metric}
    return {
        "slug": f"{slug}-{graph.digest[:8]}",
        "scan": info.model or "unknown",
        "prompt": trace.prompt or title,
        "prompt_tokens": list(trace.tokens) or _tokens(graph, columns),
        **({"node_threshold": trace.node_share} if trace.tokens else {}),
        "info": {"description": "; ".join(lines), "generator": {"name": "circuits"}},
        "generation_settings": {**settings, "prompts": info.prompts, "options": info.options},
        "pruning_settings": asdict(info.selection),
    }


def _columns(graph: CircuitGraph) -> list[Position]:
    """The positions of the circuit in order of their first node; of a trace, all its tokens."""
    if tokens := TraceNotes.of(graph.info).tokens:
        return [*range(len(tokens))]
    return list(dict.fromkeys(node.site.position for node in graph.scored_nodes))


def _tokens(graph: CircuitGraph, columns: list[Position]) -> list[str]:
    """A label for each column, then blanks.

    The viewer hides what is found in more than two thirds of the columns, so there are at least
    twice as many as any part has positions.
    """
    labels = ["all positions" if where is None else str(where) for where in columns]
    parts = Counter(node.site.at(None).name for node in graph.scored_nodes)
    least = 2 * max(parts.values(), default=1)
    return labels + [""] * max(least - len(labels), 0)


def _number(node: ScoredNode, anatomy: Anatomy) -> int:
    """The viewer's feature number: heads count from 0, then the MLP, then its neurons.

    Latents and logits have their own numbers, error terms -1, as circuit-tracer's do since ids of
    errors and of latents have been made to differ.
    """
    site = node.site
    if site.kind in ("latent", "error", "logit"):
        return site.unit
    if site.kind == "neuron":
        return anatomy.n_heads + 1 + site.unit
    return {"head": site.unit, "mlp": anatomy.n_heads}.get(site.kind, 0)


def _node(node: ScoredNode, column: int, anatomy: Anatomy, trace: TraceNotes) -> dict[str, Any]:
    kind, number = node.site.kind, _number(node, anatomy)
    layer = "E" if kind == "input" else str(layer_of(node.site, anatomy) + (kind == "logit"))
    if kind == "input" and trace.tokens:
        number = column
    made: dict[str, Any] = {
        "node_id": f"{layer}_{number}_{column}",
        "jsNodeId": f"{layer}_{number}-{column}",
        # Its pages of features are found by one number made of layer and latent (Cantor's).
        "feature": _paired(node.site.layer, number) if kind == "latent" else number,
        "layer": layer,
        "ctx_idx": column,
        "feature_type": _TYPES.get(kind, "logit"),
        # The viewer cuts a logit's label at "(p=" and fails where there is none.
        "clerp": f"{node.name} (p=unknown)" if kind == "logits" else node.name,
    }
    if kind in ("logit", "logits"):
        made["is_target_logit"] = True
    if node.score is not None:
        made["activation"] = node.score
    return made | trace.of_node(node.name, kind)


def _paired(layer: int, number: int) -> int:
    return (layer + number) * (layer + number + 1) // 2 + number
