"""The vocabulary of places: site and edge names, their order, and parsing.

Nodes carry the names of EAP-IG and the MIB benchmark: ``input``, ``a9.h6``, ``m3``, ``logits``.
Finer sites add a part: ``a9.h6.q`` (also ``k v z pattern``), ``m3.n1853``, ``resid_pre.3`` (also
``resid_mid resid_post attn_out mlp_out``). Of a mixture of experts, ``m3.e17`` is what expert 17
writes, ``m3.router`` the weights of all experts, and ``m3.shared`` what the expert writes that
answers every token. They are parts of the node ``m3``, as neurons are: edges lead to and from the
whole of it.

Any site may be tied to a position: ``m3@5``, ``m3@-1``, ``m3@S2``. An edge is ``a5.h5->a9.h6<q>``:
what the receiver's input port reads from the sender's output. Heads have the ports q, k and v; MLPs
and logits have one input and no port. Tied to positions, an edge stays at one of them,
``m0@S2->a9.h6@S2<q>``; only a head's own value crosses from a source to a query position,
``a9.h6@IO->a9.h6@END<v>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches

from patching.anatomy import Anatomy
from tasks.errors import SiteError

PORTS = ("q", "k", "v")
HEAD_PARTS = ("q", "k", "v", "z", "pattern")
MIXTURE_PARTS = ("expert", "router", "shared")
STREAMS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")

_HEAD = re.compile(r"a(\d+)\.h(\d+)(?:\.(q|k|v|z|pattern))?")
_MLP = re.compile(r"m(\d+)(?:\.(?:([ne])(\d+)|(router|shared)))?")
_STREAM = re.compile(r"(resid_pre|resid_mid|resid_post|attn_out|mlp_out)\.(\d+)")
_EDGE = re.compile(r"(?P<sender>.+?)->(?P<receiver>[^<>]+)(?:<(?P<port>[^<>]*)>)?")


NODES = ("heads", "neurons")
"""What a circuit can be made of: heads and whole MLPs, or heads and single neurons."""

Label = int | str | None
"""A position: a token index, a task's name for one, or None for all of them."""

SENDERS, RECEIVERS = ("input", "head", "mlp", "neuron"), ("head", "mlp", "neuron", "logits")


@dataclass(frozen=True, slots=True)
class Site:
    """A place whose activation can be read or replaced.

    ``kind`` is ``input``, ``head``, ``mlp``, ``logits``, ``neuron``, one of :data:`HEAD_PARTS`,
    :data:`MIXTURE_PARTS` or :data:`STREAMS`, or one of :mod:`patching.latent_sites`. ``unit`` is
    the head, neuron, expert, latent or token number. ``position`` is a token index, a task's named
    position, or None for all positions. ``place`` says of a latent or an error term what its
    dictionary takes apart: ``m`` for an MLP, or the kind of a stream.
    """

    kind: str
    layer: int = -1
    unit: int = -1
    position: Label = None
    place: str = ""

    @property
    def name(self) -> str:
        """The canonical name, which :func:`parse_site` reads back."""
        text = self._base()
        return text if self.position is None else f"{text}@{self.position}"

    def _base(self) -> str:
        if self.kind in ("input", "logits"):
            return self.kind
        if self.kind == "head":
            return f"a{self.layer}.h{self.unit}"
        if self.kind in HEAD_PARTS:
            return f"a{self.layer}.h{self.unit}.{self.kind}"
        if self.kind == "mlp":
            return f"m{self.layer}"
        if self.kind in ("neuron", "expert"):
            return f"m{self.layer}.{self.kind[0]}{self.unit}"
        if self.kind in MIXTURE_PARTS:
            return f"m{self.layer}.{self.kind}"
        if self.kind in ("latent", "error"):
            base = f"m{self.layer}" if self.place == "m" else f"{self.place}.{self.layer}"
            return f"{base}.f{self.unit}" if self.kind == "latent" else f"{base}.err"
        if self.kind == "logit":
            return f"logit.t{self.unit}"
        return f"{self.kind}.{self.layer}"

    def at(self, position: Label) -> Site:
        """The same site at another position."""
        return replace(self, position=position)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """What ``receiver`` reads at ``port`` from the output of ``sender``."""

    sender: Site
    receiver: Site
    port: str | None = None

    def at(self, position: Label) -> Edge:
        """The same edge with both ends at one position."""
        return Edge(self.sender.at(position), self.receiver.at(position), self.port)

    @property
    def name(self) -> str:
        """The canonical name, which :func:`parse_edge` reads back."""
        port = f"<{self.port}>" if self.port else ""
        return f"{self.sender.name}->{self.receiver.name}{port}"

    def __str__(self) -> str:
        return self.name


INPUT = Site("input")
LOGITS = Site("logits")


def head(layer: int, unit: int) -> Site:
    """The node of one attention head."""
    return Site("head", layer, unit)


def mlp(layer: int) -> Site:
    """The node of one MLP."""
    return Site("mlp", layer)


def parse_site(name: str, anatomy: Anatomy | None = None) -> Site:
    """Read a site name; with ``anatomy``, also check that the model has it.

    Raises:
        SiteError: the text is no site name, or this model has no such site.
    """
    base, _, where = name.partition("@")
    site = _match_site(base)
    if site is None or (where == "" and "@" in name):
        raise SiteError(
            f"'{name}' is not a site; write input, a3.h5, a3.h5.q (k v z pattern), m3, m3.n17, "
            f"m3.e17 (of a mixture of experts; router shared), "
            f"resid_pre.3 (resid_mid resid_post attn_out mlp_out) or logits, "
            f"each with @position if wanted"
        )
    if where:
        site = site.at(int(where) if re.fullmatch(r"-?\d+", where) else where)
    if anatomy is not None:
        check_site(site, anatomy)
    return site


def _match_site(base: str) -> Site | None:
    if base in ("input", "logits"):
        return Site(base)
    if found := _HEAD.fullmatch(base):
        return Site(found[3] or "head", int(found[1]), int(found[2]))
    if found := _MLP.fullmatch(base):
        kind = {"n": "neuron", "e": "expert"}.get(found[2], found[4] or "mlp")
        return Site(kind, int(found[1]), int(found[3] or -1))
    if found := _STREAM.fullmatch(base):
        return Site(found[1], int(found[2]))
    return None


def parse_edge(name: str, anatomy: Anatomy | None = None) -> Edge:
    """Read an edge name; with ``anatomy``, also check that such an edge can exist.

    Raises:
        SiteError: not an edge, a port the receiver does not have, or a receiver that comes before
            its sender.
    """
    found = _EDGE.fullmatch(name)
    if not found:
        raise SiteError(f"'{name}' is not an edge; write sender->receiver, such as a5.h5->a9.h6<q>")
    edge = Edge(parse_site(found["sender"]), parse_site(found["receiver"]), found["port"])
    _check_ports(edge)
    if anatomy is not None:
        check_edge(edge, anatomy)
    return edge


def _check_ports(edge: Edge) -> None:
    if edge.sender.kind not in SENDERS:
        raise SiteError(
            f"'{edge}': {edge.sender} cannot send; senders are input, heads, MLPs and neurons"
        )
    if edge.receiver.kind not in RECEIVERS:
        raise SiteError(
            f"'{edge}': {edge.receiver} cannot receive; receivers are heads, MLPs, neurons, logits"
        )
    if edge.receiver.kind == "head" and edge.port not in PORTS:
        raise SiteError(f"'{edge}': a head receives at a port; add <q>, <k> or <v>")
    if edge.receiver.kind != "head" and edge.port is not None:
        raise SiteError(f"'{edge}': {edge.receiver} has one input and no port '{edge.port}'")


def check_site(site: Site, anatomy: Anatomy) -> None:
    """Refuse a site that the model does not have, naming the nearest one it has.

    Raises:
        SiteError: see above.
    """
    layers, faults = anatomy.n_layers, []
    if site.kind not in ("input", "logits", "logit") and not 0 <= site.layer < layers:
        faults.append(f"layers are 0 to {layers - 1}")
    units = {"neuron": anatomy.d_mlp, "head": anatomy.n_heads, "z": anatomy.n_heads}
    units |= {"q": anatomy.n_heads, "pattern": anatomy.n_heads}
    units |= {"k": anatomy.n_kv_heads, "v": anatomy.n_kv_heads, "expert": anatomy.n_experts}
    limit = units.get(site.kind)
    if absent := _absent_part(site, anatomy):
        raise SiteError(f"this model has no site '{site}': {absent}")
    if limit is not None and not 0 <= site.unit < limit:
        what = {"neuron": "neurons", "expert": "experts"}.get(site.kind, "heads")
        what = f"key/value {what}" if site.kind in ("k", "v") else what
        faults.append(f"{what} are 0 to {limit - 1}")
    if faults:
        near = replace(
            site,
            layer=min(max(site.layer, 0), layers - 1) if site.layer >= 0 else site.layer,
            unit=site.unit if limit is None else min(max(site.unit, 0), limit - 1),
        )
        raise SiteError(
            f"this model has no site '{site}': {'; '.join(faults)}; the nearest is '{near}'"
        )


def _absent_part(site: Site, anatomy: Anatomy) -> str:
    """Why this model has no such part of an MLP; nothing where it has, or it is another site."""
    if site.kind == "neuron" and anatomy.n_experts:
        return "neurons of a model with experts are no sites; write an expert, such as m3.e17"
    if site.kind not in MIXTURE_PARTS:
        return ""
    if site.layer not in anatomy.mixtures:
        mixed = ", ".join(f"m{layer}" for layer in anatomy.mixtures)
        which = f"those of this model are {mixed}" if mixed else "this model has none"
        return f"m{site.layer} is no mixture of experts; {which}"
    if site.kind == "shared" and not anatomy.shared_expert:
        return "this model shares no expert; all of them are chosen by the router"
    return ""


def check_edge(edge: Edge, anatomy: Anatomy) -> None:
    """Refuse an edge that cannot exist in this model.

    Raises:
        SiteError: an end that is not there, or a receiver that does not come after its sender.
    """
    check_site(edge.sender, anatomy)
    check_site(edge.receiver, anatomy)
    if not (crosses(edge) or reaches(edge.sender, edge.receiver, anatomy)):
        raise SiteError(
            f"'{edge}': {edge.receiver} does not come after {edge.sender}, so it cannot read it; "
            f"the first that can is '{_first_reader(edge.sender, anatomy)}'"
        )


def crosses(edge: Edge) -> bool:
    """Whether it is a head's own way from a source position to a query position."""
    own = edge.sender.at(None) == edge.receiver.at(None) and edge.port == "v"
    return own and edge.sender.position is not None and edge.receiver.position is not None


def _first_reader(sender: Site, anatomy: Anatomy) -> Site:
    if sender.kind == "input":
        return head(0, 0)
    if sender.kind == "head" and not anatomy.parallel:
        return mlp(sender.layer)
    return LOGITS if sender.layer == anatomy.n_layers - 1 else head(sender.layer + 1, 0)


_OF_STREAMS = {"resid_pre": 0.5, "z": 1.2, "attn_out": 1.4, "resid_mid": 1.6, "mlp_out": 2.2}
"""Where what a dictionary takes apart stands, behind the start of its layer."""


def stage(site: Site, anatomy: Anatomy) -> float:
    """Where a node stands in the order of computation; a node reads all earlier stages."""
    if site.kind == "input":
        return 0
    if site.kind in ("logits", "logit"):
        return 2 * anatomy.n_layers + 1
    if site.kind in ("latent", "error") and site.place != "m":
        return 2 * site.layer + (0.1 if site.place == "input" else _OF_STREAMS.get(site.place, 2.5))
    if site.kind in ("latent", "error"):
        return 2 * site.layer + (1 if anatomy.parallel else 2)
    is_mlp = site.kind in ("mlp", "neuron", *MIXTURE_PARTS)
    return 2 * site.layer + (2 if is_mlp and not anatomy.parallel else 1)


def reaches(sender: Site, receiver: Site, anatomy: Anatomy) -> bool:
    """Whether the receiver reads a residual stream that the sender has written to."""
    return stage(sender, anatomy) < stage(receiver, anatomy)


def nearest(name: str, names: list[str]) -> str:
    """A did-you-mean clause for an error message, or an empty string."""
    found = get_close_matches(name, names, n=1)
    return f"; did you mean '{found[0]}'?" if found else ""
