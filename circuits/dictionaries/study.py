"""Which latents carry an answer: scored on some prompts, tested alone on others.

1. Every latent and error term of the dictionaries is scored by a method.
2. The ``n`` latents with the largest absolute scores are kept alone, ``n`` = 5, 10, 20, 50, 100,
   on held-out prompts; all other latents, and the errors, carry the corrupted run. Faithfulness is
   ``(m(kept) - m(none)) / (m(all) - m(none))``.
3. The same with the errors kept, with everything but these latents (completeness: low is good),
   and with the coordinates of the streams, taken as latents, in place of the dictionaries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.dictionaries.joined import edge_table, joined_latents, remainders
from circuits.dictionaries.latent_curves import LatentCurve, curves_of
from circuits.output import Output, written
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from circuits.dictionaries.quality import Quality
    from graphs import CircuitGraph
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.latent_edges import LatentEdges
    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs

SIZES = (5, 10, 20, 50, 100)
KIND, REPORT, SCORES = "circuits latents", "latents.json", "scores.safetensors"
FILES = re.compile(r"latents\.(json|md)|scores\.safetensors|circuit\.(json|html)")
OUTPUT = Output("study of latents", REPORT, KIND, FILES)


@dataclass(frozen=True)
class LatentStudy(Reported):
    """Scores of latents on the prompts they were found on, and their test on others."""

    scores: Scores
    curves: tuple[LatentCurve, ...]
    quality: tuple[Quality, ...]
    held_out: int
    edges: LatentEdges | None = None
    circuit: CircuitGraph | None = None

    def report(self, top: int = 20) -> Report:
        """The strongest latents, and what they recover."""
        scores, order = self.scores, self.scores.order()
        errors = sum(scores[name] for name in scores if ".err" in name)
        rows = {
            "prompts": f"{scores.count} to score, {self.held_out} held out to test",
            "method": f"{scores.method}, {scores.direction}, {scores.metric}",
            "whole difference": f"{scores.total_effect:+.3f}",
            "of it in latents": f"{scores.values.sum() - errors:+.3f}",
            "of it in errors": f"{errors:+.3f}",
        }
        best = Table(
            ("latent", "score"),
            [[scores.names[i], f"{scores.values[i]:+.4f}"] for i in order[:top].tolist()],
        )
        head = ("kept alone, held out", *(str(size) for size in self.curves[0].sizes))
        lines = [
            [curve.name, *(curve.spelled(i) for i in range(len(curve.sizes)))]
            for curve in self.curves
        ]
        told = [quality.line() for quality in self.quality]
        tables = [best, Table(head, lines)]
        if self.edges is not None:
            tables.append(edge_table(self.edges, top))
        return Report.of(*told, Rows(rows), *tables)

    def to_frame(self) -> pd.DataFrame:
        """A row per latent and error term, the strongest first: its name, score and error."""
        frame = self.scores.to_frame()
        return frame.iloc[self.scores.order()].reset_index(drop=True)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        scores = self.scores
        return {
            "kind": KIND,
            "task": scores.task,
            "model_hash": scores.model_hash,
            "method": scores.method,
            "direction": scores.direction,
            "metric": scores.metric,
            "positions": scores.options.get("positions", "all"),
            "n": scores.count,
            "total_effect": scores.total_effect,
            "latents": {name: scores[name] for name in scores.ranked()},
            "curves": [curve.to_json() for curve in self.curves],
            "quality": [quality.to_json() for quality in self.quality],
            "held_out": self.held_out,
            "edges": None if self.edges is None else remainders(self.edges),
        }

    def __repr__(self) -> str:
        return f"LatentStudy({len(self.scores)} latents and errors, {self.scores.method})"


def latents(
    model: Model | str,
    task: str | PromptPairs,
    dictionaries: Iterable[str | Dictionary],
    *,
    method: str = "secant",
    direction: str = "noising",
    metric: str | None = None,
    positions: str = "all",
    n: int = 64,
    held_out: int = 64,
    seed: int = 0,
    batch_size: int = 16,
    sizes: Sequence[int] = SIZES,
    edges: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    force_dictionary: bool = False,
    progress: Progress | None = None,
) -> LatentStudy:
    """Score the latents of dictionaries on a task, and test the strongest on held-out prompts.

    ``dictionaries`` are read ones, ``PATH`` or ``SITE=PATH``. Scores are in units of the metric,
    positive where the clean amount pushes it towards the clean answer; see
    :mod:`patching.dictionaries.latents` for the formulas. ``method`` estimates them, at all or at
    named ``positions``. ``edges`` of the strongest latents are joined by edges
    (:mod:`patching.dictionaries.latent_edges`), with input, error terms and logits, as a circuit.
    ``held_out`` prompts test circuits of so many latents as ``sizes`` says.

    >>> made = circuits.train_dictionary(model, latents=64, k=8, steps=40, tokens=2000, n=8)
    >>> circuits.latents(model, "ioi", [made.dictionary], n=8, held_out=8, force_dictionary=True)
    LatentStudy(... latents and errors, secant)

    Raises:
        SiteError, FormatError: a dictionary that does not fit or cannot be read.
        MethodError: a dictionary that explains too little, unless forced.
        TaskError: fewer prompts than ``n + held_out``.
        RunError: a folder that exists and may not be replaced.
    """
    from circuits.dictionaries.quality import check_quality, quality
    from circuits.models import load_model
    from patching.dictionaries.latents import latent_scores
    from patching.dictionaries.readings import check_fit
    from patching.dictionaries.splice import in_order
    from patching.sweep import Sweep

    read = read_all(dictionaries)
    with OUTPUT.reserved(None if out is None else Path(out), force):
        opened = load_model(model)
        for each in read:
            check_fit(opened, each)
        pairs, fresh = _prompts(opened, task, n, held_out, seed)
        measured = tuple(quality(opened, each, [pairs], batch_size) for each in read)
        for found in measured:
            check_quality(found, force_dictionary)
        placed, name = in_order(read), metric or pairs.metric
        sweep = Sweep(batch_size, progress)
        plain = coordinates(placed)
        scores, beside = (
            latent_scores(
                opened,
                pairs,
                each,
                method,
                direction,
                name,
                positions=positions,
                batch_size=sweep,
            )
            for each in (placed, plain)
        )
        curves = curves_of(opened, fresh, placed, scores, sizes, name, sweep)
        of_stream = curves_of(opened, fresh, plain, beside, sizes, name, sweep, "coordinates")
        joined = joined_latents(opened, pairs, placed, scores, edges, progress)
        study = LatentStudy(scores, (*curves, of_stream[0]), measured, len(fresh), *joined)
        if out is not None:
            _write(Path(out), study)
    return study


def read_all(dictionaries: Iterable[str | Dictionary]) -> list[Dictionary]:
    """Those that are given, and those that are named."""
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.read import check_apart, read_dictionaries

    given = list(dictionaries)
    read = [each for each in given if isinstance(each, Dictionary)]
    read += read_dictionaries([each for each in given if not isinstance(each, Dictionary)])
    check_apart(read)
    return read


def coordinates(dictionaries: Iterable[Dictionary]) -> tuple[Dictionary, ...]:
    """The coordinates of the same places as dictionaries, positive and negative parts apart."""
    import torch

    found = []
    for each in dictionaries:
        width = each.W_dec.shape[1]
        eye = torch.eye(width, dtype=each.W_dec.dtype)
        zeros = torch.zeros(width, dtype=each.W_dec.dtype)
        found.append(
            replace(
                each,
                reads=each.writes,
                activation="relu",
                W_enc=torch.cat([eye, -eye], dim=1),
                b_enc=torch.zeros(2 * width, dtype=each.W_dec.dtype),
                W_dec=torch.cat([eye, -eye]),
                b_dec=zeros,
                b_in=zeros,
                threshold=None,
                k=None,
                gate=None,
                skip=None,
                scaling="none",
                origin={},
            )
        )
    return tuple(found)


def task_prompts(model: Model, task: str | PromptPairs, n: int, seed: int) -> PromptPairs:
    """Prompt pairs of a task by its name, or the given ones."""
    from circuits.config import Config
    from circuits.prompts import prompts_of

    if not isinstance(task, str):
        return task
    config = Config(task, model.path, n=n, seed=seed).settled()
    config.check()
    return prompts_of(config, model)


def _prompts(
    model: Model, task: str | PromptPairs, n: int, held_out: int, seed: int
) -> tuple[PromptPairs, PromptPairs]:
    """Prompts to score on, and others to test on."""
    if not isinstance(task, str):
        return task[: len(task) // 2], task[len(task) // 2 :]
    pairs = task_prompts(model, task, n + held_out, seed)
    return pairs[:n], pairs[n:]


def _write(folder: Path, study: LatentStudy) -> None:
    with written(folder, OUTPUT.check) as partial:
        study.scores.save(partial / SCORES)
        text = json.dumps(study.to_json(), indent=2)
        (partial / REPORT).write_text(text + "\n", encoding="utf-8")
        (partial / "latents.md").write_text(study.report().markdown(), encoding="utf-8")
        if study.circuit is not None:
            study.circuit.save(partial / "circuit.json")
            study.circuit.save(partial / "circuit.html")
