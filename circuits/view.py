"""The page of a run, made anew from its files, so that a run of any version has today's page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.folder import CIRCUIT, INSIDE, PAGE
from circuits.output import to_read
from circuits.results.record import RECORD, RunRecord, read_record
from graphs import style
from graphs.inside import Inside, read_inside
from graphs.page import beside, to_html
from graphs.view import View
from tasks.atomic import write_atomically
from tasks.errors import FormatError, RunError

if TYPE_CHECKING:
    from circuits.config import Config
    from graphs import CircuitGraph
    from patching.model import Model
    from tasks import PromptPairs

OLD = (
    "this run was made before prompts and attention were kept with a run: --look computes them "
    "with the run's model"
)
OTHER = "the tokens and attention kept with this run are of another circuit, so they are not shown"
ALONE = "a circuit's file holds no prompts, so tokens, attention and words cannot be shown"


@dataclass(frozen=True)
class Viewed:
    """A circuit to look at, with what is kept of the model at work; ``note`` is what is missing."""

    graph: CircuitGraph
    inside: Inside
    record: RunRecord | None = None
    note: str = ""


def read_viewed(source: Path) -> Viewed:
    """A run folder, or the file of a circuit.

    Raises:
        FormatError: there is none, or it cannot be read.
    """
    from graphs import CircuitGraph

    source = to_read(source)
    folder = source.parent if source.name == RECORD else source
    if not folder.exists():
        raise FormatError(f"there is no run or circuit at {source}")
    if not folder.is_dir():
        return Viewed(CircuitGraph.load(folder), Inside(), note=ALONE)
    if not (folder / CIRCUIT).is_file():
        raise FormatError(f"{folder} holds no circuit: there is no {CIRCUIT} in it")
    graph = CircuitGraph.load(folder / CIRCUIT)
    record = read_record(folder / RECORD) if (folder / RECORD).is_file() else None
    if not (folder / INSIDE).is_file():
        return Viewed(graph, Inside(), record, OLD if record is not None else ALONE)
    try:
        inside = read_inside(folder / INSIDE)
    except FormatError as error:
        note = f"{str(error).splitlines()[0]} The circuit can be seen; --look makes the rest anew"
        return Viewed(graph, Inside(), record, note)
    # What a reader marks does not make another circuit of it.
    if inside.circuit and inside.circuit != graph.with_info(view=View()).digest:
        return Viewed(graph, Inside(), record, OTHER)
    return Viewed(graph, inside, record)


def looked(viewed: Viewed, model: str | None = None) -> Viewed:
    """The same with tokens, attention and words computed by the run's model, or by ``model``.

    Raises:
        RunError: it is not a discovery's run, whose prompts can be made again.
        ModelError: the model is not at hand.
    """
    from circuits.evaluate import evaluate
    from circuits.inside import look_inside
    from patching.sweep import Sweep

    opened, config, pairs = opened_run(viewed, model)
    options = Sweep.of(config.batch_size)
    evaluation = evaluate(viewed.graph, opened, pairs, ablation=config.ablation, batch_size=options)
    inside = look_inside(viewed.graph, opened, pairs, evaluation, options)
    return Viewed(viewed.graph, inside, viewed.record)


def opened_run(viewed: Viewed, model: str | None = None) -> tuple[Model, Config, PromptPairs]:
    """The model of a run, its choices, and its prompts made again.

    Raises:
        RunError, ModelError: as for :func:`looked`.
    """
    from circuits.held_out.fresh_prompts import config_of
    from circuits.prompts import prompts_of
    from circuits.recorded import recorded_model

    if viewed.record is None:
        raise RunError("this is a circuit without a run, so neither model nor prompts are known")
    config = config_of(viewed.record)
    opened = recorded_model(viewed.record.model, model)
    viewed.graph.info.check_model(opened.anatomy.shape)
    return opened, config, prompts_of(config, opened)


def check_servable(viewed: Viewed) -> None:
    """Refuse to serve what has no model to ask.

    Raises:
        RunError: it is a circuit's file, or an All-for-One search.
    """
    from circuits.held_out.fresh_prompts import config_of

    if viewed.record is None:
        raise RunError(
            "--serve asks the model of a run, and this is a circuit without one; leave it out to "
            "see the circuit"
        )
    config_of(viewed.record)


def page_of(viewed: Viewed) -> str:
    """The page of one circuit, which says what cannot be shown."""
    return to_html(viewed.graph, _noted(viewed))


def pages_beside(left: Viewed, right: Viewed) -> str:
    """The pages of two circuits beside one another; above them what they have in common."""
    from graphs.choose import check_comparable
    from graphs.diff import CircuitDiff

    sides = left, right
    titles = [style.caption(side.graph.info)[0] for side in sides]
    title = " and ".join(dict.fromkeys(titles))
    try:
        check_comparable(left.graph, right.graph)
    except FormatError as error:
        pages = [page_of(side) for side in sides]
        return beside(pages, title, [f"{error}; each is shown for itself"])
    differences = [CircuitDiff(left.graph, right.graph).describe()]
    pages = [
        to_html(mine.graph, _noted(mine), other=other.graph) for mine, other in (sides, sides[::-1])
    ]
    return beside(pages, title, differences)


def _noted(viewed: Viewed) -> Inside:
    if not viewed.note:
        return viewed.inside
    return viewed.inside.model_copy(update={"notes": (*viewed.inside.notes, viewed.note)})


def keep(viewed: Viewed, source: Path) -> None:
    """Write what was looked at, and the page, into the folder of the run."""
    folder = source.parent if source.name == RECORD else source
    write_atomically(folder / INSIDE, viewed.inside.to_json().encode())
    write_atomically(folder / PAGE, page_of(viewed).encode())
