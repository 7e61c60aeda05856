"""Every test here has a cache of its own."""

import pytest

from tests import tiny_gguf


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """The folder of converted models; it is not there yet."""
    monkeypatch.setenv("CIRCUITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="session")
def original():
    """The model of the tiny GGUF files."""
    return tiny_gguf.llama()


@pytest.fixture
def gguf_file(tmp_path, original):
    """It in float32."""
    pytest.importorskip("gguf", reason="the package gguf, which reads GGUF files, is not installed")
    return tiny_gguf.write(tmp_path / "tiny.F32.gguf", original)
