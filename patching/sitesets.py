"""Sets of sites that are scored together, and where their activations are found.

A *point* is a tensor that the forward pass names, such as all heads' ``z`` of layer 3. A site is
a slice of a point: one unit (head, neuron, expert) or all of it, at one position or at all of
them. A router is one site, the weights of all experts, since they are one choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.anatomy import Anatomy
from patching.nodes.layout import Layout, layout_of
from patching.ops import Point
from patching.runs import Batch
from patching.sites import INPUT, MIXTURE_PARTS, STREAMS, Edge, Site, check_site, head, parse_edge
from tasks.errors import MethodError, SiteError, unknown
from tasks.pairs import PromptPairs

KINDS = ("node", *STREAMS, "z", "q", "k", "v", "pattern", "neuron", *MIXTURE_PARTS)
"""What can be scored: all nodes, or all sites of one kind; see :func:`kinds_of` for one model."""

POSITIONS = ("all", "token", "named")

Labels = tuple[int | str | None, ...]
"""Positions: token indices, names of positions, or ``None`` alone for all together."""

_POINT_OF = {
    "input": "input",
    "head": "z",
    "mlp": "mlp_out",
    "neuron": "mlp_post",
    "expert": "expert_out",
    "shared": "shared_out",
}
_UNITS = {"head", "z", "q", "k", "v", "pattern", "neuron", "expert"}


def point_of(site: Site) -> Point:
    """The point that holds a site's activation."""
    return _POINT_OF.get(site.kind, site.kind), max(site.layer, 0)


def unit_axis(kind: str) -> int | None:
    """The axis of a point along which its units lie; None where it has none."""
    axes = {"z": 2, "q": 2, "k": 2, "v": 2, "pattern": 1, "mlp_post": 2, "expert_out": 2}
    return axes.get(kind)


def units_of(kind: str, anatomy: Anatomy) -> int:
    """How many units a point of this kind has."""
    if kind in ("k", "v"):
        return anatomy.n_kv_heads
    if kind == "mlp_post":
        return anatomy.d_mlp
    if kind == "expert_out":
        return anatomy.n_experts
    return anatomy.n_heads if unit_axis(kind) is not None else 1


@dataclass(frozen=True)
class Group:
    """The sites of one point, one per unit."""

    point: Point
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class SiteSet:
    """Groups of sites and the positions at which each is scored.

    ``labels`` are the positions: ``(None,)`` for whole sites, token indices counted from the
    start of the prompt, or names of positions. ``kept`` are the sites meant, as rising indices
    into all of them, where not all are.
    """

    groups: tuple[Group, ...]
    labels: tuple[int | str | None, ...]
    kept: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self._count if self.kept is None else len(self.kept)

    @property
    def _count(self) -> int:
        return sum(len(group.sites) for group in self.groups) * len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Site names: group by group, unit by unit, position by position."""
        every = [(site, label) for g in self.groups for site in g.sites for label in self.labels]
        chosen = every if self.kept is None else [every[i] for i in self.kept]
        return tuple(site.at(label).name for site, label in chosen)

    def sample(self, most: int, seed: int) -> SiteSet:
        """At most this many of the sites, drawn without replacement."""
        if most >= len(self):
            return self
        drawn = np.random.default_rng(seed).choice(len(self), most, replace=False)
        every = range(self._count) if self.kept is None else self.kept
        return replace(self, kept=tuple(every[i] for i in sorted(drawn.tolist())))

    def split(self, kinds: Sequence[str]) -> tuple[SiteSet, Int[np.ndarray, " some"]]:
        """The sites at points of some kinds, and their places among all of :attr:`names`."""
        sizes = [len(group.sites) * len(self.labels) for group in self.groups]
        wanted = np.repeat([group.point[0] in kinds for group in self.groups], sizes)
        kept = np.arange(self._count) if self.kept is None else np.array(self.kept, dtype=int)
        groups = tuple(group for group in self.groups if group.point[0] in kinds)
        chosen = (np.cumsum(wanted) - 1)[kept[wanted[kept]]]
        all_of_them = len(chosen) == wanted.sum()
        some = SiteSet(groups, self.labels, None if all_of_them else tuple(chosen.tolist()))
        return some, np.flatnonzero(wanted[kept])

    def at(self, places: Sequence[int]) -> SiteSet:
        """Those of the sites that stand at some places among :attr:`names`, in their order."""
        every = range(self._count) if self.kept is None else self.kept
        return replace(self, kept=tuple(every[i] for i in sorted(places)))

    def parts(self) -> Iterator[tuple[Group, Bool[np.ndarray, "units labels"]]]:
        """Every group some of whose sites are meant, and which: by unit and by position."""
        meant = np.full(self._count, self.kept is None)
        meant[list(self.kept or ())] = True
        end = 0
        for group in self.groups:
            start, end = end, end + len(group.sites) * len(self.labels)
            if meant[start:end].any():
                yield group, meant[start:end].reshape(len(group.sites), -1)

    def select(self, scores: Float[Tensor, "b every"]) -> Float[Tensor, "b names"]:
        """The columns of the sites meant, from those of all of them."""
        return scores if self.kept is None else scores[:, list(self.kept)]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of points needed."""
        return tuple(dict.fromkeys(group.point[0] for group in self.groups))

    def at_positions(self, values: Float[Tensor, "b s u"], batch: Batch) -> Float[Tensor, "b m"]:
        """Per-position values gathered into one column per unit and label."""
        return at_labels(values, self.labels, batch)


def at_labels(
    values: Float[Tensor, "b s u"], labels: Labels, batch: Batch
) -> Float[Tensor, "b units_labels"]:
    """Per-position values at every label, or their sum over positions for the one label None."""
    if labels == (None,):
        return values.sum(1)
    columns = label_columns(labels, batch)
    index = columns[:, :, None].expand(-1, -1, values.shape[2])
    return values.gather(1, index).transpose(1, 2).flatten(1)


def label_columns(labels: Sequence[int | str | None], batch: Batch) -> Int[Tensor, "b labels"]:
    """The column of every label in every prompt of the batch."""
    first = batch.mask.long().argmax(1)
    columns = []
    for label in labels:
        if isinstance(label, str):
            named = torch.tensor(batch.pairs.positions[label], device=first.device)
            columns.append(named - batch.dropped)
        else:
            assert label is not None
            columns.append(first + label if label >= 0 else first * 0 + batch.mask.shape[1] + label)
    return torch.stack(columns, 1)


def site_set(
    kind: str,
    anatomy: Anatomy,
    pairs: PromptPairs,
    positions: str = "all",
    nodes: str = "heads",
) -> SiteSet:
    """All sites of one kind in this model, or of several: ``"q,k,v"``.

    ``node`` stands for all nodes that send, heads and whole MLPs, or with ``nodes`` for neurons.

    Raises:
        MethodError: the kind or the way of positions is unknown.
        SiteError: this model has no such sites, or the prompts have no such positions.
    """
    groups: list[Group] = []
    for each in kind.split(","):
        if each not in KINDS:
            raise MethodError(unknown("kind of site", each, KINDS))
        if absent := _absent(each, anatomy):
            raise SiteError(f"this model has no {each} sites: {absent}")
        groups += (
            _node_groups(layout_of(anatomy, nodes))
            if each == "node"
            else _kind_groups(each, anatomy)
        )
    return SiteSet(tuple(groups), labels_of(positions, pairs))


def set_of(sites: Sequence[Site], anatomy: Anatomy) -> SiteSet:
    """Given sites, each once and without a position, in the order of :attr:`SiteSet.names`."""
    wanted = set(sites)
    points = dict.fromkeys((s.kind, point_of(s)) for s in sorted(sites, key=lambda s: s.layer))
    groups = tuple(_group(kind, point, anatomy) for kind, point in points)
    every = [site for group in groups for site in group.sites]
    return SiteSet(groups, (None,), tuple(i for i, site in enumerate(every) if site in wanted))


def kinds_of(anatomy: Anatomy) -> tuple[str, ...]:
    """Which of :data:`KINDS` this model has."""
    return tuple(kind for kind in KINDS if not _absent(kind, anatomy))


def _absent(kind: str, anatomy: Anatomy) -> str:
    """Why a model has no sites of a kind; nothing where it has."""
    if kind == "resid_mid" and anatomy.parallel:
        return "its attention and MLP read the same residual stream"
    if kind == "neuron" and anatomy.n_experts:
        return "its MLPs are mixtures of experts; score expert, router or shared"
    if kind in MIXTURE_PARTS and not anatomy.n_experts:
        return "none of its MLPs is a mixture of experts"
    if kind == "shared" and not anatomy.shared_expert:
        return "all its experts are chosen by the router; score expert or router"
    return ""


def _node_groups(layout: Layout) -> tuple[Group, ...]:
    return tuple(
        Group(point_of(group.site(0)), tuple(group.site(unit) for unit in range(group.count)))
        for group in layout.senders
    )


def _kind_groups(kind: str, anatomy: Anatomy) -> tuple[Group, ...]:
    layers = anatomy.mixtures if kind in MIXTURE_PARTS else range(anatomy.n_layers)
    points = [point_of(Site(kind, layer)) for layer in layers]
    return tuple(_group(kind, point, anatomy) for point in points)


def _group(kind: str, point: Point, anatomy: Anatomy) -> Group:
    """All sites of one kind at a point."""
    if kind == "input":
        return Group(point, (INPUT,))
    units = range(units_of(point[0], anatomy)) if kind in _UNITS else (-1,)
    return Group(point, tuple(Site(kind, point[1], unit) for unit in units))


def labels_of(positions: str, pairs: PromptPairs) -> tuple[int | str | None, ...]:
    """The positions that ``all``, ``token`` or ``named`` stand for with these prompts.

    Raises:
        MethodError: another word.
        SiteError: prompts without named positions, or without token positions in common.
    """
    if positions not in POSITIONS:
        raise MethodError(unknown("way of positions", positions, POSITIONS))
    if positions == "all":
        return (None,)
    if positions == "named":
        if not pairs.positions:
            raise SiteError("these prompt pairs name no positions; use positions='token' or 'all'")
        check_readable(pairs.positions)
        return tuple(pairs.positions)
    lengths = np.unique(pairs.mask.sum(1))
    if len(lengths) > 1:
        raise SiteError(
            f"prompts of {lengths.min()} to {lengths.max()} tokens have no token positions in "
            f"common; use positions='named', or prompts of one length"
        )
    return tuple(range(int(lengths[0])))


def check_readable(names: Iterable[str]) -> None:
    """Refuse names of positions that cannot be part of a site's name.

    Raises:
        SiteError: naming the first of them.
    """
    unreadable = [name for name in names if not _is_readable(name)]
    if unreadable:
        raise SiteError(
            f"position '{unreadable[0]}' cannot be part of a site's name, which has to be read "
            f"back; name positions by a word such as S2 or END"
        )


def _is_readable(name: str) -> bool:
    """Whether a site at this position, and an edge between two such, is read back as it was."""
    edge = Edge(head(0, 0).at(name), head(0, 0).at(name), "v")
    try:
        return parse_edge(edge.name) == edge
    except SiteError:
        return False


def reduce_product(kind: str, product: Tensor) -> Float[Tensor, "b s u"]:
    """A product of activation and gradient, summed to one number per position and unit."""
    if kind == "pattern":
        return product.sum(-1).transpose(1, 2)
    if kind == "mlp_post":
        return product
    if unit_axis(kind) == 2:
        return product.sum(-1)
    return product.sum(-1, keepdim=True)


def single_site(name_or_site: Site, anatomy: Anatomy) -> Point:
    """The point of one checked site."""
    check_site(name_or_site, anatomy)
    return point_of(name_or_site)


Selector = Callable[[Tensor], Tensor]
