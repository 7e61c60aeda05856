"""Training a dictionary from a model and text to a folder that others can read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits import __version__
from circuits.dictionaries.quality import WORDED
from circuits.dictionaries.text import TASKS, text_rows
from circuits.output import Output, written
from circuits.results.report import Report, Reported
from tasks.errors import MethodError, SiteError

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from circuits.dictionaries.quality import Quality
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.places import Place
    from patching.model import Model

KIND, REPORT = "circuits dictionary", "card.json"
FILES = re.compile(r"card\.json|cfg\.json|(sae|sae_weights)\.safetensors")
OUTPUT = Output("dictionary", REPORT, KIND, FILES)
HELD_OUT = 97
"""Seed of the tasks' prompts on which a dictionary is measured."""


@dataclass(frozen=True, repr=False)
class Trained(Reported):
    """A dictionary, its measured worth, and how it came about."""

    dictionary: Dictionary
    quality: Quality
    card: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """A row per task, with and without the dictionary in place."""
        return self.quality.to_frame()

    def report(self) -> Report:
        """What the dictionary is worth."""
        return self.quality.report()

    def __repr__(self) -> str:
        return f"Trained({self.dictionary!r}, {self.quality.explained:.1%} explained)"


def train_dictionary(
    model: Model | str = "nano",
    site: str = "resid_post.1",
    *,
    kind: str = "sae",
    latents: int = 1024,
    k: int = 16,
    steps: int = 5000,
    batch: int = 1024,
    rate: float = 1e-3,
    text: str = TASKS,
    tokens: int = 100_000,
    tasks: Iterable[str] = WORDED,
    n: int = 64,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train a TopK dictionary of one place of a model.

    ``kind`` is ``sae``, ``transcoder`` or ``skip-transcoder``, ``rate`` the learning rate. ``site``
    is what is taken apart: ``resid_post.1``, ``attn_out.0``, ``mlp_out.2``; of a transcoder an MLP,
    ``m2`` or ``mlp_out.2``, whose normed input is read. ``tokens`` activations of ``text`` (see
    :mod:`circuits.dictionaries.text`) are collected once, and ``steps`` steps of ``batch`` of them
    are taken. The result is measured on ``n`` other prompts of ``tasks``. With ``out`` it is
    written there, for SAELens 6 (TopK transcoders: for sparsify); a checkpoint beside it lets a
    stopped training go on. Method: :mod:`patching.dictionaries.train`.

    >>> circuits.train_dictionary(model, "resid_post.1", latents=64, k=4, steps=20, tokens=2000)
    Trained(Dictionary(topk SAE of resid_post.1: 64 latents, width 128, k 4), ...)

    Raises:
        MethodError, SiteError: settings that cannot be meant, a place that the model does not have.
        RunError: a folder that exists and may not be replaced, or is another training's.
        TaskError: no text, or no task that the model can be asked.
    """
    from circuits.models import load_model, name_of
    from patching.dictionaries.read import write_dictionary
    from patching.dictionaries.train import Recipe

    recipe = Recipe(kind, latents, k, steps, batch, rate, seed)
    recipe.check()
    reads, writes = places(site, kind)
    folder = None if out is None else Path(out)
    with OUTPUT.reserved(folder, force):
        opened = load_model(model)
        about = {
            "model_name": name_of(opened.path),
            "model_hash": opened.hash,
            "text": text,
            "tokens": tokens,
            "site": str(writes),
        }
        found = _trained(opened, recipe, reads, writes, about, folder, progress)
        measured = _measured(opened, found, tasks, n, progress)
        card = _card(recipe, about, measured)
        trained = Trained(found, measured, card)
        if folder is not None:
            with written(folder, OUTPUT.check) as partial:
                write_dictionary(found, partial)
                report = json.dumps(card, indent=2, sort_keys=True)
                (partial / REPORT).write_text(report + "\n", encoding="utf-8")
            checkpoint_of(folder).unlink(missing_ok=True)
    return trained


def places(site: str, kind: str) -> tuple[Place, Place]:
    """What a dictionary of a kind reads and takes apart at a site.

    Raises:
        SiteError: a transcoder of anything but an MLP.
    """
    from patching.dictionaries.places import Place, parse_place

    if found := re.fullmatch(r"m(\d+)", site):
        site = f"mlp_out.{found[1]}"
    place = parse_place(site)
    if kind == "sae":
        return place, place
    if place.kind != "mlp_out":
        raise SiteError(f"a transcoder takes an MLP apart, such as m2; given {site}")
    return Place("mlp_normed", place.layer), place


def checkpoint_of(folder: Path) -> Path:
    """Where a training keeps what it needs to go on."""
    return folder.with_name(f".{folder.name}.training.safetensors")


def _trained(
    model: Model,
    recipe: Any,
    reads: Place,
    writes: Place,
    about: dict[str, Any],
    folder: Path | None,
    progress: Progress | None,
) -> Dictionary:
    from patching.dictionaries.collect import collect
    from patching.dictionaries.train import Training, train
    from patching.sweep import Sweep

    _check_place(model, reads, writes)
    rows = text_rows(model, about["text"], about["tokens"], recipe.seed, progress)
    wanted = [reads] if reads == writes else [reads, writes]
    values = collect(model, rows, wanted, Sweep(32, progress).counting(len(rows), "activations"))
    training = Training.start(recipe, values[0], values[1] if len(values) > 1 else None)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    checkpoint = None if folder is None else checkpoint_of(folder)
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint, key)
    train(training, checkpoint, key, progress)
    origin = {"model_name": about["model_name"], "circuits": {**about, "version": __version__}}
    return training.dictionary(reads, writes, **origin)


def _check_place(model: Model, *wanted: Place) -> None:
    anatomy = model.anatomy
    for place in wanted:
        if place.layer >= (1 if place.kind == "input" else anatomy.n_layers):
            raise SiteError(f"this model has no {place}: layers are 0 to {anatomy.n_layers - 1}")
        if place.kind == "resid_mid" and anatomy.parallel:
            raise SiteError(f"this model has no {place}: attention and MLP read one stream")


def _measured(
    model: Model, found: Dictionary, tasks: Iterable[str], n: int, progress: Progress | None
) -> Quality:
    from circuits.dictionaries.quality import prompts_for, quality

    if progress is not None:
        progress(0, 0, "measuring the dictionary")
    prompts, refused = prompts_for(model, tasks, n, HELD_OUT)
    if not prompts:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise MethodError(f"the dictionary cannot be measured on any task ({reasons})")
    return quality(model, found, prompts)


def _card(recipe: Any, about: dict[str, Any], measured: Quality) -> dict[str, Any]:
    return {
        "kind": KIND,
        "version": __version__,
        "recipe": asdict(recipe),
        "trained_on": about,
        "quality": measured.to_json(),
    }
