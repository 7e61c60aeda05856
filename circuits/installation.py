"""What is installed here, and whether it works: versions, devices, memory, models, the cache."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import circuits
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows
from tasks.errors import CircuitsError

LIBRARIES = (
    *("torch", "transformers", "transformer-lens", "tokenizers", "safetensors", "networkx"),
    *("numpy", "pandas", "pydantic", "typer", "matplotlib", "gguf"),
)
MISSING = "not installed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried, whether it works, and what was seen or what to do."""

    name: str
    works: bool
    said: str


@dataclass(frozen=True)
class Installation(Reported):
    """Versions by library, devices, memory and models by name, and what was tried."""

    program: str
    python: str
    platform: str
    versions: dict[str, str]
    devices: dict[str, str]
    memory: str
    models: dict[str, str]
    cache: str
    checks: tuple[Check, ...]

    @property
    def works(self) -> bool:
        """Whether everything that was tried works."""
        return all(check.works for check in self.checks)

    def report(self) -> Report:
        """A table, and below it what was tried."""
        rows = {
            "circuits": self.program,
            "python": f"{self.python}, {self.platform}",
            "libraries": ", ".join(f"{name} {found}" for name, found in self.versions.items()),
            "devices": ", ".join(f"{name} ({said})" for name, said in self.devices.items()),
            "memory": self.memory,
            "models": ", ".join(f"{name} ({said})" for name, said in self.models.items()),
            "cache": self.cache,
        }
        tried = {c.name: f"{'works' if c.works else 'FAILS'}: {c.said}" for c in self.checks}
        return Report.of(Rows(rows), "What was tried:", Rows(tried))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def doctor() -> Installation:
    """Look at the installation, and try a small model, a picture and the cache.

    >>> circuits.doctor().works
    True
    """
    from patching.sources import NAMED, cache

    named = {
        name: "installed" if model.installed else "converted" if model.converted else MISSING
        for name, model in NAMED.items()
    }
    return Installation(
        program=circuits.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        versions={name: _version(name) for name in LIBRARIES},
        devices=_devices(),
        memory=_memory(),
        models={"nano": "built in", **named},
        cache=str(cache.home()),
        checks=(
            _tried("the built-in model", _model),
            _tried("pictures", _picture),
            _tried("the cache", _cache),
        ),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return MISSING


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"}
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = f"{about.name}, {about.total_memory / 1e9:.0f} GB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = (os.sysconf(name) * page for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"


def _tried(name: str, trial: Any) -> Check:
    try:
        return Check(name, True, trial())
    except (CircuitsError, OSError, ImportError) as error:
        return Check(name, False, str(error))


def _model() -> str:
    """A few prompts through the built-in model."""
    (ability,) = circuits.task_abilities("nano", ["ioi"], n=4)
    return f"nano answers {ability.right:.0%} of {ability.n} prompts right"


def _picture() -> str:
    from graphs.printed import families, printed
    from graphs.sheet import Sheet

    drawn = printed(Sheet(0.0, 0.0, 72.0, 72.0, ()), "pdf", 72)
    return f"{len(drawn):,} bytes drawn; the font of pictures is {families()[0]}"


def _cache() -> str:
    from patching.sources import cache

    place = cache.home()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise OSError(f"{place} cannot be written; set {cache.VARIABLE} to another folder")
    return f"{place} can be written"
