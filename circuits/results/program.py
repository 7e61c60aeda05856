"""What a result was made with: versions of libraries, and the state of our own source."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "torch",
    "transformers",
    "transformer-lens",
    "tokenizers",
    "networkx",
    "numpy",
    "safetensors",
    "matplotlib",
)


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit_of(home: Path) -> tuple[str | None, bool]:
    """The git commit of a source folder, None where there is none, and whether it was changed."""
    commit = _git(home, "rev-parse", "HEAD") if (home / ".git").exists() else None
    return commit, bool(commit and _git(home, "status", "--porcelain"))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
