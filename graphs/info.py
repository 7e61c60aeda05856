"""What a circuit is a circuit of: task, method, model, how it was chosen, what it recovers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graphs.view import View
from patching.anatomy import Anatomy, contradictions, other_model
from patching.scores import DIRECTIONS, Scores
from tasks.errors import FormatError, SiteError

LEVELS = ("edge", "node")
UNSTATED = ("n_kv_heads", "d_head", "d_mlp")
"""What a file may leave unsaid of its model; circuits of heads and MLPs do not depend on it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """How a circuit's edges (of a node circuit: nodes) were chosen.

    ``considered`` had a score, ``requested`` were asked for, ``chosen`` met the rule, ``kept`` are
    in the circuit once everything that does not connect input to logits has been dropped.
    """

    rule: str = "all"
    absolute: bool = True
    requested: int | None = None
    threshold: float | None = None
    considered: int = 0
    chosen: int = 0
    kept: int = 0

    @property
    def left_out(self) -> int:
        """How many had a score and are not in the circuit."""
        return self.considered - self.kept

    def describe(self, unit: str = "edge") -> str:
        """One line for a legend, such as ``top 9 by |score|: 7 of 46 edges, 39 left out``.

        Empty where it is not known how many had a score.
        """
        if not self.considered:
            return ""
        by = "|score|" if self.absolute else "score"
        what = {
            "top": f"top {self.requested} by {by}",
            "top-fill": f"top by {by} until {self.requested} are kept",
            "threshold": f"{by} at least {_short(self.threshold)}",
            "placed": f"by {by}, for the cost of {self.requested} plain edges",
            "greedy": f"{self.requested} greedily from the logits by {by}",
            "acdc": f"pruned edge by edge, each moving the metric by at least "
            f"{_short(self.threshold)}",
            "iterated": f"{self.requested} by {by} inside ever smaller circuits",
            "bootstrap": "interval over prompts excludes 0"
            + ("" if self.requested is None else f", top {self.requested} by {by}"),
        }.get(self.rule, self.rule)
        return f"{what}: {self.kept:,} of {self.considered:,} {unit}s, {self.left_out:,} left out"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Mean metric of the whole model, of nothing, and of the circuit; None where not measured.

    ``full`` is the metric of the clean run and ``empty`` the metric with everything ablated.
    ``faithfulness`` is ``(circuit - empty) / (full - empty)``.
    """

    full: float | None = None
    empty: float | None = None
    circuit: float | None = None
    faithfulness: float | None = None
    ablation: str = ""


@dataclass(frozen=True, slots=True)
class CircuitInfo:
    """Where a circuit comes from. Holds nothing that differs between two equal runs.

    ``prompts`` counts prompt pairs; ``options`` are the method's, as plain JSON values.
    ``unknown`` names numbers of ``anatomy`` that the circuit's file does not state (those of other
    programs state few): what stands there is a guess, which contradicts no model. ``view`` is what
    a reader has marked.
    """

    anatomy: Anatomy
    level: str = "edge"
    task: str = ""
    method: str = ""
    metric: str = ""
    direction: str = "noising"
    prompts: int = 0
    seed: int | None = None
    model: str = ""
    model_hash: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    selection: Selection = Selection()
    metrics: Metrics = Metrics()
    unknown: tuple[str, ...] = ()
    view: View = field(default_factory=View)

    def token(self, position: int | str | None) -> str:
        """The text at a position in the first prompt, where the circuit knows it."""
        places = self.options.get("places")
        token = places.get(str(position), "") if isinstance(places, dict) else ""
        return token if isinstance(token, str) else ""

    @property
    def of_pairs(self) -> bool:
        """Whether it is about pairs of prompts, so that there is a clean answer.

        The metric of any other study is no name but a description.
        """
        return " " not in self.metric

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise FormatError(f"level '{self.level}' is none of {', '.join(LEVELS)}")
        if odd := [name for name in self.unknown if name not in UNSTATED]:
            raise FormatError(f"'{odd[0]}' may not be unknown; {', '.join(UNSTATED)} may")
        if self.direction not in DIRECTIONS:
            raise FormatError(f"direction '{self.direction}' is none of {', '.join(DIRECTIONS)}")
        try:
            text = json.dumps(dict(self.options), allow_nan=False, ensure_ascii=False)
            stated = (text, self.task, self.method, self.metric, self.model, self.model_hash)
            "".join(stated).encode()
            plain = json.loads(text)
        except (TypeError, ValueError) as error:
            raise FormatError(f"options must be plain JSON values, texts valid: {error}") from None
        object.__setattr__(self, "options", plain)
        object.__setattr__(self, "unknown", tuple(sorted(set(self.unknown))))

    @property
    def shape(self) -> dict[str, Any]:
        """What is known of the model's shape, by name."""
        shape = self.anatomy.shape
        return {name: value for name, value in shape.items() if name not in self.unknown}

    def differences(self, model: Mapping[str, Any]) -> list[str]:
        """What contradicts a model's shape, such as ``n_layers 12, given 4``; nothing if it fits.

        What is unknown on either side, or a family without a name, contradicts nothing.
        """
        return contradictions(self.shape, model)

    def check_model(self, model: Mapping[str, Any]) -> None:
        """Refuse a model of another shape.

        Raises:
            SiteError: naming every number that differs.
        """
        if odd := self.differences(model):
            raise SiteError(other_model(odd))

    @classmethod
    def from_scores(cls, scores: Scores, **changes: Any) -> CircuitInfo:
        """The part of the metadata that scores know."""
        known = scores.clean == scores.clean and scores.corrupted == scores.corrupted
        metrics = Metrics(
            full=scores.clean / scores.count if known else None,
            empty=scores.corrupted / scores.count if known else None,
        )
        info = cls(
            anatomy=scores.anatomy,
            level="edge" if scores.level == "edge" else "node",
            task=scores.task,
            method=scores.method,
            metric=scores.metric,
            direction=scores.direction,
            prompts=scores.count,
            model_hash=scores.model_hash,
            options=scores.options,
            selection=Selection(considered=len(scores), chosen=len(scores), kept=len(scores)),
            metrics=metrics,
        )
        return replace(info, **changes)

    def selected(self, **changes: Any) -> CircuitInfo:
        """The same origin for another choice of edges: the circuit's own metric is unknown."""
        metrics = replace(self.metrics, circuit=None, faithfulness=None)
        return replace(self, selection=replace(self.selection, **changes), metrics=metrics)

    def merged(self, other: CircuitInfo) -> CircuitInfo:
        """What two origins share; texts that differ are joined, numbers that differ are dropped."""
        changes: dict[str, Any] = {}
        for name in ("task", "method", "metric", "model", "model_hash"):
            mine, theirs = getattr(self, name), getattr(other, name)
            changes[name] = mine if mine == theirs else " + ".join(filter(None, (mine, theirs)))
        changes["seed"] = self.seed if self.seed == other.seed else None
        changes["prompts"] = self.prompts if self.prompts == other.prompts else 0
        changes["options"] = self.options if self.options == other.options else {}
        if self.metrics != other.metrics:
            changes["metrics"] = Metrics()
        pinned = dict.fromkeys((*self.view.pinned, *other.view.pinned))
        groups = dict.fromkeys((*self.view.groups, *other.view.groups))
        changes["view"] = View(tuple(pinned), tuple(groups))
        changes["unknown"] = tuple(set(self.unknown) & set(other.unknown))
        stated = {
            name: getattr(other.anatomy, name) for name in set(self.unknown) - set(other.unknown)
        }
        stated["family"] = self.anatomy.family or other.anatomy.family
        changes["anatomy"] = replace(self.anatomy, **stated)
        considered = max(self.selection.considered, other.selection.considered)
        return replace(self, **changes).selected(considered=considered)


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"
