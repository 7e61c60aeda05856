"""Reading and writing a dictionary, whatever format it is in: recognised by what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from patching.dictionaries import circuit_tracer, gemma_scope, sae_lens, sparsify
from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.files import refuse_pickle
from patching.dictionaries.places import Place, parse_place
from tasks.errors import FormatError

FORMATS = (
    "a folder of SAELens (cfg.json, sae_weights.safetensors), a folder of sparsify (cfg.json, "
    "sae.safetensors), params.npz of Gemma Scope, or layer_I.safetensors of circuit-tracer"
)


def read_dictionary(path: str | Path, site: str | None = None) -> Dictionary:
    """Read a dictionary; ``site`` says where it belongs where its files do not, or say otherwise.

    >>> _ = circuits.train_dictionary(model, latents=64, steps=40, tokens=2000, n=8, out="sae")
    >>> circuits.load_dictionary("sae")
    Dictionary(topk SAE of resid_post.1: 64 latents, width 128, k 16)

    Raises:
        FormatError: nothing is there, it is of no format that circuits reads, is a pickle, or
            contradicts itself.
    """
    place, here = None if site is None else parse_place(site), Path(path)
    refuse_pickle(here)
    try:
        found = _read(here, place)
    except OSError as error:
        raise FormatError(f"{here} cannot be read: {error.strerror}") from None
    return found


def _read(path: Path, place: Place | None) -> Dictionary:
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if {sae_lens.SETTINGS, sae_lens.WEIGHTS} <= names:
            return sae_lens.read(path, place)
        if {sparsify.SETTINGS, sparsify.WEIGHTS} <= names:
            return sparsify.read(path, place)
        if "params.npz" in names:
            return gemma_scope.read(path / "params.npz", place)
        for name in sorted(names):
            refuse_pickle(path / name)
        several = sorted(name for name in names if circuit_tracer.FILE.fullmatch(name))
        if several:
            raise FormatError(f"{path} holds several layers; name one file, such as {several[0]}")
        raise FormatError(f"{path} is no dictionary; circuits reads {FORMATS}")
    if not path.exists():
        raise FormatError(f"there is no dictionary {path}")
    if path.suffix == ".npz":
        return gemma_scope.read(path, place)
    if circuit_tracer.FILE.fullmatch(path.name):
        return circuit_tracer.read(path, place)
    if path.name in (sae_lens.SETTINGS, sae_lens.WEIGHTS, sparsify.WEIGHTS):
        return _read(path.parent, place)
    raise FormatError(f"{path} is no dictionary; circuits reads {FORMATS}")


def read_dictionaries(given: Iterable[str]) -> tuple[Dictionary, ...]:
    """Read dictionaries as the command line names them: ``PATH`` or ``SITE=PATH``.

    Raises:
        FormatError: one of them cannot be read, or two stand at one place.
    """
    found = []
    for text in given:
        site, equals, path = text.partition("=")
        found.append(read_dictionary(path, site) if equals else read_dictionary(text))
    check_apart(found)
    return tuple(found)


def check_apart(dictionaries: Sequence[Dictionary]) -> None:
    """Refuse two dictionaries that take apart one place.

    Raises:
        FormatError: see above.
    """
    places = [each.writes for each in dictionaries]
    if twice := sorted({str(place) for place in places if places.count(place) > 1}):
        raise FormatError(f"two dictionaries take {twice[0]} apart; give one for each place")


def write_dictionary(dictionary: Dictionary, folder: Path) -> None:
    """Write a dictionary into a folder that is there: for SAELens 6, or for sparsify.

    TopK transcoders, which SAELens does not have, are written for sparsify.
    """
    from safetensors.torch import save_file

    form = sparsify if dictionary.activation == "topk" and dictionary.is_transcoder else sae_lens
    settings, arrays = form.to_files(dictionary)
    text = json.dumps(settings, indent=2, sort_keys=True)
    (folder / form.SETTINGS).write_text(text + "\n", encoding="utf-8")
    save_file({name: v.contiguous() for name, v in arrays.items()}, folder / form.WEIGHTS)
