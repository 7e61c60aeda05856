"""Time and peak memory of all edges beside the bare model: `python -m tests.bench_edges FILE`.

One thread. Times are the least of several interleaved repeats, peaks the median of three, and only
ratios within one run mean anything. SmolLM2 is left out where its weights are not installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

import circuits
from patching.model import Model
from patching.scoring import score
from tasks.errors import CircuitsError
from tasks.pairs import PromptPairs
from tests.bench_engine import _gpt2_small, _peak, least

METHODS = {"attribution": {}, "secant": {}, "ig": {"steps": 5}}
LONG = ((4, 32), (4, 128), (4, 512), (1, 2048))


def main(path: Path) -> None:
    """Measure, print a row each, and write all of them as JSON."""
    torch.set_num_threads(1)
    rows = []
    for name, model, pairs, repeats in _settings():
        row = {"what": name, **_measured(model, pairs, repeats)}
        typer.echo(json.dumps(row))
        rows.append(row)
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(report | {"edges": rows}, indent=2) + "\n", encoding="utf-8")


def _settings() -> Any:
    """The short prompts of a task, and long ones of random tokens."""
    try:
        model = circuits.load_model("smollm2-135m")
    except CircuitsError as error:
        typer.echo(f"SmolLM2 is left out: {error}")
    else:
        pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=8, seed=0)
        yield "SmolLM2, ioi, 8 pairs", model, pairs, 3
        for n, length in LONG:
            yield f"SmolLM2, {n} x {length}", model, _random(n, length, 49152), 1
    model = Model.open(_gpt2_small())
    yield "GPT-2 small's shape, 8 x 14", model, _random(8, 14, 50257), 3


def _random(n: int, length: int, vocabulary: int) -> PromptPairs:
    draw = np.random.default_rng(0)
    clean = draw.integers(100, vocabulary, (n, length))
    corrupted = clean.copy()
    corrupted[:, length // 3 :: max(length // 4, 1)] = draw.integers(100, vocabulary)
    answer, other = draw.permutation(vocabulary)[: 2 * n].reshape(2, n)
    return PromptPairs.from_tokens(
        clean=clean, corrupted=corrupted, answer=answer, counterfactual=other
    )


def _measured(model: Model, pairs: PromptPairs, repeats: int) -> dict[str, Any]:
    tokens, mask = torch.tensor(pairs.clean), torch.tensor(pairs.mask).long()

    def bare() -> None:
        hf = model.hf
        x = hf.get_input_embeddings()(tokens).requires_grad_()
        logits = hf(inputs_embeds=x, attention_mask=mask, use_cache=False).logits[:, -1]
        torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)

    works: dict[str, Callable[[], Any]] = {"bare": bare}
    for method, options in METHODS.items():
        works[method] = lambda m=method, o=options: score(model, pairs, m, "edge", **o)
    times = least(works, repeats)
    works |= {
        f"{method}, memory of half the bare": lambda m=method: score(
            model, pairs, m, "edge", memory=int(peaks["bare"] / 2), **METHODS[m]
        )
        for method in METHODS
    }
    peaks: dict[str, float] = {}
    for name, work in works.items():
        peaks[name] = float(np.median([_peak(work) for _ in range(3 if repeats > 1 else 1)]))
    ratios = {m: round(t / times["bare"], 2) for m, t in times.items()}
    return {
        "bare_seconds": round(times["bare"], 2),
        "times": ratios,
        "peaks_mb": {name: round(peak / 1e6) for name, peak in peaks.items()},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
