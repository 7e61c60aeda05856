"""From a question to a circuit: the table of contents of the project.

A task asks a model a question twice (tasks); patching scores every edge by how much it carries
the difference (patching); the strongest edges that connect input to logits are the circuit
(graphs), and running it alone says how much of the answer it keeps (circuits.evaluate).
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import circuits
from tasks.errors import RunError, TaskError

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.config import Config
    from circuits.evaluation.enough import Enough
    from circuits.results.record import RunRecord
    from circuits.selection.scored import ScoreSet
    from graphs import CircuitGraph
    from graphs.inside import Inside
    from patching.choices import AblationName, Direction, Level, MethodName, MetricName, Nodes
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs, Task


NEW_PROMPTS, NEW_SEED = 32, 1001
"""On how many new prompts a circuit is tested at once, and what draws them: others than those of
`circuits evaluate`."""


def discover(
    task: str | Path | PromptPairs | Task,
    model: Any = "nano",
    *,
    method: MethodName | str = "auto",
    level: Level = "edge",
    nodes: Nodes = "heads",
    positions: str = "",
    direction: Direction = "noising",
    metric: MetricName | None = None,
    select: str = "top",
    top: int | None = None,
    faithful: float | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    memory: str | None = None,
    ablation: AblationName | str = "corrupted",
    bos: bool | None = None,
    chat: bool | str = "",
    model_correct: bool = False,
    progress: Progress | None = None,
    out: str | Path | None = None,
    force: bool = False,
    **options: Any,
) -> CircuitGraph:
    """The circuit with which `model` answers `task`: its `top` strongest edges, pruned.

    `method` may name several, separated by commas: their mean ranks the edges; `auto` is `secant`
    for edges, and for nodes what `circuits.score` chooses. `select` names a
    selector of :data:`circuits.selectors.SELECTORS`, with options as in
    `threshold:least=0.1`; a selector that runs the circuit puts `ablation` instead of all that
    is outside it. `top` defaults to what the selector has (100), and counts what stays connected;
    `faithful` keeps as many instead as give that share of the answer to these prompts.

    `level` is `edge` or `node`: what is scored and chosen. `nodes` says what a circuit is made of:
    `heads` and whole MLPs, or heads and single `neurons`.
    With `positions` every edge is tied to one: `named` (those that the task names, and the rest of
    the prompt as one) or `all` (every token); heads carry from one position to another by crossing
    edges. `top` is then a budget in plain edges (:mod:`patching.placed`).

    `task` is a task or its name, a file of prompt pairs, or `PromptPairs`; `model` is
    anything that :func:`circuits.load_model` opens. `n` prompt pairs are drawn with `seed`
    (default: 64 of a task, all of a file; of `PromptPairs` the first `n`). Of a task named without
    a split, the embedded model is asked what it was not trained on, any other model everything.
    `model_correct` leaves out pairs on which the model does not prefer the right answer of both
    runs. `bos` and `chat` say how texts are put to the model: see :meth:`tasks.base.Task.pairs`.
    `memory`, such as `20GB`, is what scores may take beside the model: see
    :func:`patching.scoring.score`.
    `progress` is called with (done, total, what). With `out` the run folder is written there, as
    the command does, and :func:`circuits.load_run` opens it; a folder that holds this very run is
    read instead of computed, and `force` replaces another one. Further options are the method's.
    Equal arguments give equal circuits. Right answers to which the model gives practically no
    probability are named in a warning of the logger `circuits`.

    >>> circuits.discover("ioi", model=model, method="ig", steps=3, top=40, n=16)
    CircuitGraph(ioi ig noising: ... edges)

    Raises:
        CircuitsError: the task, the model, the method or their combination does not work; what
            can be known beforehand is refused before the model is loaded.
    """
    from circuits.config import Config
    from circuits.models import load_model
    from circuits.unlikely import unlikely
    from tasks import Task
    from tasks.chat import form_of

    config = Config.named(
        locals(),
        task=str(task) if isinstance(task, str | Path) else None,
        model=str(model) if isinstance(model, str | Path) else None,
        chat=form_of(chat),
    )
    config.check()
    if out is not None:
        return _written(config.settled(), Path(out), force, progress)
    if not isinstance(task, str | Path | Task):
        _check_pairs(task, config)
    opened = load_model(model)
    config = config.settled(opened.path)
    pairs = _pairs_of(task, config, opened)
    for note in unlikely(opened, pairs, batch_size):
        logging.getLogger("circuits").warning("%s", note)
    sweep = config.sweep(progress)
    graph = find(config, measure(config, opened, pairs, sweep), opened, pairs, sweep)
    return graph.seen_by(partial(_looked_into, config, opened, pairs))


def _looked_into(
    config: Config, model: Model, pairs: PromptPairs, graph: CircuitGraph
) -> tuple[CircuitGraph, Inside]:
    """A circuit with its faithfulness, and what its page shows of the model at work."""
    from circuits.evaluate import evaluate
    from circuits.inside import look_inside
    from circuits.models import name_of

    options = config.sweep()
    evaluation = evaluate(graph, model, pairs, ablation=config.ablation, batch_size=options)
    name = graph.info.model or name_of(str(model.path))
    noted = evaluation.noted(graph).with_info(model=name)
    return noted, look_inside(noted, model, pairs, evaluation, options)


def _written(config: Config, folder: Path, force: bool, progress: Progress | None) -> CircuitGraph:
    """The circuit of a run folder, which is written first where it is not there."""
    from circuits.folder import CIRCUIT, finished
    from circuits.output import guarded
    from graphs import CircuitGraph

    if config.task is None or config.model is None:
        raise RunError(
            "a run folder names its task and model, so that it can be tested again; give their "
            "names or files, or save the circuit itself: graph.save('circuit.json')"
        )
    with guarded(folder):
        if finished(folder, config, force) is None:
            run(config, folder, progress)
    return CircuitGraph.load(folder / CIRCUIT)


def _check_pairs(pairs: Any, config: Config) -> None:
    """Refuse what is no prompt pairs, or what they leave nothing to say about."""
    from circuits.arguments import check_kinds, check_unput

    check_kinds(pairs=pairs)
    check_unput(config.bos, config.chat)
    if config.n is not None and config.n > len(pairs):
        raise TaskError(f"n is {config.n}, and there are {len(pairs)} prompt pairs")


def _pairs_of(task: str | Path | PromptPairs | Task, config: Config, model: Model) -> PromptPairs:
    """The prompt pairs of a task, of its name or of a file, or some of those given."""
    from circuits.config import N_FROM_TASK
    from circuits.knowledge import only_known
    from circuits.prompts import fitted, prompts_of
    from tasks import PromptPairs, Task

    n = N_FROM_TASK if config.n is None else config.n
    if isinstance(task, PromptPairs):
        pairs = task[: config.n]
    elif isinstance(task, Task):
        tokenizer, seed = model.tokenizer, config.seed
        pairs = task.pairs(tokenizer, n=n, seed=seed, bos=config.bos, chat=config.chat)
    else:
        return prompts_of(config, model)
    pairs = fitted(pairs, config.metric)
    return only_known(model, pairs, config.batch_size) if config.model_correct else pairs


def run(config: Config, folder: Path, progress: Progress | None = None) -> RunRecord:
    """Discover a circuit, test it alone, and write both into the run folder `folder`.

    What was computed is kept in a file beside the folder until the run is there: the same run,
    killed at any time and begun again, goes on from it.

    Raises:
        CircuitsError: as for :func:`discover`; then nothing is written.
    """
    from patching.journal import kept

    config.check()
    with kept(folder, circuits.__version__, config.digest()) as journal:
        return _run(config, folder, config.sweep(progress, journal))


def _run(config: Config, folder: Path, options: Sweep) -> RunRecord:
    from circuits.clock import Clock
    from circuits.evaluate import evaluate
    from circuits.folder import write
    from circuits.inside import look_inside
    from circuits.knowledge import knowledge
    from circuits.models import load_model
    from circuits.prompts import noted_prompts
    from circuits.results.record import AboutPrompts, describe_run
    from circuits.unlikely import unlikely
    from patching.routers import routing

    clock = Clock(options.progress, options.seconds)
    with clock("opening the model"):
        model = load_model(config.model)
    with clock("making the prompts"):
        pairs, remarks = noted_prompts(config, model)
        notes = (*remarks, *unlikely(model, pairs, options))
        known = knowledge(model, pairs, options)
    with clock("scoring"):
        scored = measure(config, model, pairs, options)
        notes += scored.notes
    with clock("choosing the circuit"):
        graph = find(config, scored, model, pairs, options)
    with clock("testing the circuit"):
        evaluation = evaluate(graph, model, pairs, ablation=config.ablation, batch_size=options)
        graph = evaluation.noted(graph)
    with clock("looking inside"):
        inside = look_inside(graph, model, pairs, evaluation, options)
    with clock("testing on new prompts"):
        enough = _enough(config, scored, graph, model, pairs, options)
    routes = None
    if model.anatomy.n_experts:
        with clock("comparing the routers"):
            routes = routing(model, pairs, options)
    about = AboutPrompts(notes, known, routes, enough)
    record = describe_run(config, model, pairs, graph, evaluation, clock.seconds, about)
    write(folder, record, scored.scores, graph, inside)
    return record


def _enough(
    config: Config,
    scored: ScoreSet,
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    options: Sweep,
) -> Enough | None:
    """How many edges are enough, on prompts that were not used; None where none are left.

    Nor is it asked of edges at positions, whose budget is another.
    """
    from circuits.evaluate import edges_of
    from circuits.evaluation.enough import enough
    from circuits.evaluation.running import Running
    from circuits.evaluation.unseen import held_out

    if config.positions:
        return None
    try:
        fresh = held_out(config, model, [pairs], min(NEW_PROMPTS, pairs.prompts), NEW_SEED)
    except RunError:
        return None
    how = {"metric": config.metric, "ablation": config.ablation}
    running = Running.over(options.afresh(), **how).settled(model, fresh, config.nodes)
    return enough(model, fresh, scored.scores, graph, edges_of(graph), running)


def measure(
    config: Config,
    model: Model,
    pairs: PromptPairs,
    options: Sweep | None = None,
    keep_rows: bool = False,
) -> ScoreSet:
    """How much every edge (or node) carries the difference between the two runs.

    Every prompt's own scores are kept with `keep_rows`, and where the choice is made from them.
    """
    from circuits.selection.scored import score_by
    from circuits.selection.select import needs_rows

    return score_by(config, model, pairs, options, keep_rows or needs_rows(config))


def find(
    config: Config,
    scored: ScoreSet,
    model: Model,
    pairs: PromptPairs,
    options: Sweep | None = None,
) -> CircuitGraph:
    """The circuit that the configured choice makes of the scores."""
    from circuits.selection.select import select_by

    graph = select_by(config, scored, model, pairs, options)
    return graph.with_info(model=config.model_label, seed=config.seed)
