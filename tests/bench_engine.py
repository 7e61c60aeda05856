"""Time and memory of the engine against the bare model: `python tests/bench_engine.py FILE`.

One process, one thread, GPT-2-small shape with random weights, 8 pairs of 14 tokens. Every time
is the least of several interleaved repeats, and only ratios within one run mean anything.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

import circuits
from patching.model import Model
from patching.scoring import score
from tasks.pairs import PromptPairs

PAIRS, TOKENS, REPEATS = 8, 14, 3


def main(path: Path) -> None:
    """Measure every bar, print a row each, and write all of them as JSON."""
    torch.set_num_threads(1)
    rows = []
    for measure in (_exact_map, _exact_edges, _against_the_bare_model):
        for row in measure():
            rows.append(row)
            verdict = "meets" if row["met"] else "MISSES"
            typer.echo(f"{row['what']:<62} {row['ratio']:7.2f} {verdict} {row['bar']}")
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(report | {"engine": rows}, indent=2) + "\n", encoding="utf-8")


def _row(what: str, ratio: float, limit: float, least: bool = False) -> dict[str, Any]:
    met = ratio >= limit if least else ratio <= limit
    bar = f"at {'least' if least else 'most'} {limit:g} x"
    return {"what": what, "ratio": ratio, "bar": bar, "met": bool(met)}


def least(works: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Least seconds of every work over interleaved repeats, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in times.items()}


def _random_pairs(vocabulary: int, seed: int = 0) -> PromptPairs:
    generator = np.random.default_rng(seed)
    clean = generator.integers(0, vocabulary, (PAIRS, TOKENS))
    corrupted = clean.copy()
    corrupted[:, [4, 9]] = generator.integers(0, vocabulary, (PAIRS, 2))
    answer, other = generator.permutation(vocabulary)[: 2 * PAIRS].reshape(2, PAIRS)
    return PromptPairs.from_tokens(
        clean=clean, corrupted=corrupted, answer=answer, counterfactual=other
    )


def _gpt2_small() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(attn_implementation="eager")).eval().requires_grad_(False)


def _against_the_bare_model() -> list[dict[str, Any]]:
    hf = _gpt2_small()
    model, pairs = Model.open(hf), _random_pairs(50257)
    clean = torch.tensor(pairs.clean)

    def forward() -> None:
        with torch.no_grad():
            hf(clean, use_cache=False)

    def both() -> None:
        x = hf.transformer.wte(clean).requires_grad_()
        logits = hf(inputs_embeds=x, use_cache=False).logits[:, -1]
        torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)

    def run(method: str, level: str, **options: Any) -> Callable[[], Any]:
        return lambda: score(model, pairs, method, level, **options)

    works = {
        "forward": forward,
        "both": both,
        "nodes by attribution": run("attribution", "node"),
        "nodes by relevance": run("relevance", "node"),
        "nodes by secant": run("secant", "node"),
        "edges by attribution": run("attribution", "edge"),
        "edges by relevance": run("relevance", "edge"),
        "edges by secant": run("secant", "edge"),
        "edges by ig, 5 steps": run("ig", "edge", steps=5),
    }
    times = least(works)
    base = 2 * times["forward"] + times["both"]
    limits = {"nodes by attribution": 1.6, "nodes by relevance": 1.6, "nodes by secant": 3.0}
    rows = [
        _row(f"{name} / two forwards and one forward+backward", times[name] / base, limit)
        for name, limit in limits.items()
    ]
    limits = {"edges by attribution": 4.0, "edges by relevance": 4.0, "edges by ig, 5 steps": 12.0}
    limits["edges by secant"] = times["edges by ig, 5 steps"] / times["both"] / 2
    rows += [
        _row(f"{name} / one forward+backward", times[name] / times["both"], limit)
        for name, limit in limits.items()
    ]
    memory = {
        name: np.median([_peak(works[name]) for _ in range(REPEATS)])
        for name in ("both", "edges by attribution")
    }
    ratio = float(memory["edges by attribution"] / memory["both"])
    return [*rows, _row("peak memory of edges by attribution / forward+backward", ratio, 2.0)]


def _peak(work: Callable[[], Any]) -> float:
    """Bytes by which the process grows while a work runs, sampled every millisecond."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, most, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most[0] = max(most[0], _resident())

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return float(most[0] - before)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _exact_map() -> list[dict[str, Any]]:
    """The map of resid_pre, attn_out and mlp_out by position, and of heads, against loops."""
    from transformer_lens import patching as loops

    model, task = circuits.load_model("nano"), circuits.load_task("ioi")
    whole = task.pairs(model.tokenizer, n=200, seed=0)
    lengths = whole.mask.sum(1)
    pairs = whole[np.flatnonzero(lengths == np.bincount(lengths).argmax())[:PAIRS]]
    drop = int(pairs.mask.any(0).argmax())
    clean, corrupted = (torch.tensor(ids[:, drop:]) for ids in (pairs.clean, pairs.corrupted))
    answer, other = (torch.tensor(ids[:, 0]) for ids in (pairs.answer, pairs.counterfactual))
    _, cache = model.bridge.run_with_cache(clean)
    at = torch.arange(len(pairs))

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return (logits[at, -1, answer] - logits[at, -1, other]).mean()

    kinds = {"resid_pre": "resid_pre", "attn_out": "attn_out", "mlp_out": "mlp_out", "z": "head"}

    def theirs() -> list[np.ndarray]:
        found = []
        for kind in ("resid_pre", "attn_out", "mlp_out"):
            patch = getattr(loops, f"get_act_patch_{kind}")
            found.append(patch(model.bridge, corrupted, cache, metric))
        found.append(
            loops.get_act_patch_attn_head_out_all_pos(model.bridge, corrupted, cache, metric)
        )
        return [np.asarray(torch.as_tensor(f), dtype=float).ravel() for f in found]

    def ours() -> list[np.ndarray]:
        return [
            score(
                model,
                pairs,
                "activation",
                "site",
                "denoising",
                sites=kind,
                positions="all" if kind == "z" else "token",
            ).values
            for kind in kinds
        ]

    times = least({"ours": ours, "theirs": theirs}, repeats=1)
    with torch.no_grad():
        base = float(metric(model.bridge(corrupted)))
    apart = max(float(np.abs(a - (b - base)).max()) for a, b in zip(ours(), theirs(), strict=True))
    row = _row(
        "exact map, loops of transformer_lens / ours", times["theirs"] / times["ours"], 4, True
    )
    return [row | {"largest_difference": apart, "met": row["met"] and apart <= 1e-4}]


def _exact_edges() -> list[dict[str, Any]]:
    model = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=64, seed=0)
    tokens, mask = torch.tensor(pairs.clean), torch.tensor(pairs.mask)
    count = len(score(model, pairs[:2], "attribution", "edge"))

    def forward() -> None:
        with torch.no_grad():
            model.bridge(tokens, attention_mask=mask.long())

    times = least(
        {
            "forward": forward,
            "edges": lambda: score(model, pairs, "activation", "edge", batch_size=64),
        }
    )
    ratio = count * times["forward"] / times["edges"]
    return [_row(f"exact edges of nano, {count} full forwards / ours", ratio, 10, True)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
