"""Rankings of edges over several draws of prompts: `python -m tests.bench_draws FILE [DRAWS]`.

Each draw splits the prompts anew into those that edges are ranked on and others that circuits are
tested on. An interval over prompts of one draw does not hold the luck of the draw; what is printed
here is the mean over draws of the difference between two methods, with a 95 % interval of Student's
t over draws. One thread. A file that holds some draws already is gone on with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from scipy import stats

import circuits
from circuits.evaluation.curves import plan, run_plans
from circuits.evaluation.outcomes import check_disjoint, prompt_keys
from patching.model import Model
from patching.scoring import score
from tasks.pairs import PromptPairs
from tests.known import stories

PROMPTS = 64
METHODS: dict[str, dict[str, Any]] = {"learned": {}, "secant": {}, "ig": {"steps": 5}}
TASKS = ("ioi", "mcq_bias", "mental_math", "emotion")
AREAS = ("cmd", "log_cmd")


def main(path: Path, draws: int = 5) -> None:
    """Measure every draw that the file does not hold yet, and print the differences."""
    torch.set_num_threads(1)
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = report.setdefault("draws", {})
    for name, model, found_on, held_out in _cells(draws):
        if name not in known:
            known[name] = _measured(model, found_on, held_out)
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            typer.echo(f"{name}: {json.dumps(known[name])}")
    for line in _differences(known):
        typer.echo(line)


def _cells(draws: int) -> Iterator[tuple[str, Model, PromptPairs, PromptPairs]]:
    """A name with its draw, the model, and the two halves of the prompts."""
    nano = circuits.load_model("nano")
    for draw in range(draws):
        for task in TASKS:
            pairs = circuits.load_task(task).pairs(nano.tokenizer, n=3 * PROMPTS, seed=draw)
            yield f"nano, {task} #{draw}", nano, *_halves(pairs, draw)
    if stories.SHIPPED.is_dir():
        model = Model.open(stories.SHIPPED)
        for what, make in (("he or she", stories.pairs), ("was or were", stories.number)):
            for draw, swapped in enumerate((False, True)):
                yield (
                    f"stories260K, {what} #{draw}",
                    model,
                    make(model, swapped),
                    make(model, not swapped),
                )


def _halves(pairs: PromptPairs, draw: int) -> tuple[PromptPairs, PromptPairs]:
    pairs = pairs[np.unique(prompt_keys(pairs), return_index=True)[1]]
    pairs = pairs[np.random.default_rng(draw).permutation(len(pairs))]
    return pairs[:PROMPTS], pairs[PROMPTS : 2 * PROMPTS]


def _measured(model: Model, found_on: PromptPairs, held_out: PromptPairs) -> dict[str, Any]:
    """The areas of every method, ranked by absolute score, and its seconds."""
    check_disjoint(found_on, held_out)
    plans, seconds = [], {}
    for method, options in METHODS.items():
        begin = time.process_time()
        scores = score(model, found_on, method, "edge", **options)
        seconds[method] = round(time.process_time() - begin, 1)
        plans.append(plan(scores, "absolute", name=method))
    curves = run_plans(model, held_out, plans)
    return {
        curve.name: {kind: round(curve.area(kind) or np.nan, 5) for kind in AREAS}
        | {"seconds": seconds[curve.name]}
        for curve in curves
    }


def _differences(known: dict[str, Any]) -> Iterator[str]:
    """The first method minus each other one, over the draws of a cell."""
    first, *others = METHODS
    for cell in dict.fromkeys(name.rpartition(" #")[0] for name in known):
        rows = [row for name, row in known.items() if name.rpartition(" #")[0] == cell]
        for kind in AREAS:
            means = ", ".join(f"{m} {np.mean([r[m][kind] for r in rows]):.3f}" for m in METHODS)
            gaps = {m: np.array([r[first][kind] - r[m][kind] for r in rows]) for m in others}
            told = ", ".join(f"minus {m} {_spread(gap)}" for m, gap in gaps.items())
            yield f"{cell}, {len(rows)} draws, {kind}: {means}; {first} {told}"


def _spread(values: np.ndarray) -> str:
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:+.3f}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * error)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


if __name__ == "__main__":
    typer.run(main)
