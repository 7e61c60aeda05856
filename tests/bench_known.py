"""Circuits that are known, and what finding and testing one costs.

`python -m tests.bench_known FILE` prints a table for each question and adds all of them to the
file: do the numbers of the model that can be worked out by hand come out; does every method find
the edges of models whose circuit is known; how do the rankings of `secant` and of `ig` compare on
prompts they were not found on; are means the means; how long does testing take. Times are ratios
within one process, the least of several interleaved repeats.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

import circuits
from circuits.evaluation.areas import KINDS
from circuits.evaluation.curves import BEST, Curve, plan, run_plans
from circuits.evaluation.outcomes import check_disjoint, measure, prompt_keys
from circuits.evaluation.reference import auroc
from circuits.evaluation.running import Running
from patching.ablation.estimates import estimate_means
from patching.ablation.means import BY
from patching.methods import METHODS
from patching.model import Model
from patching.nodes.deltas import points_of
from patching.nodes.layout import layout_of
from patching.runs import Batch
from patching.scoring import score
from patching.sites import parse_edge
from tasks.pairs import PromptPairs
from tests.bench_engine import least
from tests.definitions import values
from tests.known import compiled, interchange, micro, stories

REPEATS, STEPS, TOP, PROMPTS = 5, 5, 100, 64
CLOSE = 1e-6
RANKINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ig": ("ig", {"steps": STEPS}),
    "secant": ("secant", {}),
    "secant:share=0.7": ("secant", {"share": 0.7}),
    "ensemble": ("ensemble", {}),
}
RECOMMENDED = {"cpr": "secant:share=0.7", "cmd": "secant"}
"""The method to rank by, signed for CPR and absolute for CMD; it has to be no worse than `ig`."""
Row = dict[str, Any]


def main(path: Path) -> None:
    """Measure everything, print it, and write it as JSON."""
    torch.set_num_threads(1)
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known: dict[str, Any] = {}
    for name, table in (
        ("micro", _micro),
        ("auroc", _auroc),
        ("held_out", _held_out),
        ("means", _means),
        ("times", _times),
    ):
        rows = list(table())
        known[name] = rows
        _print(rows)
    path.write_text(json.dumps(report | {"known": known}, indent=2) + "\n", encoding="utf-8")


def _print(rows: Iterable[Row]) -> None:
    """A line per row; what it is first, then every number with its name."""
    for row in rows:
        told = [f"{name} {_number(value)}" for name, value in row.items() if name != "what"]
        typer.echo(f"{row['what']:<46} {'  '.join(told)}")
    typer.echo()


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_number, value))}]"
    return str(value)


def _micro() -> Iterable[Row]:
    for cut, expected in enumerate(micro.OUTPUTS):
        found = micro.run(micro.STEPS[:cut])
        met = bool(np.allclose(found, expected, atol=1e-5))
        steps = f"MicroModel, {cut} edges cut"
        yield {"what": steps, "found": found, "expected": list(expected), "met": met}


def _auroc() -> Iterable[Row]:
    """Every method on every model whose circuit is known; .5 is chance."""
    least = {"activation": 1.0, "learned": 1.0}
    cases = {"induction": compiled.induction(), "parity": compiled.parity()}
    trained = interchange.opened(), interchange.pairs(), frozenset(interchange.CIRCUIT)
    models = {name: (case.model, case.pairs, case.edges) for name, case in cases.items()}
    for name, (model, pairs, edges) in (models | {"interchange-trained": trained}).items():
        found = {
            (method, direction): auroc(score(model, pairs, method, direction=direction), edges)
            for method in METHODS
            for direction in ("noising", "denoising")
        }
        for method in METHODS:
            there, back = found[method, "noising"], found[method, "denoising"]
            row = {"what": f"{name}: {method}", "noising": there, "denoising": back}
            wanted = least.get(method) if name in cases else _wanted(method, found)
            yield row | ({} if wanted is None else {"met": bool((there or 0) >= wanted)})


def _wanted(method: str, found: Mapping[tuple[str, str], float | None]) -> float | None:
    """The least AUROC on the interchange-trained model."""
    if method == "secant":
        return max(0.95, found["ig", "noising"] or 0.0)
    return 1.0 if method == "learned" else 0.95 if method in ("relevance", "ig") else None


def _held_out() -> Iterable[Row]:
    """Rankings against integrated gradients, same pairs, other prompts to test on."""
    model = circuits.load_model("nano")
    for task in ("ioi", "mcq_bias", "mental_math", "emotion"):
        drawn = circuits.load_task(task).pairs(model.tokenizer, n=3 * PROMPTS, seed=0)
        drawn = drawn[np.unique(prompt_keys(drawn), return_index=True)[1]]
        drawn = drawn[np.random.default_rng(0).permutation(len(drawn))]
        found_on, others = drawn[:PROMPTS], drawn[PROMPTS : 2 * PROMPTS]
        yield from _against_ig(f"nano, {task}", model, found_on, others, judged=task == "ioi")
    if stories.SHIPPED.is_dir():
        model = Model.open(stories.SHIPPED)
        for what, make in (("he or she", stories.pairs), ("was or were", stories.number)):
            pairs = (make(model, held_out) for held_out in (False, True))
            judged = make is stories.pairs
            yield from _against_ig(f"stories260K, {what}", model, *pairs, judged=judged)


def _against_ig(
    what: str, model: Model, found_on: PromptPairs, held_out: PromptPairs, judged: bool
) -> Iterable[Row]:
    check_disjoint(found_on, held_out)
    works = {
        name: partial(score, model, found_on, method, **options)
        for name, (method, options) in RANKINGS.items()
    }
    times = least(works, REPEATS)
    scores = {name: work() for name, work in works.items()}
    plans = {
        (name, ranking): plan(each, ranking)
        for name, each in scores.items()
        for ranking in dict.fromkeys(BEST.values())
    }
    curves = dict(zip(plans, run_plans(model, held_out, list(plans.values())), strict=True))
    for name, each in scores.items():
        row: Row = {"what": f"{what}: {name}", "time / ig": times[name] / times["ig"]}
        row |= {kind: curves[name, BEST[kind]].area(kind) for kind in KINDS}
        strongest = [parse_edge(edge) for edge in each.ranked()[:TOP]]
        alone = measure(model, held_out, [strongest])
        yield row | {f"faithfulness of the top {TOP}": float(alone.faithfulness[0])}
    for name in list(RANKINGS)[1:]:
        for kind in KINDS:
            mine, theirs = curves[name, BEST[kind]], curves["ig", BEST[kind]]
            told = f"{what}: {kind}, {name} less ig"
            yield _gap(told, kind, mine, theirs, judged and RECOMMENDED.get(kind) == name)
    for name in RECOMMENDED.values():
        ratio = times[name] / times["ig"]
        yield {"what": f"{what}: time of {name} / ig", "ratio": ratio, "met": ratio <= 0.5}


def _gap(what: str, kind: str, mine: Curve, theirs: Curve, judged: bool) -> Row:
    """How much better or worse than the other; where judged, worse beyond its interval misses."""
    found = mine.gap(theirs, kind)
    assert found is not None
    gap, (low, high) = found
    better = low > 0 if kind.endswith("cpr") else high < 0
    worse = high < 0 if kind.endswith("cpr") else low > 0
    verdict = "better" if better else "worse" if worse else "equal"
    told: Row = {"what": what, "gap": gap, "interval": [low, high], "verdict": verdict}
    return told | ({"met": not worse} if judged else {})


def _means() -> Iterable[Row]:
    """The largest distance between streamed means and means over prompts run one by one.

    In float64, because in float32 the activations themselves differ by some 1e-6 with the batch.
    """
    model = circuits.load_model("nano", dtype=torch.float64)
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=12, seed=0)
    runs = [values(model, Batch.of(model, pairs[[i]]), "clean") for i in range(len(pairs))]
    points = points_of(layout_of(model.anatomy))
    for by in BY:
        worst = 0.0
        for size in (1, 5, 12):
            means = estimate_means(model, pairs, points, by, batch_size=size)
            for point in points:
                for key, mean in zip(means.keys.tolist(), means.values[point], strict=True):
                    direct = torch.stack([runs[i][point][0, t] for i, t in _tokens(pairs, key)])
                    worst = max(worst, float((mean - direct.mean(0)).abs().max()))
        what = f"means by {by}, three batch sizes"
        yield {"what": what, "largest difference": worst, "met": bool(worst <= CLOSE)}


def _tokens(pairs: PromptPairs, key: list[int]) -> list[tuple[int, int]]:
    """(prompt, token of its own) of all that a mean with this key is over."""
    found = []
    for i, mask in enumerate(pairs.mask):
        ids = pairs.clean[i][mask]
        for t, token in enumerate(ids.tolist()):
            own = (len(ids), t, token)
            if all(wanted in (mine, -1) for wanted, mine in zip(key, own, strict=True)):
                found.append((i, t))
    return found


def _times() -> Iterable[Row]:
    """Testing one circuit, and the whole curve, against the two plain forward passes."""
    model = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=PROMPTS, seed=0)
    graph = circuits.discover(pairs, model, top=TOP)
    scores = score(model, pairs)
    hf = model.hf
    prompts = [torch.tensor(ids) for ids in (pairs.clean, pairs.corrupted)]
    mask = torch.tensor(pairs.mask).long()

    def plain() -> None:
        with torch.no_grad():
            for tokens in prompts:
                hf(input_ids=tokens, attention_mask=mask)

    works: dict[str, Callable[[], Any]] = {
        "plain": plain,
        "one circuit": lambda: circuits.evaluate(graph, model, pairs, batch_size=PROMPTS),
        "one circuit, means outside": lambda: circuits.evaluate(
            graph, model, pairs, ablation="mean", batch_size=PROMPTS
        ),
        "whole curve": lambda: run_plans(model, pairs, [plan(scores)], Running(batch_size=PROMPTS)),
    }
    times = least(works, REPEATS)
    for name, most in (("one circuit", 3), ("one circuit, means outside", 3), ("whole curve", 12)):
        ratio = times[name] / times["plain"]
        what = f"{name}, {PROMPTS} prompts / two plain forwards"
        yield {"what": what, "ratio": ratio, "at most": most, "met": bool(ratio <= most)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
