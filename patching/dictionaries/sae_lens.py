"""Dictionaries as SAELens 6 keeps them: a folder of ``cfg.json`` and ``sae_weights.safetensors``.

Arrays: ``W_enc [d, m]``, ``b_enc [m]``, ``W_dec [m, d]``, ``b_dec [d]``; of JumpReLU ``threshold``,
of gated ones ``b_gate b_mag r_mag`` and no ``b_enc``, of skip transcoders ``W_skip [d_out, d_in]``.
BatchTopK and matryoshka dictionaries are kept as JumpReLU. Older files have their settings flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary, Gate
from patching.dictionaries.files import Arrays, digest, read_arrays, read_settings
from patching.dictionaries.places import Place, hook_name, hook_place
from tasks.errors import FormatError, unknown

SETTINGS, WEIGHTS = "cfg.json", "sae_weights.safetensors"
WHAT = "a dictionary of SAELens"
VERSION = "6.54.12"
"""The release whose form is written."""

ACTIVATIONS = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
SCALINGS = {
    "none": "none",
    "constant_norm_rescale": "constant_norm_rescale",
    "layer_norm": "layer_norm",
}


def read(folder: Path, place: Place | None = None) -> Dictionary:
    """Read a folder.

    ``place`` stands in for the place that the settings name.

    Raises:
        FormatError: it is none of these, or one that circuits does not compute.
    """
    settings = read_settings(folder / SETTINGS, WHAT)
    arrays = read_arrays(folder / WEIGHTS, WHAT)
    architecture = str(settings.get("architecture", "standard"))
    if architecture not in ACTIVATIONS:
        raise FormatError(f"{folder}: {unknown('architecture', architecture, ACTIVATIONS)}")
    _check_settings(folder, settings)
    W_enc, W_dec, b_dec = arrays.take("W_enc", 2), arrays.take("W_dec", 2), arrays.take("b_dec", 1)
    b_enc, gate = _encoder_bias(arrays, W_enc, architecture)
    activation = _activation(architecture, settings)
    if activation == "topk" and settings.get("rescale_acts_by_decoder_norm"):
        # f and the order of latents count in units of the decoder's rows.
        sizes = W_dec.norm(dim=-1)
        W_enc, b_enc, W_dec = W_enc * sizes, b_enc * sizes, W_dec / sizes[:, None]
    reads, writes = _places(folder, settings, architecture, place)
    subtracts = settings.get("apply_b_dec_to_input", "transcoder" not in architecture)
    k = _k(folder, settings) if activation == "topk" else None
    return Dictionary(
        reads=reads,
        writes=writes,
        activation=activation,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        b_in=b_dec.clone() if subtracts else W_enc.new_zeros(W_enc.shape[0]),
        threshold=arrays.take("threshold", 1) if activation == "jumprelu" else None,
        k=k,
        gate=gate,
        skip=arrays.take("W_skip", 2) if "skip" in architecture else None,
        scaling=SCALINGS[str(settings.get("normalize_activations", "none"))],
        origin=_origin(folder, settings),
    )


def _origin(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    about = settings.get("metadata")
    named = about if isinstance(about, dict) else settings
    known = {name: named[name] for name in ("model_name", "circuits") if name in named}
    hashed = digest(folder / SETTINGS, folder / WEIGHTS)
    return {"format": "sae_lens", "path": str(folder), "sha256": hashed, **known}


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what the arrays do not say, and circuits does not compute."""
    scaling = settings.get("normalize_activations", "none")
    if scaling == "expected_average_only_in":
        raise FormatError(
            f"{folder}: its input scaling (expected_average_only_in) is not folded into its "
            f"weights; load and save it once with SAELens, which folds it"
        )
    if str(scaling) not in SCALINGS:
        raise FormatError(f"{folder}: {unknown('normalize_activations', str(scaling), SCALINGS)}")
    if settings.get("finetuning_scaling_factor"):
        raise FormatError(f"{folder}: its finetuning scaling is not folded into its weights")


def _encoder_bias(arrays: Arrays, W_enc: Tensor, architecture: str) -> tuple[Tensor, Gate | None]:
    if architecture != "gated":
        return arrays.take("b_enc", 1), None
    gate = Gate(arrays.take("b_gate", 1), arrays.take("b_mag", 1), arrays.take("r_mag", 1))
    return W_enc.new_zeros(W_enc.shape[1]), gate


def _activation(architecture: str, settings: Mapping[str, Any]) -> str:
    """Before version 6, TopK dictionaries were standard ones with another function."""
    old = settings.get("activation_fn_str", settings.get("activation_fn", "relu"))
    return "topk" if old == "topk" else ACTIVATIONS[architecture]


def _k(folder: Path, settings: Mapping[str, Any]) -> int:
    old = settings.get("activation_fn_kwargs")
    k = settings.get("k", old.get("k") if isinstance(old, dict) else None)
    if not isinstance(k, int) or isinstance(k, bool):
        raise FormatError(f"{folder}: k is {k!r}; a TopK dictionary needs a whole number")
    return k


def _places(
    folder: Path, settings: Mapping[str, Any], architecture: str, place: Place | None
) -> tuple[Place, Place]:
    about = settings.get("metadata")
    named = about if isinstance(about, dict) else settings
    reads = named.get("hook_name", settings.get("hook_point"))
    writes = named.get("hook_name_out") if "transcoder" in architecture else None
    if "transcoder" in architecture:
        if not (isinstance(reads, str) and isinstance(writes, str)):
            raise FormatError(f"{folder} does not say which hooks its transcoder reads and writes")
        return hook_place(reads), place or hook_place(writes)
    if place is None and not isinstance(reads, str):
        raise FormatError(f"{folder} does not say of which hook it is; give SITE={folder}")
    found = place or hook_place(str(reads))
    return found, found


def to_files(dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and arrays that SAELens 6 reads as the same dictionary.

    Raises:
        FormatError: a bias of the input that is neither the decoder's nor zero, which it cannot
            say, or a kind of dictionary that it does not have.
    """
    d = dictionary
    subtracts = not d.is_transcoder and bool((d.b_in == d.b_dec).all()) and bool(d.b_in.any())
    W_enc, b_enc = d.W_enc, d.b_enc
    if not subtracts and bool(d.b_in.any()):
        b_enc = b_enc - d.b_in @ W_enc
    arrays = {"W_enc": W_enc, "W_dec": d.W_dec, "b_dec": d.b_dec}
    if d.gate is None:
        arrays["b_enc"] = b_enc
    else:
        arrays |= {name: getattr(d.gate, name) for name in ("b_gate", "b_mag", "r_mag")}
    if d.threshold is not None:
        arrays["threshold"] = d.threshold
    if d.skip is not None:
        arrays["W_skip"] = d.skip
    settings: dict[str, Any] = {
        "architecture": _architecture(d),
        "d_in": W_enc.shape[0],
        "d_sae": d.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": subtracts,
        "normalize_activations": d.scaling,
        "reshape_activations": "hook_z" if d.writes.kind == "z" else "none",
        "sae_lens_version": VERSION,
        "metadata": _metadata(d),
    }
    if d.activation == "topk":
        settings |= {"k": d.k, "rescale_acts_by_decoder_norm": False}
    if d.is_transcoder:
        settings["d_out"] = d.W_dec.shape[1]
    return settings, {name: v.detach().to(torch.float32) for name, v in arrays.items()}


def _metadata(dictionary: Dictionary) -> dict[str, Any]:
    named = {name: v for name, v in dictionary.origin.items() if name in ("model_name", "circuits")}
    out = {"hook_name_out": hook_name(dictionary.writes)} if dictionary.is_transcoder else {}
    return {"hook_name": hook_name(dictionary.reads), **out, **named}


def _architecture(d: Dictionary) -> str:
    if not d.is_transcoder:
        return "standard" if d.activation == "relu" else d.activation
    name = ("skip_" if d.skip is not None else "") + "transcoder"
    if d.activation == "jumprelu":
        return f"jumprelu_{name}"
    if d.activation != "relu":
        raise FormatError(
            f"SAELens has no {d.activation} transcoder; ours are written by 'write_dictionary' in "
            f"the form of sparsify"
        )
    return name
