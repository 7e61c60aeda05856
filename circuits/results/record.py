"""The record of a run: what was done, with what, how long it took, and what came out."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import circuits
from circuits.config import Config
from circuits.models import fingerprint, name_of
from circuits.results.program import commit_of, versions
from graphs.files import read_bytes, read_json
from tasks.errors import FormatError, all_faults
from tasks.limits import MAX_PLAN

if TYPE_CHECKING:
    from circuits.evaluate import Evaluation
    from circuits.evaluation.enough import Enough
    from circuits.knowledge import Knowledge
    from graphs import CircuitGraph
    from patching.model import Model
    from patching.routers import Routing
    from tasks import PromptPairs

RECORD = "run.json"
KIND = "circuits run"
SCHEMA_VERSION = "1.4"
STRONGEST = 10
Count = Annotated[int, Field(ge=0, le=2**53)]


class Part(BaseModel):
    """A part of the record: immutable; fields of a later minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Program(Part):
    """The code that ran; `commit` where it was a git checkout."""

    version: str
    commit: str | None = None
    changed: bool | None = None


class ModelRecord(Part):
    """The model as it was asked for, where it was found, and the hash of what was loaded.

    `description` is what is shown, with the quantisation; `files` the hash of its files on the
    disk, empty for a hub id.
    """

    name: str
    path: str
    hash: str
    description: str = ""
    files: str = ""
    tokenizer: str | None = None


class KnownRecord(Part):
    """On how many pairs the model prefers the right answer in both runs, and of each template."""

    pairs: Count
    of: Count
    by_template: dict[str, tuple[Count, Count]]


class Prompts(Part):
    """The prompt pairs: how many, the hash of their contents, and what is known of them."""

    task: str
    n: Count
    sha256: str
    notes: tuple[str, ...] = ()
    known: KnownRecord | None = None


class StrongEdge(Part):
    """An edge, or a node of a circuit of nodes, with its score."""

    name: str
    score: float


class CircuitRecord(Part):
    """The circuit that was kept."""

    nodes: Count
    edges: Count
    selection: str
    strongest: tuple[StrongEdge, ...]


class EvaluationRecord(Part):
    """The circuit against the whole model and nothing, means over prompts."""

    metric: str
    full: float
    empty: float
    circuit: float
    n: int
    per_prompt: tuple[float, ...]
    interval: tuple[float, float] | None
    faithfulness: float | None
    ablation: str = Field("corrupted", description="what stood in outside the circuit")


class NeededRecord(Part):
    """A share of the answer, and the smallest size found to give it.

    `count` are ranked edges (or nodes) taken, `kept` those that connect input to logits.
    """

    share: float
    count: Count
    kept: Count
    faithfulness: float


class ShownRecord(Part):
    """What the circuit of the run gives on the same new prompts."""

    size: Count
    faithfulness: float
    interval: tuple[float, float] | None = None


class EnoughRecord(Part):
    """How many edges give how much of the answer to prompts that the circuit was not found on."""

    prompts: Count
    unit: str
    considered: Count
    needed: tuple[NeededRecord, ...]
    circuit: ShownRecord
    share_asked_for: float
    enough: bool
    told: str = Field(description="the same in words")


class RoutingRecord(Part):
    """How often the clean and the corrupted run choose the same experts."""

    tokens: Count
    everywhere: float
    by_layer: dict[str, float]
    told: str = Field(description="the same in words")


class RunRecord(Part):
    """Everything a run says about itself; `run.json` in the run folder."""

    kind: Literal["circuits run"] = "circuits run"
    schema_version: str = Field(SCHEMA_VERSION, pattern=r"^1\.\d+$")
    created: str
    program: Program
    argv: tuple[str, ...]
    config: dict[str, Any]
    config_sha256: str
    versions: dict[str, str]
    platform: str
    threads: int
    device: str = "cpu"
    model: ModelRecord
    prompts: Prompts
    evaluation: EvaluationRecord
    circuit: CircuitRecord
    experts: RoutingRecord | None = Field(None, description="of models that have any")
    enough: EnoughRecord | None = Field(None, description="where there were prompts left to ask")
    seconds: dict[str, float] = Field(description="wall time by step")

    @field_validator("config", mode="before")
    @classmethod
    def _renamed(cls, config: Any) -> Any:
        """Records before 1.3 called `select` by the name `choose`."""
        if not isinstance(config, Mapping) or "choose" not in config:
            return config
        return {("select" if name == "choose" else name): config[name] for name in config}

    @field_validator("config")
    @classmethod
    def _shown(cls, config: dict[str, Any]) -> dict[str, Any]:
        """What every table of a run shows is there."""
        for name in ("method", "direction"):
            if not isinstance(config.get(name), str):
                raise ValueError(f"it needs a text as {name}")
        return config

    def to_json(self) -> str:
        """The text of `run.json`."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class AboutPrompts:
    """What a run found out about its prompts before it looked for a circuit.

    notes     what to know of their file and of how their answers are measured
    known     on which of them the model prefers the right answers
    routing   how often both runs choose the same experts
    enough    how many edges are enough on new prompts
    """

    notes: Sequence[str] = ()
    known: Knowledge | None = None
    routing: Routing | None = None
    enough: Enough | None = None


def describe_run(
    config: Config,
    model: Model,
    pairs: PromptPairs,
    graph: CircuitGraph,
    evaluation: Evaluation,
    seconds: Mapping[str, float],
    about: AboutPrompts | None = None,
) -> RunRecord:
    """The record of a discovery that has just been made."""
    about = about or AboutPrompts()
    import torch

    tokenizer = model.tokenizer
    strongest = [StrongEdge(name=name, score=graph[name]) for name in graph.ranked()[:STRONGEST]]
    return RunRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        program=_program(),
        argv=tuple(sys.argv),
        config=config.to_json(),
        config_sha256=config.digest(),
        versions=versions(),
        platform=platform.platform(),
        threads=torch.get_num_threads(),
        device=str(model.device),
        model=ModelRecord(
            name=config.model or "",
            path=str(model.path),
            hash=model.hash,
            description=name_of(str(model.path)),
            files=fingerprint(config.model) if config.model else "",
            tokenizer=None if tokenizer is None else type(tokenizer).__name__,
        ),
        prompts=Prompts(
            task=pairs.task,
            n=pairs.prompts,
            sha256=pairs.digest,
            notes=tuple(about.notes),
            known=None if about.known is None else KnownRecord(**about.known.to_json()),
        ),
        evaluation=EvaluationRecord(**evaluation.to_json()),
        circuit=CircuitRecord(
            nodes=len(graph.nodes),
            edges=len(graph.edges),
            selection=_selection(graph),
            strongest=tuple(strongest),
        ),
        experts=None if about.routing is None else _experts(about.routing),
        enough=None if about.enough is None else EnoughRecord(**about.enough.to_json()),
        seconds={step: round(value, 3) for step, value in seconds.items()},
    )


def _selection(graph: CircuitGraph) -> str:
    """How the circuit was chosen; at places also what it costs."""
    words, options = graph.info.selection.describe(graph.level), graph.info.options
    if "cost_of_all" not in options:
        return words
    return f"{words}; it costs {options['cost']:,.1f} of {options['cost_of_all']:,.0f} plain edges"


def _experts(routing: Routing) -> RoutingRecord:
    by_layer = zip(routing.layers, routing.alike.tolist(), strict=True)
    return RoutingRecord(
        tokens=routing.tokens,
        everywhere=routing.everywhere,
        by_layer={f"m{layer}": share for layer, share in by_layer},
        told=str(routing),
    )


def read_record(path: Path) -> RunRecord:
    """Read a `run.json`.

    Raises:
        FormatError: it cannot be read, is not a run record, or comes from a newer version.
    """
    values = read_json(read_bytes(path, MAX_PLAN, "no run writes as much"), str(path), True)
    try:
        return RunRecord.model_validate(values)
    except ValidationError as error:
        places = {".".join(map(str, fault["loc"])) or "file": fault for fault in error.errors()}
        if "schema_version" in places and "kind" not in places:
            raise FormatError(
                f"{path} has schema version {places['schema_version']['input']!r}; this program "
                f"reads 1.x; use the version of circuits that wrote it"
            ) from None
        faults = [f"{place}: {fault['msg']}" for place, fault in places.items()]
        headline = f"{path} is not a run record of schema version 1:"
        raise FormatError(all_faults(headline, faults)) from None


def _program() -> Program:
    commit, changed = commit_of(Path(__file__).resolve().parent.parent.parent)
    if commit is None:
        return Program(version=circuits.__version__)
    return Program(version=circuits.__version__, commit=commit, changed=changed)
