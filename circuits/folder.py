"""The run folder: the files of one discovery.

    run.json             what was done and what came out (circuits.results.record)
    scores.safetensors   every score, from which other circuits can be chosen
    circuit.json         the circuit
    circuit.svg          its picture
    inside.json          what the page shows of the model at work (graphs.inside)
    circuit.html         its page

An All-for-One search adds files of its own (circuits.studies.allforone.folder), and so does an
evaluation on held-out prompts: evaluation.json and curves.svg (circuits.held_out.run). Clusters of
its prompts are clusters.json, and cluster-1.json and so on, the circuit of each
(circuits.held_out.clustered_run).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from circuits.config import Config
from circuits.output import Output, vacant, written
from circuits.results.record import KIND, RECORD, RunRecord, read_record
from graphs.files import read_bytes, read_json
from graphs.inside import FILE, Inside
from patching.processes import leads, of_first
from tasks.errors import FormatError, RunError, all_faults
from tasks.limits import MAX_PLAN

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from patching.scores import Scores

SCORES, CIRCUIT = "scores.safetensors", "circuit.json"
PICTURE, PAGE, INSIDE = "circuit.svg", "circuit.html", FILE
FILES = (RECORD, SCORES, CIRCUIT, PICTURE, PAGE)
"""What every finished run has; runs before 0.2 have no inside.json."""

EVALUATION, CURVES = "evaluation.json", "curves.svg"
CLUSTERS = "clusters.json"
OF_A_SEARCH = ("af1.json", "af1.txt", "grid.svg", "means.safetensors")
ALL = (*FILES, INSIDE, *OF_A_SEARCH, EVALUATION, CURVES, CLUSTERS)
NAMES = "|".join([*map(re.escape, ALL), r"cluster-\d{1,4}\.json"])
RUN = Output("run", RECORD, KIND, re.compile(NAMES))


def finished(folder: Path, config: Config, force: bool = False) -> RunRecord | None:
    """The record of the run that `folder` holds already; None where the run is still to be done.

    Of several processes the first looks.

    Raises:
        RunError: the folder holds something else, which only `force` may replace, and only if it
            is a run.
    """
    record = _finished(folder, config, force) if leads() else None
    if of_first(record is not None, f"looking for {folder.name}"):
        return record or _record(folder)
    return None


def _finished(folder: Path, config: Config, force: bool) -> RunRecord | None:
    if vacant(folder):
        return None
    RUN.check(folder)
    if force:
        return None
    record = _record(folder)
    if record is None or record.config_sha256 != config.digest():
        raise RunError(
            f"{folder} holds another run ({_difference(record, config)}); "
            f"choose another --out, or replace it with --force"
        )
    complete = all((folder / name).is_file() for name in FILES)
    return record if complete else None


def write(
    folder: Path, record: RunRecord, scores: Scores, graph: CircuitGraph, inside: Inside
) -> None:
    """Write a finished run; either all of it is there afterwards, or nothing has changed."""
    from graphs.page import save_page

    with written(folder, RUN.check) as partial:
        scores.save(partial / SCORES)
        graph.save(partial / CIRCUIT)
        graph.draw(partial / PICTURE)
        (partial / INSIDE).write_text(inside.to_json(), encoding="utf-8")
        save_page(graph, partial / PAGE, inside=inside)
        (partial / RECORD).write_text(record.to_json(), encoding="utf-8")


class HeldOut(BaseModel):
    """What a table shows of `evaluation.json`."""

    faithfulness: float | None
    interval: tuple[float, float] | None
    n: Annotated[int, Field(ge=0, le=2**53)]
    ablation: str


def read_held_out(folder: Path) -> HeldOut | None:
    """What was measured of a run on held-out prompts; None before that.

    Raises:
        FormatError: its file cannot be read.
    """
    path = folder / EVALUATION
    if not path.exists():
        return None
    data = read_bytes(path, MAX_PLAN, "evaluate the run again")
    try:
        return HeldOut.model_validate(read_json(data, str(path)))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise FormatError(all_faults(f"{path} is not an evaluation:", faults)) from None


def cluster_file(number: int) -> str:
    """The circuit of one cluster, counted from 1."""
    return f"cluster-{number}.json"


def read_clusters(folder: Path) -> dict[str, Any] | None:
    """What is known of the clusters of a run's prompts; None where there are none.

    Raises:
        FormatError: their file cannot be read.
    """
    path = folder / CLUSTERS
    if not path.exists():
        return None
    found = read_json(read_bytes(path, MAX_PLAN, "cluster the run again"), str(path))
    if not isinstance(found, dict):
        raise FormatError(f"{path} tells of no clusters; delete it")
    return found


def _record(folder: Path) -> RunRecord | None:
    try:
        return read_record(folder / RECORD)
    except FormatError:
        return None


def _difference(record: RunRecord | None, config: Config) -> str:
    if record is None:
        return "its run.json cannot be read"
    wanted = config.to_json()
    changed = [
        f"{name} {record.config.get(name)!r}, now {wanted[name]!r}"
        for name in wanted
        if record.config.get(name) != wanted[name]
    ]
    return "; ".join(changed) or "the files of its task or model have changed since"
