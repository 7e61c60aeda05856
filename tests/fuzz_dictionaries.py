"""Small dictionaries in every format, and what reads each of their files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patching.dictionaries.circuit_tracer import SETTINGS as YAML
from patching.dictionaries.read import read_dictionary, write_dictionary
from patching.dictionaries.sae_lens import SETTINGS, WEIGHTS
from patching.dictionaries.sparsify import WEIGHTS as OF_SPARSIFY
from tests.patching.dictionaries.build import dictionary

FILES = {
    "SAE settings": f"sae/{SETTINGS}",
    "SAE weights": f"sae/{WEIGHTS}",
    "standard SAE settings": f"standard/{SETTINGS}",
    "sparsify settings": f"layers.1.mlp/{SETTINGS}",
    "sparsify weights": f"layers.1.mlp/{OF_SPARSIFY}",
    "Gemma Scope": "params.npz",
    "circuit-tracer settings": f"tracer/{YAML}",
    "circuit-tracer weights": "tracer/layer_1.safetensors",
}
"""Files by the name of their reader; the others of the same folder stay as they are."""
JSON = tuple(name for name, path in FILES.items() if path.endswith(".json"))
TENSORS = tuple(name for name, path in FILES.items() if path.endswith(".safetensors"))


def reads() -> dict[str, Callable[[Path], Any]]:
    """What reads every file: the dictionary that it is a part of, which is then used."""
    return dict.fromkeys(FILES, _read)


def _read(path: Path) -> None:
    here = path.parent / "layer_1.safetensors" if path.name == YAML else path
    found = read_dictionary(here, "resid_post.1" if path.suffix == ".npz" else None)
    x = torch.zeros(2, found.W_enc.shape[0], dtype=found.W_enc.dtype)
    repr((found, found.latent(0), found.decode(found.amounts(x), x)))


def write(folder: Path) -> dict[str, list[bytes]]:
    """Write one of every format into the folder, and give the bytes of all their files."""
    from safetensors.torch import save_file

    for name in ("sae", "standard", "layers.1.mlp", "tracer"):
        (folder / name).mkdir()
    small: dict[str, Any] = {"width": 8, "latents": 9, "dtype": torch.float32}
    plain = dictionary("resid_post.1", "jumprelu", **small)
    write_dictionary(plain, folder / "sae")
    write_dictionary(dictionary("resid_post.1", "relu", **small), folder / "standard")
    across = dictionary("mlp_out.1", "topk", reads="mlp_normed.1", skip=True, **small)
    write_dictionary(across, folder / "layers.1.mlp")
    arrays = {name: getattr(plain, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    packed = io.BytesIO()
    named = {name: value.numpy() for name, value in arrays.items()}
    np.savez(packed, threshold=plain.threshold.numpy(), **named)
    (folder / "params.npz").write_bytes(packed.getvalue())
    settings = "feature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    (folder / "tracer" / YAML).write_text(settings, encoding="utf-8")
    arrays["W_enc"] = plain.W_enc.T.contiguous()
    save_file(arrays, folder / "tracer" / "layer_1.safetensors")
    return {name: [(folder / path).read_bytes()] for name, path in FILES.items()}
