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

import numpy as np

from circuits.evaluation.outcomes import Outcomes, judge
from circuits.output import Output, written
from circuits.results.intervals import spelled
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.dictionaries.quality import Quality
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.latent_run import Kept
    from patching.dictionaries.places import Place
    from patching.model import Model
    from patching.runs import Batch
    from patching.scores import Scores
    from tasks import PromptPairs

SIZES = (5, 10, 20, 50, 100)
KIND, REPORT, SCORES = "circuits latents", "latents.json", "scores.safetensors"
FILES = re.compile(r"latents\.(json|md)|scores\.safetensors")
OUTPUT = Output("study of latents", REPORT, KIND, FILES)
_UNIT = re.compile(r"(?P<name>.+)\.(?:f(?P<number>\d+)|err)(?:@(?P<label>.+))?")


@dataclass(frozen=True)
class LatentCurve:
    """Faithfulness of the strongest latents, by how many are kept."""

    name: str
    sizes: tuple[int, ...]
    outcomes: Outcomes

    def spelled(self, number: int) -> str:
        """One value with its interval."""
        value = float(self.outcomes.faithfulness[number])
        return spelled(value, self.outcomes.interval(number), ".2f")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        known = self.outcomes.defined
        return {
            "name": self.name,
            "sizes": list(self.sizes),
            "faithfulness": self.outcomes.faithfulness.tolist() if known else None,
            "intervals": [self.outcomes.interval(i) for i in range(len(self.sizes))],
        }


@dataclass(frozen=True)
class LatentStudy(Reported):
    """Scores of latents on the prompts they were found on, and their test on others."""

    scores: Scores
    curves: tuple[LatentCurve, ...]
    quality: tuple[Quality, ...]
    held_out: int

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
        return Report.of(*told, Rows(rows), best, Table(head, lines))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "kind": KIND,
            "scores": self.scores.describe(),
            "latents": {name: self.scores[name] for name in self.scores.ranked()},
            "curves": [curve.to_json() for curve in self.curves],
            "quality": [quality.to_json() for quality in self.quality],
            "held_out": self.held_out,
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
    out: str | Path | None = None,
    force: bool = False,
    force_dictionary: bool = False,
    progress: Progress | None = None,
) -> LatentStudy:
    """Score the latents of dictionaries on a task, and test the strongest on held-out prompts.

    Raises:
        SiteError, FormatError: a dictionary that does not fit or cannot be read.
        MethodError: a dictionary that explains too little, unless forced.
        TaskError: fewer prompts than ``n + held_out``.
        RunError: a folder that exists and may not be replaced.
    """
    from circuits.dictionaries.quality import check_quality, quality
    from circuits.models import load_model
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.latents import latent_scores
    from patching.dictionaries.read import check_apart, read_dictionaries
    from patching.dictionaries.readings import check_fit
    from patching.dictionaries.splice import in_order
    from patching.sweep import Sweep

    given = list(dictionaries)
    read = [each for each in given if isinstance(each, Dictionary)]
    read += read_dictionaries([each for each in given if not isinstance(each, Dictionary)])
    check_apart(read)
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
        curves = _curves(opened, fresh, placed, scores, sizes, name, sweep)
        of_stream = _curves(opened, fresh, plain, beside, sizes, name, sweep, "coordinates")
        study = LatentStudy(scores, (*curves, of_stream[0]), measured, len(fresh))
        if out is not None:
            _write(Path(out), study)
    return study


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


def _prompts(
    model: Model, task: str | PromptPairs, n: int, held_out: int, seed: int
) -> tuple[PromptPairs, PromptPairs]:
    """Prompts to score on, and others to test on."""
    from circuits.config import Config
    from circuits.prompts import prompts_of

    if not isinstance(task, str):
        return task[: len(task) // 2], task[len(task) // 2 :]
    config = Config(task, model.path, n=n + held_out, seed=seed).settled()
    config.check()
    pairs = prompts_of(config, model)
    return pairs[:n], pairs[n:]


def _curves(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Sequence[Dictionary],
    scores: Scores,
    sizes: Sequence[int],
    metric: str,
    options: Any,
    name: str = "latents",
) -> tuple[LatentCurve, ...]:
    """The strongest latents alone, with the errors, and all but them."""
    from patching.sitesets import labels_of

    labels = labels_of(str(scores.options.get("positions", "all")), pairs)

    def kept(error: bool = False, others: bool = False) -> list[dict[Place, Kept]]:
        return [_kept(dictionaries, scores, size, labels, error, others) for size in sizes]

    circuits = {
        name: kept(),
        f"{name} and errors": kept(error=True),
        f"all but these {name}": kept(error=True, others=True),
    }
    flat = [circuit for each in circuits.values() for circuit in each]
    outcomes = _measure(model, pairs, dictionaries, flat, labels, metric, options)
    count = len(sizes)
    return tuple(
        LatentCurve(label, tuple(sizes), outcomes.part(range(at * count, (at + 1) * count)))
        for at, label in enumerate(circuits)
    )


def _kept(
    dictionaries: Sequence[Dictionary],
    scores: Scores,
    size: int,
    labels: tuple[int | str | None, ...],
    error: bool,
    others: bool,
) -> dict[Place, Kept]:
    """The strongest latents of all dictionaries as a circuit, or all ``others``."""
    import torch

    from patching.dictionaries.latent_run import Kept

    places = {each.name: each for each in dictionaries}
    masks = {
        each.writes: torch.full((len(labels), each.n_latents), others) for each in dictionaries
    }
    latents = [name for name in scores.ranked() if ".err" not in name]
    for text in latents[:size]:
        found = _UNIT.fullmatch(text)
        assert found is not None
        row = [str(label) for label in labels].index(str(found["label"]))
        masks[places[found["name"]].writes][row, int(found["number"])] = not others
    return {place: Kept(mask, error) for place, mask in masks.items()}


def _measure(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Sequence[Dictionary],
    circuits: Sequence[dict[Place, Kept]],
    labels: tuple[int | str | None, ...],
    metric: str,
    options: Any,
) -> Outcomes:
    """The clean run, the one in which nothing is kept, and all circuits, on the same prompts."""
    import torch

    from patching.dictionaries.latent_run import Kept, LatentRunner
    from patching.metrics import check_metric
    from patching.sweep import sweep

    like = torch.zeros((), dtype=torch.float32, device=model.device)
    if model.dtype == torch.float64:
        like = like.double()
    moved = [each.to(like) for each in dictionaries]
    none = {
        each.writes: Kept(torch.zeros(len(labels), each.n_latents, dtype=torch.bool))
        for each in moved
    }
    checked = check_metric(metric)
    options = options.counting(len(pairs) * (1 + len(circuits)), "running latents alone")

    def latents_alone(batch: Batch) -> tuple[np.ndarray, ...]:
        runner = LatentRunner.of(model, batch, moved, labels)
        rows = [judge(model.run(batch.clean, batch.mask), batch.pairs, checked)]
        for kept in (none, *circuits):
            rows.append(judge(runner.logits(kept), batch.pairs, checked))
            options.tell(len(batch))
        return tuple(np.stack(each) for each in zip(*rows, strict=True))

    parts = sweep(model, pairs, latents_alone, options, 1 + len(circuits))
    metrics, preferred, right = (np.concatenate(e, axis=1) for e in zip(*parts, strict=True))
    return Outcomes(checked.name, metrics, preferred, right)


def _write(folder: Path, study: LatentStudy) -> None:
    with written(folder, OUTPUT.check) as partial:
        study.scores.save(partial / SCORES)
        text = json.dumps(study.to_json(), indent=2)
        (partial / REPORT).write_text(text + "\n", encoding="utf-8")
        (partial / "latents.md").write_text(study.report().markdown(), encoding="utf-8")
