"""No network, no telemetry, one place for what the tests share."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails instead of waiting for it."""

    def refuse(self: socket.socket, address: object) -> None:
        raise OSError(f"tests do not use the network, but one connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """SmolLM2-135M-Instruct, opened by its name; skips where its package is not installed."""
    return _named("smollm2-135m")


@pytest.fixture(scope="session")
def gemma3() -> Any:
    """Gemma 3 270M, opened by its name; skips where its packages are not installed."""
    return _named("gemma3-270m")


def _named(name: str) -> Any:
    """A real model, converted once into the user's own cache, whichever worker comes first."""
    import circuits

    needs_package(name)
    return circuits.load_model(name)


def needs_package(name: str) -> None:
    """Skip the test where a named model can neither be converted nor is so already."""
    from patching.sources import NAMED

    if not NAMED[name].installed and not NAMED[name].converted:
        pytest.skip(f"{name} is not installed; {NAMED[name].install}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and data beside the project; skips where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real models and data beside the project is not there")
    return SHARED
