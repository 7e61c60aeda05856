"""Time and faithfulness of every method on the embedded model: `python tests/bench.py FILE`.

Random circuits of the same size stand beside the circuits found.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import typer

import circuits
from patching.circuit_run import run_circuits
from patching.methods import METHODS
from patching.nodes.edges import edges

TOP, PROMPTS, RANDOM = 100, 64, 20


def main(path: Path) -> None:
    """Measure, print a line per method, and write all of it as JSON."""
    start = time.perf_counter()
    model = circuits.load_model("nano")
    report: dict[str, Any] = {"open_seconds": time.perf_counter() - start, "methods": {}}
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=PROMPTS, seed=0)
    for method in METHODS:
        row = _measure(model, pairs, method)
        report["methods"][method] = row
        typer.echo(
            f"{method:<12} edges {row['edge_seconds']:6.2f} s   nodes {row['node_seconds']:6.2f} s"
            f"   faithfulness of the top {TOP} edges {row['faithfulness']:.1%}"
        )
    report["random_faithfulness"] = _random(model, pairs)
    typer.echo(f"{RANDOM} random circuits of {TOP} edges: {report['random_faithfulness']:.1%}")
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _measure(model: Any, pairs: Any, method: str) -> dict[str, float | None]:
    start = time.perf_counter()
    graph = circuits.discover(pairs, model, method=method, top=TOP)
    middle = time.perf_counter()
    circuits.score(model, pairs, method=method, level="node")
    end = time.perf_counter()
    found = circuits.evaluate(graph, model, pairs)
    return {
        "edge_seconds": middle - start,
        "node_seconds": end - middle,
        "faithfulness": found.faithfulness,
    }


def _random(model: Any, pairs: Any) -> float:
    every = [edge.name for edge in edges(model.anatomy)]
    rng = np.random.default_rng(0)
    drawn = [rng.choice(every, size=TOP, replace=False) for _ in range(RANDOM)]
    found = run_circuits(model, pairs, drawn).mean()
    full, empty = run_circuits(model, pairs, [every, []]).mean(axis=1)
    return float((found - empty) / (full - empty))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
