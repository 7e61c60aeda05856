"""What a discovery is refused for before anything is loaded, one function for each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.models import EMBEDDED, check_chat, locate
from tasks.errors import CircuitsError, MethodError, TaskError, number_faults, unknown
from tasks.written import parted

if TYPE_CHECKING:
    from circuits.config import Config

LEVELS = ("edge", "node")
POSITIONS = ("named", "all")
AUTO, EXACT, FOR_EDGES = "auto", "activation", "secant"
ROWS_ONLY = ("bootstrap",)
"""Selectors that choose from every prompt's own scores."""


def faults_of(config: Config) -> list[CircuitsError]:
    """Everything that cannot work."""
    checks = (
        *(check_task, check_model, check_method, check_metric, check_choice, check_positions),
        *(check_ablation, check_the_chat, check_memory),
    )
    faults = [fault for check in checks if (fault := _fault(check, config)) is not None]
    numbers = [("top", config.top, 1), ("n", config.count, 1)]
    given = [(name, value, least) for name, value, least in numbers if value is not None]
    more = ("seed", config.seed, 0), ("batch size", config.batch_size, 1)
    return faults + [MethodError(text) for text in number_faults(*given, *more)]


def _fault(check: Callable[[Config], None], config: Config) -> CircuitsError | None:
    try:
        check(config)
    except CircuitsError as fault:
        return fault
    return None


def check_task(config: Config) -> None:
    """Refuse a task that there is not, or a file of prompt pairs that cannot be read."""
    import tasks
    from tasks.files import check_lines

    if config.task is None:
        return
    if config.asked:
        raise TaskError(
            f"a task ({config.task}) and questions of your own are given; choose one of them"
        )
    if config.from_file:
        if not Path(config.task).is_file():
            raise TaskError(
                f"there is no file '{config.task}'; give a file of prompt pairs, "
                f"or a task: {', '.join(tasks.names())}"
            )
        check_lines(config.task, config.skip_bad)
    elif config.task in EMBEDDED:
        raise TaskError(f"'{config.task}' is a model, not a task; the task comes first")
    elif (name := parted(config.task)[0]) not in tasks.names():
        raise TaskError(f"{unknown('task', name, tasks.names())}, or a file such as pairs.jsonl")
    else:
        tasks.get(config.task)


def check_model(config: Config) -> None:
    """Refuse a model that cannot be found."""
    if config.model is not None:
        locate(config.model)


def check_the_chat(config: Config) -> None:
    """Refuse chat turns of a model that has no chat template."""
    check_chat(config.model, config.chat)


def check_method(config: Config) -> None:
    """Refuse an unknown direction, level, kind of nodes, method or option."""
    from patching.methods import get, linearisation
    from patching.scores import DIRECTIONS
    from patching.sites import NODES

    if config.direction not in DIRECTIONS:
        raise MethodError(unknown("direction", config.direction, DIRECTIONS))
    if config.level not in LEVELS:
        raise MethodError(unknown("level", config.level, LEVELS))
    if config.nodes not in NODES:
        raise MethodError(unknown("kind of nodes", config.nodes, NODES))
    for name, given in config.methods:
        options = get(name).check(given)
        if get(name).tier == "set":
            _learned(config, name, options)
        elif given and name not in (AUTO, EXACT):
            linearisation(name, options)


def _learned(config: Config, name: str, options: Mapping[str, Any]) -> None:
    """Refuse what a training of circuits cannot give.

    Raises:
        MethodError: a mean with other methods, a choice from every prompt's own scores,
            settings that cannot be meant, or a loss that the metric cannot give.
    """
    from patching.learned.settings import Settings

    if len(config.methods) > 1:
        raise MethodError(
            f"'{name}' gives shares of circuits, of which there is no mean with effects in "
            f"units of the metric; take it alone"
        )
    if config.choice.selector.name in ROWS_ONLY:
        raise MethodError(
            f"the selector '{config.choice.selector.name}' chooses by the spread over prompts, "
            f"and '{name}' has one ranking for all prompts; take another selector"
        )
    settings = Settings.of(options)
    if (metric := config.metric or _task_metric(config)) is not None:
        settings.check_metric(metric)


def _task_metric(config: Config) -> str | None:
    """The metric of the task; None where only its prompts tell, or there is no such task."""
    import tasks

    if config.task is None or config.from_file:
        return None
    return tasks.get(config.task).metric if parted(config.task)[0] in tasks.names() else None


def check_choice(config: Config) -> None:
    """Refuse a number or share to keep that the selector has no use for."""
    selector = config.choice.selector
    if config.top is not None and not selector.limited:
        raise MethodError(
            f"the selector '{selector.name}' keeps as many as pass; leave out the number to "
            f"keep ({config.top}), or take another selector"
        )
    if config.faithful is not None:
        _check_faithful(config)
    if config.level in LEVELS and config.level not in selector.levels:
        raise MethodError(f"the selector '{selector.name}' chooses edges, not {config.level}s")


def check_positions(config: Config) -> None:
    """Refuse edges at positions together with what is not made for them."""
    if not config.positions:
        return
    if config.positions not in POSITIONS:
        raise MethodError(unknown("positions", config.positions, POSITIONS))
    if config.level != "edge" or config.nodes != "heads":
        raise MethodError(
            "at positions a circuit is made of edges between heads and whole MLPs; leave out "
            "--level and --nodes, or --positions"
        )
    choice = config.choice
    several = len(config.methods) > 1
    if choice.selector.name != "top" or several or config.faithful is not None:
        raise MethodError(
            "at positions the strongest edges of one method are taken that a budget pays for; "
            "give one --method, no --faithful, and no --select but top (absolute=false)"
        )


def _check_faithful(config: Config) -> None:
    """Refuse a share that no number of edges can be found for."""
    if not 0 < (config.faithful or 0) < 1:
        raise MethodError(
            f"faithful is {config.faithful}; give the share of the answer that the circuit is to "
            f"give, between 0 and 1, such as 0.85"
        )
    if config.top is not None:
        raise MethodError(
            f"a number of edges to keep ({config.top}) and a share of the answer to give "
            f"({config.faithful}) are given; choose one of them"
        )
    if config.choice.selector.name != "top":
        raise MethodError(
            f"a share of the answer chooses how many of the strongest are kept, which the "
            f"selector '{config.choice.selector.name}' does not do; take --select top"
        )


def check_memory(config: Config) -> None:
    """Refuse a size of memory that cannot be read."""
    from patching.sizes import bytes_of

    if config.memory is not None:
        bytes_of(config.memory)


def check_ablation(config: Config) -> None:
    """Refuse an unknown ablation."""
    from patching.ablation.kinds import outside

    outside(config.ablation)


def check_metric(config: Config) -> None:
    """Refuse an unknown metric."""
    if config.metric is None:
        return
    from patching.metrics import METRICS

    if config.metric not in METRICS:
        raise MethodError(unknown("metric", config.metric, METRICS))
