"""A circuit's file, of this project or of another, on a model and a task of one's choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.config import Config
from circuits.evaluate import Evaluation, evaluate
from circuits.held_out.terms import Terms
from graphs import CircuitGraph
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.clock import Progress


def evaluate_file(
    path: Path,
    terms: Terms,
    model: str | None,
    task: str | None,
    progress: Progress | None = None,
) -> Evaluation:
    """The faithfulness of the file's circuit on `terms.n` prompts of a task, or all of a file.

    Raises:
        RunError: no model or no task is named, or terms that are for runs alone.
        SiteError: the circuit is of a model of another shape.
        CircuitsError: the file, the task or the model cannot be read.
    """
    from circuits.models import load_model, locate
    from circuits.prompts import prompts_of
    from patching.sources.stated import stated_shape

    graph = CircuitGraph.load(path)
    source = str(terms.prompts) if terms.prompts is not None else task
    if model is None or source is None:
        raise RunError(
            f"{path} is a circuit and no run, so it is not known what to test it on; name the "
            f"model with --model, and a task with --task or prompts with --prompts"
        )
    if terms.rediscoveries:
        raise RunError(f"--rediscoveries discovers a run again, and {path} is a circuit's file")
    config = Config(task=source, model=model, seed=terms.seed, skip_bad=terms.skip_bad)
    if not config.from_file:
        config = replace(config, n=terms.n)
    config.check()
    graph.info.check_model(stated_shape(locate(model)))
    running = terms.running("corrupted", progress=progress)
    if progress is not None:
        progress(0, 0, "opening the model")
    opened = load_model(model)
    return evaluate(
        graph,
        opened,
        prompts_of(config, opened),
        ablation=running.ablation,
        means=running.means,
        batch_size=running,
        seed=terms.seed,
    )
