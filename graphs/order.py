"""Which names may stand in a circuit, and the order of computation they are listed in."""

from __future__ import annotations

from patching.anatomy import Anatomy
from patching.latent_sites import KINDS, check_ends, parse_node, parse_node_edge
from patching.sites import Edge, Site, check_edge, check_site
from tasks.errors import SiteError

NODE_KINDS = ("input", "head", "mlp", "neuron", "latent", "error", "logit", "logits")
_PORT_RANK = {"q": 0, "k": 1, "v": 2, None: 3}
_KIND_RANK = {"head": 0, "mlp": 10, "neuron": 20}
_PLACE_RANK = {"input": -2, "resid_pre": -1, "z": 3, "attn_out": 4, "resid_mid": 5, "m": 21}
_PLACE_RANK |= {"mlp_out": 22, "resid_post": 30}
OF_MLPS = ("mlp", "neuron", "latent", "error")
"""Kinds of nodes that stand beside or below the heads of a layer."""
ENDS = ("logit", "logits")
STARTS = ("input", "error")
"""Kinds of nodes that nothing leads to: what an error term is made of is not known."""

NodeKey = tuple[int, int, int, int, int, str]
EdgeKey = tuple[int, int, NodeKey, NodeKey]


def layer_of(site: Site, anatomy: Anatomy) -> int:
    """The layer of a node: -1 for the input, ``n_layers`` for the logits."""
    return anatomy.n_layers if site.kind in ENDS else site.layer


def node_key(site: Site, anatomy: Anatomy) -> NodeKey:
    """Sorts nodes as :func:`patching.nodes.layout.nodes` lists them, then by position."""
    where = site.position
    if where is None:
        place = (0, 0, "")
    elif isinstance(where, int):
        place = (1, where, "")
    else:
        place = (2, 0, where)
    rank = _PLACE_RANK[site.place] if site.place else _KIND_RANK.get(site.kind, 0)
    return (layer_of(site, anatomy), rank, site.unit, *place)


def edge_key(edge: Edge, anatomy: Anatomy) -> EdgeKey:
    """Sorts edges as :func:`patching.nodes.edges.edges` lists them: receiver by receiver."""
    receiver = node_key(edge.receiver, anatomy)
    return (receiver[0], _PORT_RANK[edge.port], receiver, node_key(edge.sender, anatomy))


def read_node(name: str, anatomy: Anatomy) -> Site:
    """Read the name of a circuit's node.

    Raises:
        SiteError: no such site in this model, a site that is not a node, or an unprintable name.
    """
    site = parse_node(name)
    if site.name != name:
        raise SiteError(f"'{name}' is written '{site.name}'")
    check_node(site, anatomy)
    return site


def check_node(site: Site, anatomy: Anatomy) -> None:
    """Refuse what cannot be a node of a circuit.

    Raises:
        SiteError: see :func:`read_node`.
    """
    if site.kind not in NODE_KINDS:
        raise SiteError(
            f"'{site}' is a site but not a node of a circuit; nodes are input, heads (a3.h5), "
            f"MLPs (m3), neurons (m3.n17), latents (m3.f17) and logits, each with @position if "
            f"wanted"
        )
    if not site.name.isprintable() or parse_node(site.name) != site:
        raise SiteError(f"{site.name!r}: a position's name must be printable text")
    check_site(site, anatomy)


def check_circuit_edge(edge: Edge, anatomy: Anatomy) -> None:
    """Refuse an edge that this model cannot have or whose name does not read back.

    Raises:
        SiteError: see above.
    """
    check_node(edge.sender, anatomy)
    check_node(edge.receiver, anatomy)
    if {edge.sender.kind, edge.receiver.kind} & set(KINDS):
        check_ends(edge)
    if parse_node_edge(edge.name) != edge:
        raise SiteError(f"'{edge}' does not read back; a position's name may not hold -> < or >")
    check_edge(edge, anatomy)
