"""The shape that a model's files state, read without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patching.sources import gguf_of
from patching.sources.cache import folder
from patching.sources.directory import CONFIG
from patching.sources.header import read_header
from tasks.errors import ModelError

OF_CONFIG = {
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "n_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "n_kv_heads": ("num_key_value_heads",),
    "d_model": ("hidden_size", "n_embd", "d_model"),
}
OF_GGUF = {
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "d_model": "embedding_length",
}


def stated_shape(path: str) -> dict[str, int]:
    """Numbers of a model's shape by the names of an anatomy, as far as its files state them.

    ``path`` is what a model is opened from; nothing is known of a hub id before it is fetched, nor
    of what cannot be read, which opening the model tells.
    """
    gguf = gguf_of(path)
    if gguf is None:
        return _of_directory(Path(path))
    if not gguf.parts:
        return _of_directory(folder(gguf.sha256))
    try:
        header = read_header(gguf.parts[0])
    except ModelError:
        return {}
    stated = {n: header.facts.get(f"{header.architecture}.{key}") for n, key in OF_GGUF.items()}
    return {name: value for name, value in stated.items() if isinstance(value, int)}


def shape_of_config(config: Mapping[str, Any]) -> dict[str, int]:
    """The same of the content of a config.json."""
    stated = {
        name: next((config[key] for key in keys if key in config), None)
        for name, keys in OF_CONFIG.items()
    }
    return {name: value for name, value in stated.items() if isinstance(value, int)}


def _of_directory(path: Path) -> dict[str, int]:
    try:
        config = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return shape_of_config(config) if isinstance(config, dict) else {}
