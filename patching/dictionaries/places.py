"""Where in a model a dictionary reads and writes: our names, and those of other libraries.

A place is a kind of point and a layer, written ``resid_post.3``. Besides the streams there are
``z`` (all heads' outputs of a layer, one after another), ``input`` (the embedding, ``input.0``),
and three that encoders alone read: ``mlp_in``, the stream before the MLP's norm; ``mlp_scaled``,
that stream centred (under a LayerNorm) and divided by its scale; and ``mlp_normed``, what the
MLP's matrices read, with the norm's weight and bias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import FormatError

STREAMS = ("input", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
"""Kinds of points whose value a dictionary can take apart."""

READS = (*STREAMS, "mlp_in", "mlp_scaled", "mlp_normed")
"""Kinds of points that an encoder can read; a transcoder reads one and writes another."""

_OURS = re.compile(rf"({'|'.join(READS)})\.(\d+)")

_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "hook_mlp_in": "mlp_in",
    "attn.hook_z": "z",
    "mlp.hook_in": "mlp_normed",
    "mlp.hook_out": "mlp_out",
    "ln2.hook_normalized": "mlp_scaled",
}
_LENS_NAME = re.compile(rf"blocks\.(\d+)\.({'|'.join(re.escape(name) for name in _LENS)})")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)(\.(?:mlp|self_attn|attn|attention))?")
_MODULE_KINDS = {None: "resid_post", ".mlp": "mlp_out"}


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of point and a layer."""

    kind: str
    layer: int

    @property
    def point(self) -> tuple[str, int]:
        """As the forward pass names it."""
        return self.kind, self.layer

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}"


def parse_place(text: str) -> Place:
    """Read a place by our name.

    Raises:
        FormatError: another text.
    """
    found = _OURS.fullmatch(text)
    if found is None:
        raise FormatError(
            f"'{text}' is no place of a dictionary; write KIND.LAYER, such as resid_post.3, with "
            f"one of the kinds {', '.join(READS)}"
        )
    return Place(found[1], int(found[2]))


def hook_place(name: str) -> Place:
    """The place that TransformerLens calls so.

    Raises:
        FormatError: none of ours.
    """
    if name == "hook_embed":
        return Place("input", 0)
    found = _LENS_NAME.fullmatch(name)
    if found is None:
        raise FormatError(
            f"the hook '{name}' is none that circuits knows; it knows "
            f"{', '.join(f'blocks.L.{each}' for each in _LENS)} and hook_embed"
        )
    return Place(_LENS[found[2]], int(found[1]))


def hook_name(place: Place) -> str:
    """The name that TransformerLens has for a place."""
    if place.kind == "input":
        return "hook_embed"
    name = next(name for name, kind in _LENS.items() if kind == place.kind)
    return f"blocks.{place.layer}.{name}"


def module_place(name: str) -> Place:
    """The place that holds a transformers module's output: of a block, or of its MLP.

    Raises:
        FormatError: another module.
    """
    found = _MODULE.fullmatch(name)
    if found is None or found[2] not in _MODULE_KINDS:
        raise FormatError(
            f"'{name}' names no place that circuits knows; sparsify names its folders after "
            f"modules, such as layers.3 or layers.3.mlp: keep that name, or give SITE=PATH"
        )
    return Place(_MODULE_KINDS[found[2]], int(found[1]))
