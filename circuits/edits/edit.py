"""Edits: small named values that say what is changed in a model. No torch here.

>>> from circuits.edits.edit import add, keep, project, scale, steer, swap_attention
>>> edits = [
...     add("m3.n17", {" A": -1.0}),  # to the vector that neuron 17 writes
...     project("m3.n17", {" A": 1, " B": -1}),  # take a direction out of it
...     scale("a2.h1", 0.5),  # a head, a neuron; 0 removes it
...     swap_attention("a2.h1", "option_A", "gold"),
...     steer("resid_post.2", {" A": -1.0}, strength=2),
...     circuits.latent_edit("resid_post.1.f12", "runs/sae", factor=0),  # a dictionary's latent
...     keep(graph),  # a circuit alone; also remove, scale
... ]

Edits of heads and neurons without a position change weights and can be saved with the model
(:mod:`circuits.edits.save_model`); all others change activations for as long as they are in force
(:func:`circuits.edits.live.editing`). A direction is a weighted sum of tokens' unembedding
directions in the basis of the plan, or a vector of the place's own width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import EditError, all_faults

if TYPE_CHECKING:
    from graphs import CircuitGraph

Position = int | str
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Many:
    """Stands for a list that is too long to be shown."""

    count: int

    def __repr__(self) -> str:
        return f"<{self.count} values>"


class Part(BaseModel):
    """Immutable, and strict about names: a misspelt field is a fault, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields; of long lists only how long they are."""
        for name, value in super().__repr_args__():
            long = isinstance(value, tuple) and len(value) > SHOWN
            yield name, Many(len(value)) if long else value


class Direction(Part):
    """Tokens with their weights (``" A"`` by text, ``"#32"`` by id), or a vector; not both."""

    tokens: dict[str, float] | None = None
    vector: tuple[float, ...] | None = None


class Add(Part):
    """Add ``strength * direction`` to the value vector of a neuron (Li & Gao, equation 8)."""

    kind: Literal["add"] = "add"
    site: str = Field(description="a neuron, such as m3.n17")
    direction: Direction
    strength: float = 1.0


class Project(Part):
    """Take ``strength`` times the component along a direction out of a neuron's value vector."""

    kind: Literal["project"] = "project"
    site: str = Field(description="a neuron, such as m3.n17")
    direction: Direction
    strength: float = 1.0


class Scale(Part):
    """Multiply what a head or a neuron writes; any other site, or one with a position, live."""

    kind: Literal["scale"] = "scale"
    site: str
    factor: float


class RankOne(Part):
    """Add ``strength * keys (x) direction`` to an MLP's output matrix (ROME, arXiv 2202.05262).

    ``keys`` has one number per neuron: how much each neuron's value vector moves.
    """

    kind: Literal["rank_one"] = "rank_one"
    site: str = Field(description="an MLP, such as m3")
    keys: tuple[float, ...]
    direction: Direction
    strength: float = 1.0


class SwapAttention(Part):
    """Swap two entries of a head's pattern, seen from the last position (equation 9)."""

    kind: Literal["swap_attention"] = "swap_attention"
    site: str = Field(description="a head, such as a2.h1")
    first: Position
    second: Position


class Steer(Part):
    """Add ``strength * direction`` to an activation."""

    kind: Literal["steer"] = "steer"
    site: str
    direction: Direction
    strength: float = 1.0


class Clamp(Part):
    """Keep an activation's component along a direction (made a unit vector) within bounds."""

    kind: Literal["clamp"] = "clamp"
    site: str
    direction: Direction
    low: float | None = None
    high: float | None = None


class Affine(Part):
    """Replace an activation ``x`` by ``matrix x + offset``; without a matrix, ``x + offset``."""

    kind: Literal["affine"] = "affine"
    site: str
    matrix: tuple[tuple[float, ...], ...] | None = None
    offset: tuple[float, ...] | None = None


class Latent(Part):
    """Change a latent ``a`` of a dictionary to ``factor * a + add``, kept within bounds.

    Ablate: factor 0. Set to ``v``: factor 0, add ``v``. The error term stays. ``where`` says on
    which tokens: ``always``; on every token of a ``text`` in which it fires; on a ``token`` on
    which it fires.
    """

    kind: Literal["latent"] = "latent"
    site: str = Field(description="a latent, such as resid_post.1.f12 or m3.f12@END")
    dictionary: str = Field(description="its dictionary: PATH, or SITE=PATH")
    factor: float = 1.0
    add: float = 0.0
    low: float | None = None
    high: float | None = None
    where: Literal["always", "text", "token"] = "always"


class Circuit(Part):
    """Keep a circuit's edges alone, or scale what they carry within the whole model.

    ``shape`` is what the circuit's file states of its model, which no other one may contradict.
    """

    kind: Literal["circuit"] = "circuit"
    edges: tuple[str, ...]
    keep: bool
    factor: float = 1.0
    ablation: str = "corrupted"
    shape: Mapping[str, bool | int | str | tuple[int, ...]] = Field(
        default_factory=dict, repr=False
    )


Edit = Annotated[
    Add | Project | Scale | RankOne | SwapAttention | Steer | Clamp | Affine | Latent | Circuit,
    Field(discriminator="kind"),
]
AnyEdit = (
    Add | Project | Scale | RankOne | SwapAttention | Steer | Clamp | Affine | Latent | Circuit
)

Toward = Mapping[str, float] | Sequence[float] | Direction


def as_direction(toward: Toward) -> Direction:
    """A direction from tokens with weights, from numbers, or as it is."""
    if isinstance(toward, Direction):
        return toward
    if isinstance(toward, Mapping):
        return Direction(tokens=dict(toward))
    return Direction(vector=tuple(float(value) for value in toward))


def add(neuron: str, direction: Toward, strength: float = 1.0) -> Add:
    """Add ``strength * direction`` to a neuron's value vector."""
    return Add(site=neuron, direction=as_direction(direction), strength=strength)


def project(neuron: str, direction: Toward, strength: float = 1.0) -> Project:
    """Take a direction out of a neuron's value vector; ``strength`` 1 takes all of it."""
    return Project(site=neuron, direction=as_direction(direction), strength=strength)


def swap_attention(head: str, first: Position, second: Position) -> SwapAttention:
    """Swap two entries of a head's pattern, seen from the last position."""
    return SwapAttention(site=head, first=first, second=second)


def steer(site: str, direction: Toward, strength: float = 1.0) -> Steer:
    """Add ``strength * direction`` to an activation, everywhere or at the site's position."""
    return Steer(site=site, direction=as_direction(direction), strength=strength)


def clamp(
    site: str, direction: Toward, low: float | None = None, high: float | None = None
) -> Clamp:
    """Keep the component along a direction within bounds."""
    return Clamp(site=site, direction=as_direction(direction), low=low, high=high)


def affine(
    site: str,
    matrix: Sequence[Sequence[float]] | None = None,
    offset: Sequence[float] | None = None,
) -> Affine:
    """Replace an activation ``x`` by ``matrix x + offset``."""
    rows = None if matrix is None else tuple(tuple(float(v) for v in row) for row in matrix)
    shift = None if offset is None else tuple(float(v) for v in offset)
    return Affine(site=site, matrix=rows, offset=shift)


def scale(what: str | CircuitGraph, factor: float, ablation: str = "corrupted") -> Scale | Circuit:
    """Multiply what a site writes; of a circuit, what its edges carry beyond what stands in.

    ``ablation`` says what stands in, and matters to circuits alone.

    >>> circuits.scale("m3.n17", 0.5)
    Scale(kind='scale', site='m3.n17', factor=0.5)

    Raises:
        EditError: `what` is neither a site's name nor a circuit, or the factor is not a number.
    """
    try:
        if isinstance(what, str):
            return Scale(site=what, factor=factor)
        edges, shape = _carried(_circuit(what)), what.info.shape
        return Circuit(edges=edges, keep=False, factor=factor, ablation=ablation, shape=shape)
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        raise EditError(all_faults(f"{what!r} cannot be scaled by {factor!r}:", faults)) from None


def remove(what: str | CircuitGraph, ablation: str = "corrupted") -> Scale | Circuit:
    """Zero a head, a neuron or another site; or cut a circuit's edges out of the model.

    `what` is a site's name or a circuit; what a cut edge carries is replaced by `ablation`.

    >>> circuits.remove("a3.h0")
    Scale(kind='scale', site='a3.h0', factor=0.0)
    """
    return scale(what, 0.0, ablation)


def keep(graph: CircuitGraph, ablation: str = "corrupted") -> Circuit:
    """A circuit alone, everything outside it replaced by `ablation` (see ``circuits ablations``).

    >>> with circuits.editing(model, circuits.keep(graph.top(20))) as edited:
    ...     edited.logits(pairs).shape
    torch.Size([16, 3196])
    """
    from circuits.evaluate import edges_of

    edges = tuple(edges_of(_circuit(graph)))
    return Circuit(edges=edges, keep=True, ablation=ablation, shape=graph.info.shape)


def _circuit(given: Any) -> CircuitGraph:
    from graphs import CircuitGraph

    if not isinstance(given, CircuitGraph):
        raise EditError(f"{given!r} is no circuit and no site's name, such as 'a3.h0'")
    return given


def _carried(graph: CircuitGraph) -> tuple[str, ...]:
    """A circuit's edges; of a node circuit, all edges that leave its nodes."""
    if graph.level == "edge":
        return tuple(graph.edges)
    from patching.nodes.edges import edges

    chosen = {node.name for node in graph.scored_nodes}
    return tuple(edge.name for edge in edges(graph.info.anatomy) if edge.sender.name in chosen)
