"""From a directory or a hub id to a transformers model and its tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from patching.processes import own_device
from patching.sources import gguf_of
from patching.sources.boundary import opening, quiet, without_bars
from patching.sources.convert import converted
from patching.sources.directory import check_directory
from patching.sources.fit import check_built, check_loaded
from tasks.errors import ModelError

__all__ = [
    "check_device",
    "digest",
    "load_tokenizer",
    "load_weights",
    "stored_dtype",
    "without_bars",
]

ID_WAY = (
    "offline, use 'nano' (shipped with circuits), a directory that holds config.json and "
    "model.safetensors, a GGUF file, or an id that is already in the Hugging Face cache"
)
DIRECTORY_WAY = (
    "one of its files is broken or changed, or made by a newer transformers than the one "
    "installed; fetch it again"
)
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
TOKENIZER_WAY = (
    "fetch its tokenizer files again, or move them away: without one the model takes prompts as "
    "lists of token ids"
)


def check_device(name: str | torch.device) -> torch.device:
    """A device that torch can use here; of several processes each has a CUDA device of its own.

    Raises:
        ModelError: torch knows no such device, or does not see one on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"'{name}' is not a device; write cpu, cuda, cuda:1 or mps") from None
    if device.index is None and (own := own_device(device.type)) is not None:
        device = torch.device(device.type, own)
    seen = {"cpu": 1, "cuda": torch.cuda.device_count()}
    seen["mps"] = int(torch.backends.mps.is_available())
    number = seen.get(device.type, 0)
    if (device.index or 0) >= number:
        here = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in seen.items() if n)
        raise ModelError(f"torch sees no device '{device}' on this machine; it sees: {here}")
    return device


def load_weights(path: str, dtype: torch.dtype) -> Any:
    """The transformers model of a directory, a hub id, a GGUF file or a named model.

    Its attention is the one that can be taken apart. No code from there ever runs: neither the
    model's own nor a pickle. A GGUF file is converted first (:mod:`patching.sources.convert`).

    Raises:
        ModelError: it cannot be found offline, is incomplete or broken, or its configuration and
            its weights are of two models.
    """
    place = _place(path)
    weights = check_directory(place) if isinstance(place, Path) else None
    given = ("model id", ID_WAY) if weights is None else ("directory", DIRECTORY_WAY)
    with quiet(), opening(f"the {given[0]} '{path}'", given[1]):
        from transformers import AutoConfig, AutoModelForCausalLM

        # Without a word, transformers asks on standard input whether to run code from there.
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if weights is not None:
            with torch.device("meta"):
                built = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            check_built(path, built, weights)
        model, info = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    check_loaded(path, model, info)
    return model


def load_tokenizer(path: str) -> Any:
    """The tokenizer of what :func:`load_weights` opens; None for a directory that has none.

    Raises:
        ModelError: it cannot be opened.
    """
    place = _place(path)
    if isinstance(place, Path) and not any((place / name).exists() for name in TOKENIZERS):
        return None
    with quiet(), opening(f"the tokenizer of '{path}'", TOKENIZER_WAY):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)


def _place(path: str) -> Path | str:
    """The directory to open, converted from GGUF where need be; a hub id as it is."""
    gguf = gguf_of(path)
    if gguf is not None:
        return converted(gguf)
    return Path(path) if Path(path).is_dir() else path


def stored_dtype(path: str) -> torch.dtype | None:
    """The number type that a directory's or hub id's configuration names for its weights."""
    from transformers import PreTrainedConfig

    config, _ = PreTrainedConfig.get_config_dict(_place(path))
    name = config.get("dtype", config.get("torch_dtype"))
    found = getattr(torch, str(name).removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else None


def digest(hf: Any) -> str:
    """SHA-256 of configuration and weights; independent of where the model was loaded from."""
    config = hf.config.to_dict()
    for volatile in ("_name_or_path", "architectures", "transformers_version", "dtype"):
        config.pop(volatile, None)
    hasher = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(hf.state_dict().items()):
        hasher.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        data = value.detach().cpu().contiguous().flatten()
        hasher.update(data.view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
