"""Everything that can be wrong with edits, found without changing anything. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import combinations
from math import isfinite
from typing import Any

from circuits.edits.edit import (
    Add,
    Affine,
    AnyEdit,
    Circuit,
    Clamp,
    Direction,
    Latent,
    Part,
    Project,
    RankOne,
    Scale,
    Steer,
    SwapAttention,
)
from patching.anatomy import Anatomy, contradictions, other_model
from patching.latent_sites import parse_node
from patching.sites import MIXTURE_PARTS, STREAMS, Site, check_site, parse_edge, parse_site
from tasks.errors import CircuitsError, EditError, unknown
from tasks.tokenize import Tokenizer, single_token, why_not_single

ALLOWED = {
    "add": ("neuron",),
    "project": ("neuron",),
    "rank_one": ("mlp",),
    "swap_attention": ("head", "pattern"),
    "scale": ("input", "head", "z", "q", "k", "v", "neuron", "mlp", *MIXTURE_PARTS, *STREAMS),
    "steer": ("input", "z", "q", "k", "v", "mlp", *STREAMS),
    "clamp": ("input", "z", "q", "k", "v", "mlp", *STREAMS),
    "affine": ("input", "z", "q", "k", "v", "mlp", *STREAMS),
}
COMMUTING = ({"add", "rank_one"}, {"scale"}, {"steer", "latent"})
"""Kinds of which several may act on one place, because their order does not matter."""


def is_weight_edit(edit: AnyEdit) -> bool:
    """Whether the edit changes weights, and so can be saved with the model."""
    if isinstance(edit, Scale):
        site = parse_site(edit.site)
        return site.kind in ("head", "neuron") and site.position is None
    return isinstance(edit, Add | Project | RankOne)


def edit_faults(
    edits: Sequence[AnyEdit],
    anatomy: Anatomy | None = None,
    tokenizer: Any = None,
    vocabulary: int = 0,
) -> list[str]:
    """One line per fault: sites, widths, tokens, numbers that are not finite, conflicts.

    Without an anatomy only what is wrong for every model is told.
    """
    if odd := [(i, edit) for i, edit in enumerate(edits) if not isinstance(edit, Part)]:
        hint = "make edits with circuits.scale, circuits.remove or circuits.keep"
        return [f"edit {i} is {edit!r}, which is no edit; {hint}" for i, edit in odd]
    faults = [
        f"edit {i} ({edit.kind}): {fault}"
        for i, edit in enumerate(edits)
        for fault in _faults(edit, anatomy, tokenizer, vocabulary)
    ]
    faults += [
        f"edits {i} and {j} conflict: {why}"
        for (i, one), (j, other) in combinations(enumerate(edits), 2)
        if (why := _conflict(one, other))
    ]
    return faults


def token_ids(direction: Direction, tokenizer: Any, vocabulary: int) -> dict[int, float]:
    """The ids of a direction's tokens with their weights.

    Raises:
        EditError: listing the texts that are not one token of this model.
    """
    weights, faults = {}, []
    for text, weight in (direction.tokens or {}).items():
        try:
            weights[_token_id(text, tokenizer, vocabulary)] = weight
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise EditError("; ".join(faults))
    return weights


def _token_id(text: str, tokenizer: Tokenizer | None, vocabulary: int) -> int:
    if re.fullmatch(r"#\d+", text):
        number = int(text[1:])
        if number >= vocabulary:
            raise ValueError(f"token {text} is outside the vocabulary of {vocabulary}")
        return number
    if tokenizer is None:
        raise ValueError(f"this model has no tokenizer; write token {text!r} as #ID")
    token = single_token(tokenizer, text)
    if token is None:
        raise ValueError(why_not_single(tokenizer, text))
    return token


def _faults(
    edit: AnyEdit, anatomy: Anatomy | None, tokenizer: Any, vocabulary: int
) -> Iterator[str]:
    for name, value in _numbers(edit):
        if not isfinite(value):
            yield f"{name} is {value}; give a finite number"
    if isinstance(edit, Circuit):
        yield from _circuit_faults(edit, anatomy)
        return
    if isinstance(edit, Latent):
        yield from _latent_faults(edit, anatomy)
        return
    try:
        site = parse_site(edit.site, anatomy)
    except CircuitsError as fault:
        yield str(fault)
        return
    if site.kind not in ALLOWED[edit.kind]:
        yield f"'{site}' is no place for this edit; it takes {', '.join(ALLOWED[edit.kind])}"
        return
    if site.position is not None and isinstance(edit, Add | Project | RankOne | SwapAttention):
        yield f"'{site}': this edit takes no position in its site"
    if isinstance(edit, Clamp) and edit.low is None and edit.high is None:
        yield "give low, high or both"
    bounds = (edit.low, edit.high) if isinstance(edit, Clamp) else ()
    known = [bound for bound in bounds if bound is not None]
    if known != sorted(known):
        yield f"low {known[0]} is above high {known[1]}"
    if isinstance(edit, SwapAttention) and edit.first == edit.second:
        yield f"both positions are {edit.first!r}"
    if isinstance(edit, Affine) and edit.matrix is None and edit.offset is None:
        yield "give matrix, offset or both"
    if isinstance(edit, Add | Project | RankOne | Steer | Clamp):
        yield from _direction_faults(edit.direction)
    if anatomy is not None:
        yield from _misfits(edit, _width(site, anatomy), anatomy.d_mlp, tokenizer, vocabulary)


def _misfits(
    edit: AnyEdit, width: int, d_mlp: int, tokenizer: Any, vocabulary: int
) -> Iterator[str]:
    """What does not fit one model: widths and tokens."""
    if isinstance(edit, RankOne) and len(edit.keys) != d_mlp:
        yield f"keys has {len(edit.keys)} numbers, the MLP {d_mlp} neurons"
    if isinstance(edit, Affine):
        yield from _affine_misfits(edit, width)
    if not isinstance(edit, Add | Project | RankOne | Steer | Clamp):
        return
    vector = edit.direction.vector
    if vector is not None and len(vector) != width:
        yield f"the vector has {len(vector)} numbers, the place is {width} wide"
    try:
        token_ids(edit.direction, tokenizer, vocabulary)
    except EditError as fault:
        yield str(fault)


def _latent_faults(edit: Latent, anatomy: Anatomy | None) -> Iterator[str]:
    try:
        site = parse_node(edit.site)
        if site.kind != "latent":
            raise EditError(f"'{site}' is no latent; write resid_post.1.f12 or m3.f12")
        if anatomy is not None:
            check_site(site, anatomy)
    except CircuitsError as fault:
        yield str(fault)
    if not edit.dictionary:
        yield "its dictionary is not named; give PATH or SITE=PATH"
    bounds = [bound for bound in (edit.low, edit.high) if bound is not None]
    if bounds != sorted(bounds):
        yield f"low {bounds[0]} is above high {bounds[1]}"
    if (edit.factor, edit.add) == (1.0, 0.0) and not bounds:
        yield "nothing is changed; give factor, add, low or high"


def _circuit_faults(edit: Circuit, anatomy: Anatomy | None) -> Iterator[str]:
    from patching.ablation.kinds import get_ablation

    names = [field.name for field in fields(Anatomy)]
    yield from (
        unknown("number of a model", name, names) for name in edit.shape if name not in names
    )
    if anatomy is not None and (odd := contradictions(edit.shape, anatomy.shape)):
        yield other_model(odd)
        return
    for name in edit.edges:
        try:
            parse_edge(name, anatomy)
        except CircuitsError as fault:
            yield str(fault)
    try:
        if get_ablation(edit.ablation).kind == "cama":
            yield "cama replaces the residual stream, which no edge owns; use mean-by-token"
    except CircuitsError as fault:
        yield str(fault)


def _affine_misfits(edit: Affine, width: int) -> Iterator[str]:
    if edit.offset is not None and len(edit.offset) != width:
        yield f"offset has {len(edit.offset)} numbers, the place is {width} wide"
    rows = edit.matrix
    if rows is not None and (len(rows) != width or any(len(row) != width for row in rows)):
        yield f"matrix is not {width} by {width}"


def _direction_faults(direction: Direction) -> Iterator[str]:
    if (direction.tokens is None) == (direction.vector is None):
        yield "a direction is tokens with weights, or a vector: give one of them"
    elif direction.vector is not None:
        if not any(direction.vector):
            yield "the vector is zero"
    elif not direction.tokens or not any(direction.tokens.values()):
        yield "the direction is zero: no token has a weight"


def _width(site: Site, anatomy: Anatomy) -> int:
    return anatomy.d_head if site.kind in ("z", "q", "k", "v") else anatomy.d_model


def _numbers(edit: AnyEdit) -> Iterator[tuple[str, float]]:
    """Every number of an edit with its name; of a long list only the first that is not finite."""
    for name, value in edit:
        if isinstance(value, Direction):
            yield from ((f"weight of token {t!r}", w) for t, w in (value.tokens or {}).items())
            value, name = value.vector, "the vector"
        if name == "matrix" and value is not None:
            value = tuple(number for row in value for number in row)
        if isinstance(value, float):
            yield name, value
        elif isinstance(value, tuple) and value and not isinstance(value[0], str):
            bad = [number for number in value if not isfinite(number)]
            if bad:
                yield f"{name} has a number that", bad[0]


def _conflict(one: AnyEdit, other: AnyEdit) -> str | None:
    if isinstance(one, Circuit) or isinstance(other, Circuit):
        if isinstance(one, Circuit) and isinstance(other, Circuit):
            return "one circuit at a time"
        weight = other if isinstance(one, Circuit) else one
        try:
            fits = is_weight_edit(weight)
        except CircuitsError:
            return None
        return None if fits else "a circuit goes together with weight edits alone"
    try:
        here, there = _changed(one.site), _changed(other.site)
    except CircuitsError:
        return None
    if isinstance(one, Latent) and isinstance(other, Latent):
        same = parse_node(one.site).at(None) == parse_node(other.site).at(None)
        # Latents are read before any of them is changed, so others do not mind the order.
        return f"both change {one.site}" if same and _overlap(here, there) else None
    if one == other and not isinstance(one, Add | Steer | RankOne):
        return f"the same edit twice, of {one.site}"
    if any({one.kind, other.kind} <= kinds for kinds in COMMUTING) or not _overlap(here, there):
        return None
    places = one.site if one.site == other.site else f"{one.site} and {other.site}"
    return f"both change {places}, and their order matters"


def _changed(name: str) -> Site:
    """The site that an edit changes; of a latent, what its dictionary takes apart."""
    site = parse_node(name)
    if site.kind != "latent":
        return parse_site(name)
    kind = {"m": "mlp", "mlp_out": "mlp"}.get(site.place, site.place)
    return Site(kind, site.layer, position=site.position)


def _overlap(one: Site, other: Site) -> bool:
    """Whether two sites are the same place, or one an MLP and the other a part of it."""
    if None not in (one.position, other.position) and one.position != other.position:
        return False
    if one.layer != other.layer:
        return False
    kinds = {"z": "head"}
    here, there = kinds.get(one.kind, one.kind), kinds.get(other.kind, other.kind)
    parts = {"neuron", *MIXTURE_PARTS}
    if "mlp" in (here, there) and {here, there} & parts:
        return True
    return here == there and one.unit == other.unit
