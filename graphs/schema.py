"""The circuit file, version 1: node-link JSON that networkx also opens, checked at the border.

``networkx.node_link_graph(json.load(file), edges="edges")`` gives the same multigraph as
:meth:`graphs.CircuitGraph.to_networkx`, apart from the attribute ``port``, which is the edge key.
A reader of version 1.x takes every 1.y file and ignores fields it does not know when ``y`` is
larger; another major version is refused.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from graphs.circuit import CircuitGraph
from graphs.files import read_json, write_json
from graphs.info import CircuitInfo, Metrics, Selection
from graphs.order import read_node
from graphs.parts import ScoredEdge, ScoredNode, part_faults
from graphs.view import ViewPart
from patching.anatomy import Anatomy
from patching.scores import SIGN
from patching.sites import Edge, Site
from tasks.errors import CircuitsError, FormatError, SiteError, all_faults

FORMAT = "circuit"
MAJOR, MINOR = 1, 3
SCHEMA_VERSION = f"{MAJOR}.{MINOR}"

Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Units = Annotated[int, Field(ge=0, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]


Kind = Literal["input", "head", "mlp", "neuron", "latent", "error", "logit", "logits"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AnatomyPart(_Part):
    """The shape of the model."""

    n_layers: Size = Field(description="Layers.")
    n_heads: Size = Field(description="Attention heads of a layer.")
    n_kv_heads: Size = Field(description="Key and value heads of a layer.")
    d_model: Size = Field(description="Width of the residual stream.")
    d_head: Size = Field(description="Width of a head.")
    d_mlp: Units = Field(description="Neurons of an MLP; 0 where MLPs are mixtures of experts.")
    parallel: bool = Field(default=False, description="The MLP reads the same stream as attention.")
    family: str = Field(default="", description="The architecture, such as gpt2.")
    n_experts: Units = Field(default=0, description="Experts that a layer's router chooses among.")
    shared_expert: bool = Field(default=False, description="One more expert answers every token.")
    dense_layers: list[Units] = Field(
        default=[], description="Layers with an ordinary MLP beside mixtures of experts."
    )


class SelectionPart(_Part):
    """How edges (or nodes) were chosen."""

    rule: str = Field(
        default="all", description="top, top-fill, threshold, greedy, union, ... or all."
    )
    absolute: bool = Field(default=True, description="Whether the sign of scores was ignored.")
    requested: Count | None = Field(default=None, description="How many were asked for.")
    threshold: Number | None = Field(default=None, description="The smallest score asked for.")
    considered: Count = Field(default=0, description="How many had a score.")
    chosen: Count = Field(default=0, description="How many met the rule.")
    kept: Count = Field(default=0, description="How many are left that connect input to logits.")


class MetricsPart(_Part):
    """Mean metric over the prompts; null where not measured."""

    full: Number | None = Field(default=None, description="Of the clean run.")
    empty: Number | None = Field(default=None, description="With everything ablated.")
    circuit: Number | None = Field(default=None, description="With everything outside ablated.")
    faithfulness: Number | None = Field(
        default=None, description="(circuit - empty) / (full - empty)."
    )
    ablation: str = Field(default="", description="What activations outside are replaced by.")


class InfoPart(_Part):
    """Where the circuit comes from."""

    anatomy: AnatomyPart
    level: Literal["edge", "node"] = Field(
        default="edge", description="What was scored and chosen."
    )
    task: str = Field(default="", description="The task.")
    method: str = Field(default="", description="The method of scoring.")
    metric: str = Field(default="", description="Name of the metric.")
    direction: Literal["noising", "denoising"] = Field(
        default="noising", description="Which of the two runs was patched."
    )
    sign: str = Field(default=SIGN, description="What a positive score means.")
    prompts: Count = Field(default=0, description="Number of prompt pairs.")
    seed: int | None = Field(default=None, description="What drew the prompts.")
    model: str = Field(default="", description="Name or identifier of the model.")
    model_hash: str = Field(default="", description="SHA-256 of its configuration and weights.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="The method's options.")
    selection: SelectionPart = SelectionPart()
    metrics: MetricsPart = MetricsPart()
    unknown: list[Literal["n_kv_heads", "d_head", "d_mlp"]] = Field(
        default_factory=list, description="Numbers of the anatomy that nobody stated: guesses."
    )
    view: ViewPart = ViewPart()


class NodePart(_Part):
    """One node of the circuit."""

    id: str = Field(
        description="input, a3.h5, m3, m3.n17, m3.f17, m3.err, logit.t9 or logits, with @position."
    )
    kind: Kind | None = Field(default=None, description="What the id names.")
    layer: int | None = Field(
        default=None, description="-1 for the input, n_layers for the logits."
    )
    unit: int | None = Field(
        default=None, description="Head, neuron, latent or token number, else -1."
    )
    score: Number | None = Field(default=None, description="In units of the metric.")
    standard_error: Number | None = Field(default=None, ge=0, description="Over prompts.")


class EdgePart(_Part):
    """One edge of the circuit."""

    source: str = Field(description="The sender's id.")
    target: str = Field(description="The receiver's id.")
    key: Literal["", "q", "k", "v"] = Field(default="", description="The receiver's port.")
    score: Number = Field(description="In units of the metric.")
    standard_error: Number | None = Field(default=None, ge=0, description="Over prompts.")


class CircuitFile(_Part):
    """A circuit: nodes and scored edges of a model, in order of computation."""

    format: Literal["circuit"]
    schema_version: str = Field(
        pattern=r"^\d+\.\d+$", description="Major and minor version of the file."
    )
    directed: Literal[True] = True
    multigraph: Literal[True] = True
    graph: InfoPart
    nodes: list[NodePart] = Field(description="In order of computation.")
    edges: list[EdgePart] = Field(description="In order of computation.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of circuit files."""
    schema = CircuitFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def to_json(graph: CircuitGraph) -> str:
    """The circuit as a file of version 1: the same circuit always gives the same text.

    Loses nothing.
    """
    return write_json(to_document(graph))


def to_document(graph: CircuitGraph) -> dict[str, Any]:
    """The circuit as plain JSON values, in the shape of :class:`CircuitFile`."""
    nodes = [{"id": n.name, **n.attributes(graph.info.anatomy)} for n in graph.scored_nodes]
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "directed": True,
        "multigraph": True,
        "graph": info_document(graph.info),
        "nodes": nodes,
        "edges": [_edge_document(item) for item in graph.scored_edges],
    }


def info_document(info: CircuitInfo) -> dict[str, Any]:
    """The metadata as plain JSON values, in the shape of :class:`InfoPart`."""
    values = {**asdict(info), "anatomy": info.anatomy.to_json(), "unknown": list(info.unknown)}
    return values | {"view": info.view.to_json(), "sign": SIGN}


def _edge_document(item: ScoredEdge) -> dict[str, Any]:
    attributes = item.attributes()
    key = attributes.pop("port")
    ends = {"source": item.edge.sender.name, "target": item.edge.receiver.name}
    return {**ends, "key": key, **attributes}


def from_json(data: bytes, source: str = "this file") -> CircuitGraph:
    """Read a circuit file.

    Raises:
        FormatError: listing everything that is wrong with the file.
    """
    return from_document(read_json(data, source), source)


def from_document(document: Any, source: str = "this file") -> CircuitGraph:
    """Read plain JSON values in the shape of :class:`CircuitFile`.

    Raises:
        FormatError: listing everything that is wrong with them.
    """
    check_version(document, source)
    file = _validated(document, source)
    try:
        info = read_info(file.graph)
    except CircuitsError as error:
        raise FormatError(f"{source} is not a circuit: {error}") from None
    faults: list[str] = []
    nodes = _nodes(file.nodes, info.anatomy, faults)
    edges = _edges(file.edges, {node.name: node.site for node in nodes}, faults)
    if faults:
        faults += part_faults(info.anatomy, edges, nodes)
        raise FormatError(all_faults(f"{source} is not a circuit:", faults))
    try:
        return CircuitGraph(info, edges, nodes)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None


def read_info(part: InfoPart) -> CircuitInfo:
    """The metadata of a file.

    Raises:
        FormatError: numbers that do not fit together.
    """
    values = part.model_dump(exclude={"sign", "anatomy", "selection", "metrics", "view"})
    return CircuitInfo(
        anatomy=Anatomy.from_json(part.anatomy.model_dump()),
        selection=Selection(**part.selection.model_dump()),
        metrics=Metrics(**part.metrics.model_dump()),
        view=part.view.view(),
        **values,
    )


def check_version(document: Any, source: str) -> None:
    """Refuse what is not marked as a circuit, or is of a major version this program cannot read.

    Raises:
        FormatError: see above.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FormatError(
            f'{source} is not a circuit file: it needs an object with "format": "{FORMAT}"'
        )
    version = document.get("schema_version")
    found = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    if not found or int(found[1]) != MAJOR:
        raise FormatError(
            f"{source} has schema version {version!r}; this program reads {MAJOR}.x; "
            f"use the version of circuits that wrote it"
        )


def _validated(document: dict[str, Any], source: str) -> CircuitFile:
    try:
        return CircuitFile.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    newer = int(document["schema_version"].partition(".")[2]) > MINOR
    if newer and all(problem["type"] == "extra_forbidden" for problem in problems):
        return _validated(_without(document, {problem["loc"] for problem in problems}), source)
    faults = [f"{where(problem['loc'])}: {problem['msg'].lower()}" for problem in problems]
    raise FormatError(all_faults(f"{source} is not a circuit:", faults))


def _without(
    value: Any, paths: set[tuple[int | str, ...]], here: tuple[int | str, ...] = ()
) -> Any:
    """A copy of nested values without what is found at ``paths``."""
    if isinstance(value, dict):
        inner = {name: (*here, name) for name in value}
        return {n: _without(value[n], paths, p) for n, p in inner.items() if p not in paths}
    if isinstance(value, list):
        return [_without(item, paths, (*here, index)) for index, item in enumerate(value)]
    return value


def where(path: tuple[int | str, ...]) -> str:
    """The place of a fault in a file, such as ``edges[3].score``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the file"


def _nodes(parts: list[NodePart], anatomy: Anatomy, faults: list[str]) -> list[ScoredNode]:
    found = []
    for index, part in enumerate(parts):
        try:
            site = read_node(part.id, anatomy)
        except SiteError as error:
            faults.append(f"nodes[{index}]: {error}")
            continue
        node = ScoredNode(site, part.score, part.standard_error)
        for field, true in node.attributes(anatomy).items():
            told = getattr(part, field)
            if told is not None and told != true:
                faults.append(f"nodes[{index}]: '{part.id}' has {field} {true!r}, not {told!r}")
        found.append(node)
    return found


def _edges(parts: list[EdgePart], sites: dict[str, Site], faults: list[str]) -> list[ScoredEdge]:
    found = []
    for index, part in enumerate(parts):
        missing = [name for name in (part.source, part.target) if name not in sites]
        faults += [f"edges[{index}]: there is no node '{name}'" for name in missing]
        if not missing:
            edge = Edge(sites[part.source], sites[part.target], part.key or None)
            found.append(ScoredEdge(edge, part.score, part.standard_error))
    return found
