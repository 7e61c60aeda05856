"""Dictionaries of Gemma Scope: ``params.npz`` in ``layer_L/width_16k/average_l0_N``.

Arrays: ``W_enc [d, m]``, ``b_enc``, ``W_dec [m, d]``, ``b_dec``, ``threshold``. JumpReLU; ``b_dec``
is not taken off the input. The file does not say which place it is of, so it is given, or is taken
from a repository's name on the way (``gemma-scope-2b-pt-res``, ``-mlp``, ``-att``). Of
transcoders, the file is that of an autoencoder: give the place that is written.
"""

from __future__ import annotations

import re
from pathlib import Path

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.files import digest, read_npz
from patching.dictionaries.places import Place
from tasks.errors import FormatError

WHAT = "a dictionary of Gemma Scope"
KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "z", "transcoders": "mlp_out"}
_REPOSITORY = re.compile(rf"gemma-scope-\w+-\w+-({'|'.join(KINDS)})")
_LAYER = re.compile(r"layer_(\d+)")


def read(path: Path, place: Place | None = None) -> Dictionary:
    """Read a file.

    Raises:
        FormatError: it is none of these, or nothing says of which place it is.
    """
    arrays = read_npz(path, WHAT)
    reads, writes = _places(path, place)
    W_enc = arrays.take("W_enc", 2)
    return Dictionary(
        reads=reads,
        writes=writes,
        activation="jumprelu",
        W_enc=W_enc,
        b_enc=arrays.take("b_enc", 1),
        W_dec=arrays.take("W_dec", 2),
        b_dec=arrays.take("b_dec", 1),
        b_in=W_enc.new_zeros(W_enc.shape[0]),
        threshold=arrays.take("threshold", 1),
        origin={"format": "gemma_scope", "path": str(path), "sha256": digest(path)},
    )


def _places(path: Path, place: Place | None) -> tuple[Place, Place]:
    parts = path.resolve().parts
    layers = [int(found[1]) for part in parts if (found := _LAYER.fullmatch(part))]
    kinds = [found[1] for part in parts for found in _REPOSITORY.finditer(part)]
    if place is None and not (layers and kinds):
        raise FormatError(
            f"nothing in the path of {path} says of which place it is; give SITE=PATH, such as "
            f"resid_post.12={path.name}"
        )
    known = place or Place(KINDS[kinds[-1]], layers[-1])
    if kinds and kinds[-1] == "transcoders":
        return Place("mlp_normed", known.layer), known
    return known, known
