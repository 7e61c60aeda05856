"""Transcoders as circuit-tracer keeps them: ``config.yaml`` beside ``layer_I.safetensors``.

Arrays of a layer: ``W_enc [m, d]``, ``b_enc``, ``W_dec [m, d]``, ``b_dec``, perhaps
``activation_function.threshold`` (JumpReLU, else ReLU) and ``W_skip``. The configuration names the
hooks that all layers read and write. Cross-layer transcoders, whose latents write to all later
layers, are refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.files import digest, read_arrays
from patching.dictionaries.places import Place, hook_place
from tasks.errors import FormatError

SETTINGS = "config.yaml"
WHAT = "a transcoder of circuit-tracer"
FILE = re.compile(r"layer_(\d+)\.safetensors")
MOST_SETTINGS = 65_536


def read(path: Path, place: Place | None = None) -> Dictionary:
    """Read the file of one layer; its configuration stands beside it.

    Raises:
        FormatError: it is none of these, or of a cross-layer transcoder.
    """
    found = FILE.fullmatch(path.name)
    if found is None:
        raise FormatError(f"{path} is not {WHAT}: those are called layer_3.safetensors")
    settings = read_config(path.parent / SETTINGS)
    layer = int(found[1])
    reads = _hook(settings, "feature_input_hook", path, layer)
    writes = place or _hook(settings, "feature_output_hook", path, layer)
    arrays = read_arrays(path, WHAT)
    W_enc = arrays.take("W_enc", 2).T.contiguous()
    threshold = arrays.values.get("activation_function.threshold")
    return Dictionary(
        reads=reads,
        writes=writes,
        activation="relu" if threshold is None else "jumprelu",
        W_enc=W_enc,
        b_enc=arrays.take("b_enc", 1),
        W_dec=arrays.take("W_dec", 2),
        b_dec=arrays.take("b_dec", 1),
        b_in=W_enc.new_zeros(W_enc.shape[0]),
        threshold=None if threshold is None else threshold.flatten(),
        skip=arrays.maybe("W_skip", 2),
        origin={
            "format": "circuit_tracer",
            "path": str(path),
            "sha256": digest(path.parent / SETTINGS, path),
        },
    )


def read_config(path: Path) -> dict[str, Any]:
    """The configuration that all layers share.

    Raises:
        FormatError: it cannot be read, or describes cross-layer transcoders.
    """
    import yaml

    try:
        text = path.read_bytes()[: MOST_SETTINGS + 1]
        # Anchors and aliases make small files large; no configuration needs them.
        if len(text) > MOST_SETTINGS or re.search(rb"(?:^|[\s\[{,:-])[&*][^\s]", text):
            raise FormatError(f"{path} is too large, or has YAML aliases, which are not read")
        found = yaml.safe_load(text.decode())
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not {WHAT}: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise FormatError(f"{path} is not {WHAT}: it holds no settings")
    if "cross" in str(found.get("model_kind", "")) or list(path.parent.glob("W_enc_*.safetensors")):
        raise FormatError(
            f"{path.parent} holds cross-layer transcoders, whose latents write to several layers; "
            f"circuits reads per-layer ones"
        )
    return found


def _hook(settings: dict[str, Any], name: str, path: Path, layer: int) -> Place:
    hook = settings.get(name)
    if not isinstance(hook, str):
        raise FormatError(f"{path.parent / SETTINGS} does not name its {name}")
    return hook_place(f"blocks.{layer}.{hook}")
