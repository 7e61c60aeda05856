"""Where a model comes from: GGUF files, models in installed packages, directories; no torch.

A GGUF file is converted once into the user's cache (:mod:`patching.sources.cache`), and what is
opened from then on is the directory there. Everything here is checked before torch is imported.
"""

from __future__ import annotations

from pathlib import Path

from patching.sources.gguf import SUFFIX, Gguf
from patching.sources.named import NAMED

__all__ = ["NAMED", "Gguf", "gguf_of", "is_gguf"]


def gguf_of(path: str) -> Gguf | None:
    """The GGUF that a name or a path stands for; None for directories and hub ids.

    Raises:
        ModelError: the package that holds a named model is not installed.
    """
    if path in NAMED:
        return NAMED[path].source()
    return Gguf.of_file(Path(path)) if is_gguf(path) else None


def is_gguf(path: str) -> bool:
    """Whether the path is that of a GGUF file, by its ending."""
    return Path(path).suffix.lower() == SUFFIX and not Path(path).is_dir()
