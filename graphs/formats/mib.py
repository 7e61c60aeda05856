"""The JSON of EAP-IG and of the MIB benchmark's circuit track."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphs.circuit import CircuitGraph
from graphs.files import read_json, write_json
from graphs.info import UNSTATED, CircuitInfo, Selection
from graphs.order import read_node
from graphs.parts import ScoredEdge, ScoredNode
from graphs.schema import (
    FORMAT,
    SCHEMA_VERSION,
    InfoPart,
    check_version,
    info_document,
    read_info,
    where,
)
from patching.anatomy import Anatomy
from patching.nodes.edges import edges as all_edges
from patching.nodes.layout import layout_of
from patching.nodes.layout import nodes as all_nodes
from patching.scores import Scores
from patching.sites import parse_edge
from tasks.errors import FormatError, SiteError, all_faults
from tasks.limits import MAX_EDGES, MAX_HEADS

_OURS = "circuit"


class _Part(BaseModel):
    # Their files are read as they come: fields we do not use are ignored.
    model_config = ConfigDict(strict=True, extra="ignore")


class _Config(_Part):
    n_layers: int = Field(ge=1, le=1_000_000)
    n_heads: int = Field(ge=1, le=1_000_000)
    d_model: int = Field(ge=1, le=1_000_000)
    parallel_attn_mlp: bool = False


class _Node(_Part):
    in_graph: bool
    score: float | None = None
    neurons: list[Any] | None = None


class _Edge(_Part):
    score: float = Field(allow_inf_nan=False)
    in_graph: bool


class _Ours(_Part):
    schema_version: str
    graph: InfoPart
    standard_errors: dict[str, float] = {}


class _File(_Part):
    cfg: _Config
    nodes: dict[str, _Node]
    edges: dict[str, _Edge]
    circuit: _Ours | None = None


def to_mib(graph: CircuitGraph, scores: Scores | None = None) -> str:
    """Every edge of the model with its score and whether it is in the circuit.

    Edges outside the circuit get the score they have in ``scores``, and 0 without ``scores``: the
    benchmark ranks edges by these numbers, so give it the scores. Of a node circuit, the edges
    between its nodes are marked and score 0. Our metadata goes into an extra key that other
    readers ignore. Loses nothing.

    Raises:
        FormatError: the circuit has positions or neurons, which the format cannot say, or the
            model has more edges than can be listed.
    """
    info, anatomy = graph.info, graph.info.anatomy
    if (size := layout_of(anatomy).n_edges) > MAX_EDGES:
        raise FormatError(
            f"MIB files list every edge of the model, here {size:,}; at most {MAX_EDGES:,} "
            f"are written: save the circuit as .json"
        )
    plain = {site.name for site in all_nodes(anatomy)}
    if odd := [name for name in graph.nodes if name not in plain]:
        raise FormatError(f"MIB files have whole heads and MLPs only; this circuit has {odd[0]}")
    known = {} if scores is None else dict(zip(scores.names, scores.values, strict=True))
    inside = set(graph.nodes)
    nodes: dict[str, Any] = {name: {"in_graph": name in inside} for name in sorted(plain)}
    for node in graph.scored_nodes:
        if node.score is not None:
            nodes[node.name]["score"] = node.score
    edges = {}
    for edge in all_edges(anatomy):
        score = graph[edge.name] if edge.name in graph else float(known.get(edge.name, 0.0))
        ends = edge.sender.name in inside and edge.receiver.name in inside
        chosen = edge.name in graph or (graph.level == "node" and ends)
        edges[edge.name] = {"score": score, "in_graph": chosen}
    parts: tuple[ScoredEdge | ScoredNode, ...] = (*graph.scored_edges, *graph.scored_nodes)
    spreads = {p.name: p.standard_error for p in parts if p.standard_error is not None}
    ours = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "graph": info_document(info),
        "standard_errors": spreads,
    }
    cfg = {
        "n_layers": anatomy.n_layers,
        "n_heads": anatomy.n_heads,
        "d_model": anatomy.d_model,
        "parallel_attn_mlp": anatomy.parallel,
    }
    return write_json({"cfg": cfg, "nodes": nodes, "edges": edges, _OURS: ours})


def is_mib(document: Any) -> bool:
    """Whether parsed JSON looks like one of these files."""
    return isinstance(document, dict) and {"cfg", "nodes", "edges"} <= set(document)


def from_mib(data: bytes, source: str = "this file") -> CircuitGraph:
    """The edges marked ``in_graph``, with their scores; signs are taken as they are.

    A file with scores of nodes and none of edges is a node circuit. What their files do not say
    is empty; of the model, the family and the number of key/value heads, the width of heads and
    the number of neurons are unknown. Heads are query heads, named one by one.

    Raises:
        FormatError: listing everything that is wrong with the file.
    """
    return from_document(read_json(data, source, allow_nan=True), source)


def from_document(document: Any, source: str = "this file") -> CircuitGraph:
    """The same from plain JSON values."""
    file = _read(document, source)
    info = _info(file, source)
    faults: list[str] = []
    nodes = _nodes(file, info, faults)
    edges = _edges(file, info.anatomy, faults)
    if faults:
        raise FormatError(all_faults(f"{source} is not a circuit:", faults))
    try:
        return CircuitGraph(info, () if info.level == "node" else edges, nodes)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None


def scores_from_mib(data: bytes, source: str = "this file") -> Scores:
    """The scores of all edges in the file, in or out of the circuit, as one prompt's.

    Of a file of theirs, give circuits made of them ``with_info(unknown=graphs.info.UNSTATED)``:
    scores have no place for what the file does not state of the model.

    Raises:
        FormatError: listing everything that is wrong with the file.
    """
    file = _read(read_json(data, source, allow_nan=True), source)
    info = _info(file, source)
    faults: list[str] = []
    _edges(file, info.anatomy, faults)
    if faults:
        raise FormatError(all_faults(f"{source} does not hold scores:", faults))
    return Scores(
        names=tuple(file.edges),
        totals=np.array([edge.score for edge in file.edges.values()], dtype=np.float64),
        count=1,
        level="edge",
        method=info.method,
        direction=info.direction,
        metric=info.metric,
        anatomy=info.anatomy,
        task=info.task,
        model_hash=info.model_hash,
    )


def _read(document: Any, source: str) -> _File:
    """The file; their nodes without a score are written as NaN, which edges may not be."""
    if not is_mib(document):
        raise FormatError(f"{source} is not a MIB file: it needs the keys cfg, nodes and edges")
    if _OURS in document:
        check_version(document[_OURS], source)
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        faults = [f"{where(problem['loc'])}: {problem['msg'].lower()}" for problem in problems]
        raise FormatError(all_faults(f"{source} is not a MIB file:", faults)) from None
    if fine := [name for name, node in file.nodes.items() if node.neurons is not None]:
        raise FormatError(
            f"{source} chooses among the neurons of {fine[0]}, which are coordinates of the "
            f"residual stream and no nodes here; export it with heads and MLPs only"
        )
    return file


def _info(file: _File, source: str) -> CircuitInfo:
    if file.circuit is not None:
        return read_info(file.circuit.graph)
    cfg = file.cfg
    if cfg.n_layers * cfg.n_heads > MAX_HEADS:
        raise FormatError(
            f"{source} claims a model of {cfg.n_layers * cfg.n_heads:,} heads; at most "
            f"{MAX_HEADS:,} are read"
        )
    anatomy = Anatomy(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_kv_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_head=max(cfg.d_model // cfg.n_heads, 1),
        d_mlp=4 * cfg.d_model,
        parallel=cfg.parallel_attn_mlp,
    )
    scored_edges = any(edge.score for edge in file.edges.values())
    scored_nodes = any(_finite(node.score) is not None for node in file.nodes.values())
    level = "node" if scored_nodes and not scored_edges else "edge"
    parts: Mapping[str, _Node | _Edge] = file.nodes if level == "node" else file.edges
    kept = sum(part.in_graph for part in parts.values())
    chosen = Selection("as given", considered=len(parts), chosen=kept, kept=kept)
    return CircuitInfo(anatomy, level=level, selection=chosen, unknown=UNSTATED)


def _nodes(file: _File, info: CircuitInfo, faults: list[str]) -> list[ScoredNode]:
    spreads = file.circuit.standard_errors if file.circuit else {}
    nodes = []
    for name, node in file.nodes.items():
        try:
            site = read_node(name, info.anatomy)
        except SiteError as error:
            faults.append(str(error))
            continue
        if node.in_graph:
            nodes.append(ScoredNode(site, _finite(node.score), spreads.get(name)))
    return nodes


def _edges(file: _File, anatomy: Anatomy, faults: list[str]) -> list[ScoredEdge]:
    spreads = file.circuit.standard_errors if file.circuit else {}
    edges = []
    for name, edge in file.edges.items():
        try:
            parsed = parse_edge(name, anatomy)
        except SiteError as error:
            faults.append(str(error))
            continue
        if edge.in_graph:
            edges.append(ScoredEdge(parsed, edge.score, spreads.get(name)))
    return edges


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
