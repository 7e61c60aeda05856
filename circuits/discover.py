"""From a question to a circuit: the table of contents of the project.

A task asks a model a question twice (tasks); patching scores every edge by how much it carries
the difference (patching); the strongest edges that connect input to logits are the circuit
(graphs), and running it alone says how much of the answer it keeps (circuits.evaluate).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.arguments import check_kinds
from circuits.clock import Clock, Progress
from circuits.config import N_FROM_TASK, Config
from tasks.errors import TaskError

if TYPE_CHECKING:
    from circuits.record import RunRecord
    from circuits.scored import Scored
    from graphs import CircuitGraph
    from patching.model import Model
    from tasks import PromptPairs, Task


def discover(
    task: str | Path | PromptPairs | Task,
    model: Any = "nano",
    *,
    method: str = "secant",
    level: str = "edge",
    direction: str = "noising",
    metric: str | None = None,
    choose: str = "top",
    top: int | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    ablation: str = "corrupted",
    model_correct: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> CircuitGraph:
    """The circuit with which `model` answers `task`: its `top` strongest edges, pruned.

    `method` may name several, parted by commas: their mean ranks the edges. `choose` is a way of
    :data:`circuits.choosing.ways.WAYS`, with options as in `threshold:least=0.1`; those that run
    the circuit put `ablation` in the place of all that is outside it. `top` defaults to what the
    way has (100).

    `task` is a task or its name, a JSON-lines file of prompt pairs, or `PromptPairs`; `model` is
    anything that :func:`circuits.load_model` opens. `n` prompt pairs are drawn with `seed`
    (default: 64 of a task, all of a file; of `PromptPairs` the first `n`). Of a task named without
    a split, the embedded model is asked what it was not trained on, any other model everything.
    `model_correct` leaves out pairs on which the model does not prefer the right answer of both
    runs.
    `progress` is called with (done, total, what). Further options are the method's. Equal arguments
    give equal circuits.

    >>> circuits.discover("ioi", model=model, method="ig", steps=3, top=40, n=16)
    CircuitGraph(ioi ig noising: ... edges)

    Raises:
        CircuitsError: the task, the model, the method or their combination does not work; what
            can be known beforehand is refused before the model is loaded.
    """
    from circuits.models import load_model
    from tasks import Task

    config = Config(
        task=str(task) if isinstance(task, str | Path) else None,
        model=str(model) if isinstance(model, str | Path) else None,
        method=method,
        level=level,
        direction=direction,
        metric=metric,
        choose=choose,
        top=top,
        n=n,
        seed=seed,
        batch_size=batch_size,
        ablation=ablation,
        options=options,
        model_correct=model_correct,
    )
    config.check()
    if not isinstance(task, str | Path | Task):
        check_kinds(pairs=task)
        if n is not None and n > len(task):
            raise TaskError(f"n is {n}, and there are {len(task)} prompt pairs")
    opened = load_model(model)
    config = config.settled(opened.path)
    pairs = _pairs_of(task, config, opened)
    return find(config, measure(config, opened, pairs, progress), opened, pairs, progress)


def _pairs_of(task: str | Path | PromptPairs | Task, config: Config, model: Model) -> PromptPairs:
    """The prompt pairs of a task, of its name or of a file, or some of those given."""
    from circuits.knowledge import only_known
    from tasks import PromptPairs, Task

    n = N_FROM_TASK if config.n is None else config.n
    if isinstance(task, PromptPairs):
        pairs = task[: config.n]
    elif isinstance(task, Task):
        pairs = task.pairs(model.tokenizer, n=n, seed=config.seed)
    else:
        return ask(config, model)
    return only_known(model, pairs, config.batch_size) if config.model_correct else pairs


def run(config: Config, folder: Path, progress: Progress | None = None) -> RunRecord:
    """Discover a circuit, test it alone, and write both into the run folder `folder`.

    Raises:
        CircuitsError: as for :func:`discover`; then nothing is written.
    """
    from circuits.evaluate import evaluate
    from circuits.folder import write
    from circuits.knowledge import knowledge
    from circuits.models import load_model
    from circuits.record import describe_run
    from circuits.run_page import run_page

    config.check()
    clock = Clock(progress)
    with clock("opening the model"):
        model = load_model(config.model)
    with clock("making the prompts"):
        pairs = ask(config, model)
        known = knowledge(model, pairs, config.batch_size)
    with clock("scoring"):
        scored = measure(config, model, pairs, progress)
    with clock("choosing the circuit"):
        graph = find(config, scored, model, pairs, progress)
    with clock("testing the circuit"):
        evaluation = evaluate(
            graph,
            model,
            pairs,
            ablation=config.ablation,
            batch_size=config.batch_size,
            progress=progress,
        )
        graph = evaluation.noted(graph)
    with clock("testing its strongest edges"):
        page = run_page(graph, model, pairs, evaluation, config.batch_size, progress)
    record = describe_run(config, model, pairs, graph, evaluation, clock.seconds, known)
    write(folder, record, scored.scores, graph, page)
    return record


def ask(config: Config, model: Model) -> PromptPairs:
    """The prompt pairs of the configured task or file, in the model's tokens.

    With ``model_correct`` those of them that the model knows, so fewer than ``n`` where it does not
    know some.

    Raises:
        TaskError: there is no such task, or the model knows none of the pairs.
    """
    pairs = _drawn(config, model)
    if not config.model_correct:
        return pairs
    from circuits.knowledge import only_known

    return only_known(model, pairs, config.batch_size)


def _drawn(config: Config, model: Model) -> PromptPairs:
    """The prompt pairs as they are, whether the model knows the answer or not."""
    import tasks

    source = config.task or ""
    if config.from_file:
        return tasks.read_pairs(source, model.tokenizer, n=config.n, seed=config.seed)
    if model.tokenizer is None:
        raise TaskError(
            f"task {source} is text, and this model has no tokenizer; give it one, as in "
            f"circuits.load_model(model, tokenizer=...), or prompts as lists of token ids"
        )
    return tasks.get(source).pairs(model.tokenizer, n=config.count or 0, seed=config.seed)


def measure(
    config: Config,
    model: Model,
    pairs: PromptPairs,
    progress: Progress | None = None,
    keep_rows: bool = False,
) -> Scored:
    """How much every edge (or node) carries the difference between the two runs.

    Every prompt's own scores are kept with `keep_rows`, and where the choice is made from them.
    """
    from circuits.choosing.carry_out import needs_rows
    from circuits.scored import score_by

    return score_by(config, model, pairs, progress, keep_rows or needs_rows(config))


def find(
    config: Config,
    scored: Scored,
    model: Model,
    pairs: PromptPairs,
    progress: Progress | None = None,
) -> CircuitGraph:
    """The circuit that the configured choice makes of the scores."""
    from circuits.choosing.carry_out import choose_by

    graph = choose_by(config, scored, model, pairs, progress)
    return graph.with_info(model=config.model_label, seed=config.seed)
