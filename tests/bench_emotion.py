"""Closed-form head scores against silencing every head: `python tests/bench_emotion.py FILE`.

One process, one thread. What counts for the closed form is its forward pass as well; every time is
the least of several interleaved repeats, and only ratios within one run mean anything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

import circuits
from circuits.studies.emotion.parts import ablated_head_scores, head_scores
from circuits.studies.emotion.prompts import emotions
from patching.capture import Prompts, capture
from patching.model import Model
from tasks.tokenize import encode, pad_id

REPEATS, BAR, CLOSE = 5, 20.0, 1e-5


def main(path: Path) -> None:
    """Measure on the embedded model and on one of GPT-2 small's shape; write rows as JSON."""
    torch.set_num_threads(1)
    nano = circuits.load_model("nano")
    texts = [prompt.text for prompt in emotions().take("discovery", 10) if prompt.label]
    rows = [encode(nano.tokenizer, text) for text in texts]
    cases = {
        f"nano, {len(rows)} prompts": (nano, Prompts.of(rows, pad_id(nano.tokenizer)), REPEATS),
        "shape of GPT-2 small, 8 prompts of 14 tokens": (*_gpt2_small(), 1),
    }
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    report["emotion"] = []
    for what, (model, prompts, repeats) in cases.items():
        row = {"what": what} | _measure(model, prompts, repeats)
        report["emotion"].append(row)
        verdict = "meets" if row["met"] else "MISSES"
        typer.echo(
            f"head scores of {what:<46} {row['ratio']:6.1f} x cheaper, apart by "
            f"{row['largest_difference']:.1e}: {verdict} {BAR:g} x and {CLOSE:g}"
        )
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _measure(model: Model, prompts: Prompts, repeats: int) -> dict[str, Any]:
    a = model.anatomy
    vectors = torch.randn(a.n_layers, a.d_model, generator=torch.Generator().manual_seed(0))
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    closed, ablated, apart = [], [], 0.0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        fast = head_scores(model, capture(model, prompts), vectors)
        middle = time.perf_counter()
        slow = ablated_head_scores(model, prompts, vectors)
        closed.append(middle - start)
        ablated.append(time.perf_counter() - middle)
        apart = max(apart, float((fast - slow).abs().max()))
    # The first of each warms up.
    ratio = min(ablated[1:]) / min(closed[1:])
    return {
        "heads": a.n_layers * a.n_heads,
        "seconds_closed_form": min(closed[1:]),
        "seconds_ablation": min(ablated[1:]),
        "ratio": ratio,
        "largest_difference": apart,
        "met": ratio >= BAR and apart <= CLOSE,
    }


def _gpt2_small() -> tuple[Model, Prompts]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(attn_implementation="eager")).eval()
    tokens = np.random.default_rng(0).integers(0, 50257, (8, 14))
    return Model.open(hf), Prompts.of(tokens.tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
