"""The program that runs: what must be the same in processes that work together."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("circuits", "graphs", "patching", "tasks")


@cache
def program() -> dict[str, str]:
    """The source of the packages and the version of torch, each by its name."""
    import torch

    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
    return {"the source": digest.hexdigest()[:12], "the version of torch": torch.__version__}
