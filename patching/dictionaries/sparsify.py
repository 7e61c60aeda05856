"""Dictionaries as sparsify keeps them: a folder of ``cfg.json`` and ``sae.safetensors``.

Arrays: ``encoder.weight [m, d]``, ``encoder.bias [m]``, ``W_dec [m, d]``, ``b_dec [d]``, and
``W_skip [d_out, d_in]`` where there is a skip connection. All are TopK. An autoencoder takes
``b_dec`` off its input, a transcoder (``transcode``) does not. The folder is called after the
module, such as ``layers.3`` or ``layers.3.mlp``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.files import digest, read_arrays, read_settings
from patching.dictionaries.places import Place, module_place, parse_place
from tasks.errors import FormatError

SETTINGS, WEIGHTS = "cfg.json", "sae.safetensors"
WHAT = "a dictionary of sparsify"
ACTIVATIONS = ("topk",)
OURS = "circuits_places"
"""Where our own transcoders say what they read and write, which the format leaves to the folder."""


def read(folder: Path, place: Place | None = None) -> Dictionary:
    """Read a folder; ``place`` stands in for what its name says.

    Raises:
        FormatError: it is none of these, or one that circuits does not compute.
    """
    settings = read_settings(folder / SETTINGS, WHAT)
    activation = str(settings.get("activation", "topk"))
    if activation not in ACTIVATIONS:
        raise FormatError(f"{folder}: activation '{activation}'; circuits reads topk")
    arrays = read_arrays(folder / WEIGHTS, WHAT)
    W_enc, b_dec = arrays.take("encoder.weight", 2).T.contiguous(), arrays.take("b_dec", 1)
    transcodes, k = settings.get("transcode", False) is True, settings.get("k")
    if not isinstance(k, int) or isinstance(k, bool):
        raise FormatError(f"{folder}: k is {k!r}; it needs a whole number")
    reads, writes = _places(folder, settings, transcodes, place)
    return Dictionary(
        reads=reads,
        writes=writes,
        activation="topk",
        W_enc=W_enc,
        b_enc=arrays.take("encoder.bias", 1),
        W_dec=arrays.take("W_dec", 2),
        b_dec=b_dec,
        b_in=W_enc.new_zeros(W_enc.shape[0]) if transcodes else b_dec.clone(),
        k=k,
        skip=arrays.maybe("W_skip", 2),
        origin={
            "format": "sparsify",
            "path": str(folder),
            "sha256": digest(folder / SETTINGS, folder / WEIGHTS),
            **({"circuits": settings["circuits"]} if "circuits" in settings else {}),
        },
    )


def _places(
    folder: Path, settings: dict[str, Any], transcodes: bool, place: Place | None
) -> tuple[Place, Place]:
    ours = settings.get(OURS)
    if isinstance(ours, list) and len(ours) == 2:
        reads, writes = (parse_place(str(each)) for each in ours)
        return reads, place or writes
    found = place or module_place(folder.resolve().name)
    if not transcodes:
        return found, found
    if found.kind != "mlp_out":
        raise FormatError(f"{folder}: a transcoder of {found}; circuits reads those of MLPs")
    return Place("mlp_normed", found.layer), found


def to_files(dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and arrays of a TopK dictionary."""
    d = dictionary
    b_enc = d.b_enc
    if not bool((d.b_in == (0 if d.is_transcoder else d.b_dec)).all()):
        left = d.b_in if d.is_transcoder else d.b_in - d.b_dec
        b_enc = b_enc - left @ d.W_enc
    arrays = {
        "encoder.weight": d.W_enc.T.contiguous(),
        "encoder.bias": b_enc,
        "W_dec": d.W_dec,
        "b_dec": d.b_dec,
        **({} if d.skip is None else {"W_skip": d.skip}),
    }
    settings = {
        "activation": "topk",
        "d_in": d.W_enc.shape[0],
        "num_latents": d.n_latents,
        "expansion_factor": -(-d.n_latents // d.W_enc.shape[0]),
        "k": d.k,
        "transcode": d.is_transcoder,
        "skip_connection": d.skip is not None,
        OURS: [str(d.reads), str(d.writes)],
        **({"circuits": d.origin["circuits"]} if "circuits" in d.origin else {}),
    }
    return settings, {name: v.detach().float().contiguous() for name, v in arrays.items()}
