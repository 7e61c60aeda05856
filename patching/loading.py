"""From a directory or a hub id to a transformers model and its tokenizer."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasks.errors import ModelError


def check_device(name: str | torch.device) -> torch.device:
    """A device that torch can use here.

    Raises:
        ModelError: torch knows no such device, or does not see one on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"'{name}' is not a device; write cpu, cuda, cuda:1 or mps") from None
    seen = {"cpu": 1, "cuda": torch.cuda.device_count()}
    seen["mps"] = int(torch.backends.mps.is_available())
    number = seen.get(device.type, 0)
    if (device.index or 0) >= number:
        here = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in seen.items() if n)
        raise ModelError(f"torch sees no device '{name}' on this machine; it sees: {here}")
    return device


def load_weights(path: str, dtype: torch.dtype) -> Any:
    """The transformers model of a directory or hub id, with the attention that can be taken apart.

    Raises:
        ModelError: it cannot be found offline.
    """
    with warnings.catch_warnings():
        # tqdm regrets on import that a notebook without ipywidgets will have bars of text.
        warnings.filterwarnings("ignore", "IProgress not found")
        from transformers import AutoModelForCausalLM

    try:
        with without_bars():
            return AutoModelForCausalLM.from_pretrained(
                path,
                dtype=dtype,
                attn_implementation="eager",
                # Unless told, transformers asks on standard input whether to run code found there.
                trust_remote_code=False,
                use_safetensors=True,
            )
    except (OSError, ValueError, KeyError) as error:
        kind = "directory" if Path(path).is_dir() else "model id"
        raise ModelError(
            f"cannot open the {kind} '{path}': {str(error).splitlines()[0]}\n"
            f"  offline, use 'nano' (shipped with circuits), a directory that holds config.json "
            f"and model.safetensors, or an id that is already in the Hugging Face cache"
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers: a library prints nothing, and the command line has its own.

    Downloads show theirs all the same, which are the hub's.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a directory or hub id; None for a directory that has none.

    Raises:
        ModelError: it cannot be opened.
    """
    from transformers import AutoTokenizer

    if Path(path).is_dir():
        names = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
        if not any((Path(path) / name).exists() for name in names):
            return None
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot open the tokenizer of '{path}': {str(error).splitlines()[0]}"
        ) from error


def stored_dtype(path: str) -> torch.dtype | None:
    """The number type that a directory's or hub id's configuration names for its weights."""
    from transformers import PreTrainedConfig

    config, _ = PreTrainedConfig.get_config_dict(path)
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
