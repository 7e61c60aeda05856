"""The value at a dictionary's place, from the points that a forward pass names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.model import Model
from patching.ops import Point
from tasks.errors import SiteError

_FROM = {"mlp_scaled": "mlp_in", "mlp_normed": "mlp_in"}


def point_of(place: Place) -> Point:
    """The point from which a place's value is made."""
    return _FROM.get(place.kind, place.kind), place.layer


def kinds_of(dictionaries: Iterable[Dictionary]) -> tuple[str, ...]:
    """The kinds of points that some dictionaries read and write."""
    places = [place for each in dictionaries for place in (each.reads, each.writes)]
    return tuple(dict.fromkeys(point_of(place)[0] for place in places))


def value_at(model: Model, place: Place, values: Mapping[Point, Tensor]) -> Float[Tensor, "b s d"]:
    """What is at a place: a point's value, all heads side by side, or the MLP's normed input."""
    value = values[point_of(place)]
    if place.kind == "z":
        return value.flatten(-2)
    if place.kind in _FROM:
        norm = model.blocks[place.layer].ln2
        if place.kind == "mlp_normed":
            return norm(value)
        return (norm.centre(value) / norm.scale(value)).to(value.dtype)
    return value


def like_point(place: Place, value: Float[Tensor, "b s d"], heads: int) -> Tensor:
    """A place's value in the shape of its point."""
    return value.unflatten(-1, (heads, -1)) if place.kind == "z" else value


def check_fit(model: Model, dictionary: Dictionary) -> None:
    """Refuse a dictionary of another width, or of a place that the model does not have.

    Raises:
        SiteError: see above, naming what would be accepted.
    """
    anatomy, d = model.anatomy, dictionary
    shapes = {"reads": (d.reads, d.W_enc.shape[0]), "writes": (d.writes, d.W_dec.shape[1])}
    faults = []
    for verb, (place, width) in shapes.items():
        layers = 1 if place.kind == "input" else anatomy.n_layers
        if place.layer >= layers:
            faults.append(f"it {verb} {place}, and layers are 0 to {layers - 1}")
        if place.kind == "resid_mid" and anatomy.parallel:
            faults.append(
                f"it {verb} {place}, and attention and MLP of this model read one stream: "
                f"resid_pre.{place.layer}"
            )
        wanted = anatomy.n_heads * anatomy.d_head if place.kind == "z" else anatomy.d_model
        if width != wanted:
            faults.append(f"it {verb} {place} with width {width}, and this model has {wanted}")
    if faults:
        raise SiteError(f"{d!r} does not fit {model.path}: {'; '.join(dict.fromkeys(faults))}")
