"""Runs by their folders: opened, tested on other prompts, compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.held_out.comparison import Comparison
    from circuits.held_out.consensus import Consensus
    from circuits.held_out.run import Run, RunEvaluation


def load_run(folder: str | Path) -> Run:
    """A finished run: what was done, every score, and the circuit.

    `print(run)` shows the summary. `run.graph` is the circuit, `run.scores` are all scores, and
    `run.record` holds everything that `run.json` says.

    >>> _ = circuits.discover("ioi", "nano", n=8, top=20, out="runs/few", force=True)
    >>> circuits.load_run("runs/few").graph
    CircuitGraph(ioi secant noising: ...)

    Raises:
        RunError: it is not the folder of a finished discovery.
        FormatError: one of its files cannot be read.
    """
    from circuits.held_out.run import Run

    return Run.read(Path(folder))


def evaluate_run(
    folder: str | Path,
    *,
    n: int = 64,
    seed: int = 0,
    model: str | None = None,
    reference: str | Path | None = None,
    progress: Progress | None = None,
    out: str | Path | None = None,
    force: bool = False,
    **terms: Any,
) -> RunEvaluation:
    """Test a run's circuit on `n` prompts it was not found on; adds the result to the folder.

    With `out` it is written there instead; `force` replaces an evaluation that is there.
    `reference` is a run or the file of a circuit to compare this one with. Further
    `terms` are those of :class:`circuits.held_out.terms.Terms`: `prompts`, `ablation`, `means`,
    `rediscoveries`, `batch_size`, `allow_other_model`, `skip_bad`.

    >>> _ = circuits.discover("ioi", model="nano", n=8, top=20, out="runs/few", force=True)
    >>> print(circuits.evaluate_run("runs/few", n=8))
    model ...

    Raises:
        CircuitsError: the folder is no run, the model is another one, or no prompts are left; then
            nothing is written.
    """
    from circuits.held_out.run import carry_out
    from circuits.held_out.terms import Terms

    other = None if reference is None else Path(reference)
    given = Terms(n=n, seed=seed, **terms)
    place = None if out is None else Path(out)
    how: dict[str, Any] = {"model": model, "reference": other, "progress": progress}
    return carry_out(Path(folder), given, **how, out=place, force=force)


def compare(
    folders: Sequence[str | Path],
    *,
    n: int = 64,
    seed: int = 0,
    model: str | None = None,
    progress: Progress | None = None,
    **terms: Any,
) -> Comparison:
    """Several runs on the same `n` prompts, which none of them was found on.

    `folders` are those of the runs. The first run is what the others are compared with. `terms` as
    for :func:`evaluate_run`.

    >>> for method in ("secant", "attribution"):
    ...     _ = circuits.discover("ioi", "nano", method=method, n=8, top=20, out=f"runs/{method}")
    >>> circuits.compare(["runs/secant", "runs/attribution"], n=8).to_frame().shape[0]
    2

    Raises:
        CircuitsError: fewer than two runs, runs of different models, tasks or metrics, or no
            prompts left.
    """
    from circuits.held_out.comparison import compare_runs
    from circuits.held_out.terms import Terms

    given = Terms(n=n, seed=seed, **terms)
    return compare_runs([Path(folder) for folder in folders], given, progress, model)


def consensus(
    folders: Sequence[str | Path],
    *,
    share: float = 0.5,
    n: int = 64,
    seed: int = 0,
    model: str | None = None,
    progress: Progress | None = None,
    **terms: Any,
) -> Consensus:
    """The edges that at least `share` of several runs hold, as a circuit, tested on `n` prompts.

    `folders` are those of the runs. The prompts are ones that no run was found on. `terms` as for
    :func:`evaluate_run`.

    >>> for seed in (0, 1):
    ...     _ = circuits.discover("ioi", "nano", n=8, top=20, seed=seed, out=f"runs/seed{seed}")
    >>> circuits.consensus(["runs/seed0", "runs/seed1"], n=8).circuit
    CircuitGraph(ioi ...)

    Raises:
        CircuitsError: fewer than two runs, runs of different models or tasks, or no prompts left.
    """
    from circuits.held_out.consensus import consensus as agreed
    from circuits.held_out.terms import Terms

    given = Terms(n=n, seed=seed, **terms)
    return agreed([Path(folder) for folder in folders], given, share, progress, model)
