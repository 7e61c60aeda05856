"""A GGUF file becomes a Hugging Face directory of float32 safetensors, once, in the user's cache.

transformers reads the quantised blocks; the numbers they stand for are kept exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patching.sources import cache
from patching.sources.boundary import opening, quiet
from patching.sources.directory import Weights
from patching.sources.fit import check_built, check_loaded
from patching.sources.gguf import Gguf, check_complete, check_readable, check_readers
from patching.sources.header import read_header

KIND = "circuits converted model"
BYTES = 4
BESIDE = 64 << 20
"""Room for the tokenizer and the rest, in bytes."""
WORKPIECE = "model.gguf"
WAY = "take another GGUF file of the model, or its directory of config.json and model.safetensors"


def converted(gguf: Gguf) -> Path:
    """The directory that holds the model of a GGUF file; made where it is not there yet.

    Raises:
        ModelError: the file cannot be opened, the packages that read it are not installed, or the
            cache cannot be written; then nothing is left there.
    """
    if not gguf.expected:
        check_readable(gguf.parts[0])
    place = cache.folder(gguf.sha256)
    if place.is_dir():
        return place
    check_readers()
    if len(gguf.parts) == 1:
        check_complete(gguf.parts[0], read_header(gguf.parts[0]))
    with cache.making(gguf.sha256, sum(part.stat().st_size for part in gguf.parts)) as partial:
        if partial is not None:
            _convert(gguf, partial)
    return place


def _convert(gguf: Gguf, folder: Path) -> None:
    """Fill an empty folder with the model, its tokenizer, and where they come from."""
    file = folder / WORKPIECE
    _bring(gguf, file)
    header = read_header(file)
    check_complete(gguf.parts[0], header)
    cache.check_room(header.weights.elements * BYTES + BESIDE)
    with quiet(), _without_bar(), opening(f"the GGUF file '{gguf.name}'", WAY):
        model, tokenizer = _read(gguf.name, folder, header.weights)
    with _saving():
        file.unlink()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        about = {
            "kind": KIND,
            "title": gguf.title,
            "quantisation": header.quantisation,
            "sha256": gguf.sha256,
            "file": gguf.parts[0].name,
        }
        (folder / cache.ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _bring(gguf: Gguf, file: Path) -> None:
    """Put the GGUF alone into a folder, so that nothing beside it is read with it."""
    if len(gguf.parts) == 1:
        try:
            file.symlink_to(gguf.parts[0].resolve())
        except (OSError, NotImplementedError):
            pass
        else:
            if gguf.expected:
                gguf.check_hash()
            return
    gguf.join(file)


def _read(name: str, folder: Path, weights: Weights) -> tuple[Any, Any]:
    """The model in float32 as one that can be saved, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    file: dict[str, Any] = {"gguf_file": WORKPIECE, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **file)
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    check_built(name, fresh, weights)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, **file
    )
    check_loaded(name, model, info)
    tokenizer = AutoTokenizer.from_pretrained(folder, **file)
    # A model that was read from GGUF refuses to be saved; one of the same weights does not.
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    return fresh, tokenizer


@contextmanager
def _saving() -> Iterator[None]:
    """Full disks as the OSError they are: safetensors has an error of its own for them."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except SafetensorError as error:
        raise OSError(None, str(error)) from error


@contextmanager
def _without_bar() -> Iterator[None]:
    """Without the bar of transformers' GGUF reader, which its own switch does not reach."""
    from transformers import modeling_gguf_pytorch_utils as reader

    bar = reader.tqdm
    reader.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        reader.tqdm = bar
