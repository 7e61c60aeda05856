"""Names of what dictionaries add to circuits: latents, error terms, and single logits.

``m3.f12`` is latent 12 of a transcoder of MLP 3, ``resid_post.3.f12`` one of an autoencoder of the
stream; ``m3.err`` and ``resid_post.3.err`` are what their dictionaries leave over, and
``logit.t317`` is the logit of token 317. They are nodes of circuits, each at a position if wanted
(``m3.f12@5``), but no sites of the model alone: what they mean depends on a dictionary.
"""

from __future__ import annotations

import re

from patching.sites import PORTS, Edge, Site, parse_edge, parse_site
from tasks.errors import SiteError

KINDS = ("latent", "error", "logit")
PLACES = ("m", "input", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")

_PART = re.compile(rf"(?:(m)(\d+)|({'|'.join(PLACES[1:])})\.(\d+))\.(?:f(\d+)|err)")
_LOGIT = re.compile(r"logit\.t(\d+)")
_EDGE = re.compile(r"(?P<sender>.+?)->(?P<receiver>[^<>]+)")
MOST_DIGITS = 9


def latent_site(place: str, number: int | None, position: int | str | None = None) -> Site:
    """A latent of a dictionary's place (``m3``, ``resid_post.3``), or with None its error term."""
    found = _PART.fullmatch(f"{place}.err" if number is None else f"{place}.f{number}")
    if found is None:
        raise SiteError(f"'{place}' is no place of a dictionary, such as m3 or resid_post.3")
    return _part(found).at(position)


def logit_site(token: int) -> Site:
    """The logit of one token."""
    return Site("logit", unit=token)


def parse_node(name: str) -> Site:
    """Read the name of anything that can be a node of a circuit.

    Raises:
        SiteError: it is neither a site nor one of these names.
    """
    base, mark, where = name.partition("@")
    part, logit = _PART.fullmatch(base), _LOGIT.fullmatch(base)
    if (part is None and logit is None) or (mark and not where):
        return parse_site(name)
    digits = max(len(digits) for digits in re.findall(r"\d+", base) or [""])
    if digits > MOST_DIGITS:
        raise SiteError(f"'{name}' has a number of {digits} digits")
    site = logit_site(int(logit[1])) if logit else _part(part)
    if where:
        site = site.at(int(where) if re.fullmatch(r"-?\d+", where) else where)
    return site


def _part(found: re.Match[str] | None) -> Site:
    assert found is not None
    place, layer = found[1] or found[3], int(found[2] or found[4])
    if found[5] is None:
        return Site("error", layer, place=place)
    return Site("latent", layer, int(found[5]), place=place)


def parse_node_edge(name: str) -> Edge:
    """Read an edge between nodes of any kind.

    Raises:
        SiteError: not an edge, or an edge into a latent or a logit that names a port.
    """
    found = _EDGE.fullmatch(name)
    if found is None:
        return parse_edge(name)
    sender, receiver = parse_node(found["sender"]), parse_node(found["receiver"])
    if not {sender.kind, receiver.kind} & set(KINDS):
        return parse_edge(name)
    edge = Edge(sender, receiver)
    check_ends(edge)
    return edge


def check_ends(edge: Edge) -> None:
    """Refuse edges of latents that cannot be.

    Raises:
        SiteError: from or into what neither sends nor receives, or with a port that is not there.
    """
    senders = ("input", "head", "mlp", "neuron", "latent", "error")
    receivers = ("head", "mlp", "neuron", "latent", "error", "logit", "logits")
    if edge.sender.kind not in senders:
        raise SiteError(f"'{edge}': {edge.sender} cannot send; {', '.join(senders)} can")
    if edge.receiver.kind not in receivers:
        raise SiteError(f"'{edge}': {edge.receiver} cannot receive; {', '.join(receivers)} can")
    wanted = PORTS if edge.receiver.kind == "head" else (None,)
    if edge.port not in wanted:
        raise SiteError(f"'{edge}': {edge.receiver} has no port '{edge.port}'")
