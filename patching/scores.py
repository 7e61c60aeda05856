"""Scores: one number per site or edge, with what is needed to read, add and keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from patching.anatomy import Anatomy
from patching.choice import Chosen
from patching.nodes.edges import EdgeNames, recognised
from patching.nodes.layout import Layout, fitting
from patching.sites import nearest, parse_edge
from patching.tensors import Described, read_described, read_tensors, type_faults
from tasks.atomic import write_atomically
from tasks.errors import CircuitsError, FormatError, MethodError, SiteError

if TYPE_CHECKING:
    import pandas as pd

    from patching.heat_map import HeatMap

SCHEMA_VERSION = 1
SIGN = "positive: the site's clean activation pushes the metric towards the clean answer"
DIRECTIONS = ("noising", "denoising")
LEVELS = ("node", "edge", "site", "attention_edge")
WHAT = "a scores file"
TRAINED_ON = "trained_on"
"""The option in which trained scores say by which prompt pairs, by their digest."""
ARRAYS = ("totals", "squares")
KINDS = (
    *((name, str) for name in ("level", "method", "direction", "metric", "task", "model_hash")),
    *(("count", int), ("clean", int | float), ("corrupted", int | float)),
    *(("options", dict), ("anatomy", dict)),
)


@dataclass(frozen=True)
class Scores:
    """An estimate of ``E(s)`` for every site or edge named in ``names``.

    Names of all edges of a model are made only when they are asked for
    (:class:`patching.nodes.edges.EdgeNames`).

    Noising: ``E(s) = m(clean) - m(clean, s := corrupted)``. Denoising:
    ``E(s) = m(corrupted, s := clean) - m(corrupted)``. Both are in units of the metric, and
    positive always means that the clean activation pushes the metric towards the clean answer.

    ``totals`` are sums over prompts in float64, so that scores of several batches, or of several
    processes, add up with ``+``; :attr:`values` are the means over prompts. ``squares`` are sums
    of the squared per-prompt scores, from which :attr:`standard_error` follows. ``clean`` and
    ``corrupted`` are sums of the metric over the same prompts. ``chosen`` says what the method
    ``auto`` took, at what cost, and how a sample of its estimates agrees with the exact effect.

    >>> halves = [circuits.score(model, pairs[part]) for part in (slice(8), slice(8, 16))]
    >>> both = halves[0] + halves[1]
    >>> both.count, both.ranked()[0]
    (16, 'input->a0.h2<v>')
    >>> both.save("scores.safetensors")
    >>> circuits.Scores.load("scores.safetensors")["a0.h2->m0"] == both["a0.h2->m0"]
    True
    """

    names: Sequence[str]
    totals: Float[np.ndarray, " sites"]
    count: int
    level: str
    method: str
    direction: str
    metric: str
    anatomy: Anatomy
    squares: Float[np.ndarray, " sites"] | None = None
    clean: float = float("nan")
    corrupted: float = float("nan")
    task: str = ""
    model_hash: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    chosen: Chosen | None = None

    def __post_init__(self) -> None:
        totals = np.asarray(self.totals, dtype=np.float64)
        object.__setattr__(self, "totals", totals)
        faults = []
        if totals.shape != (len(self.names),):
            faults.append(f"{len(self.names)} names for totals of shape {totals.shape}")
        if self.squares is not None and np.shape(self.squares) != totals.shape:
            faults.append(f"totals of shape {totals.shape} and squares of {np.shape(self.squares)}")
        if self.level not in LEVELS:
            faults.append(f"level '{self.level}' is none of {', '.join(LEVELS)}")
        if self.direction not in DIRECTIONS:
            faults.append(f"direction '{self.direction}' is none of {', '.join(DIRECTIONS)}")
        if self.count < 1:
            faults.append(f"count is {self.count}; scores need at least one prompt")
        if faults:
            raise MethodError("scores do not fit together: " + "; ".join(faults))
        if not np.isfinite(totals).all():
            bad = [self.names[i] for i in np.flatnonzero(~np.isfinite(totals)).tolist()]
            raise MethodError(
                f"{self.method}: {len(bad)} scores are not finite numbers, first at {bad[0]}; "
                f"check the model's activations there, or run it in float32"
            )

    @property
    def values(self) -> Float[np.ndarray, " sites"]:
        """Mean score over prompts, in units of the metric."""
        return self.totals / self.count

    @property
    def standard_error(self) -> Float[np.ndarray, " sites"] | None:
        """Standard error of :attr:`values` over prompts; None where squares were not kept."""
        if self.squares is None or self.count < 2:
            return None
        variance = self.squares / self.count - self.values**2
        return np.sqrt(np.maximum(variance, 0.0) / (self.count - 1))

    @property
    def total_effect(self) -> float:
        """Mean of ``m(clean) - m(corrupted)``."""
        return (self.clean - self.corrupted) / self.count

    @property
    def trained(self) -> bool:
        """Whether they are shares of circuits, found by training, and no effects."""
        return TRAINED_ON in self.options

    @property
    def completeness_error(self) -> float | None:
        """What leaves the input, less :attr:`total_effect`; None where the input is not scored.

        Zero for scores that carry the whole difference: exact two-run secants, and integrated
        gradients in the limit of many steps. None of trained scores, which are no effects.
        """
        if self.trained:
            return None
        if isinstance(self.names, EdgeNames):
            out = self.names.leaving("input")
        else:
            leaves = [n == "input" or n.startswith("input->") for n in self.names]
            out = np.flatnonzero(leaves)
        return float(self.values[out].sum()) - self.total_effect if len(out) else None

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> float:
        """The mean score of one site or edge, by name."""
        if isinstance(self.names, EdgeNames):
            return float(self.values[self.names.number(name)])
        if name not in self._index:
            raise SiteError(f"no score for '{name}'{nearest(name, list(self.names))}")
        return float(self.values[self._index[name]])

    def __add__(self, other: Scores) -> Scores:
        """Scores over the prompts of both; everything but the prompts must agree."""
        if self.trained:
            raise MethodError(
                f"scores of '{self.method}' are of all prompts they were trained on, and those of "
                f"two trainings do not add up; train on all prompts at once"
            )
        agreeing = "names", "level", "method", "options", "direction", "metric", "anatomy"
        for what in (*agreeing, "model_hash"):
            if getattr(self, what) != getattr(other, what):
                raise MethodError(f"cannot add scores whose {what} differ")
        both = self.squares is not None and other.squares is not None
        return replace(
            self,
            totals=self.totals + other.totals,
            count=self.count + other.count,
            squares=self.squares + other.squares if both else None,  # type: ignore[operator]
            clean=self.clean + other.clean,
            corrupted=self.corrupted + other.corrupted,
            chosen=self.chosen if self.chosen == other.chosen else None,
        )

    def ranked(self, absolute: bool = True) -> list[str]:
        """Names from strongest to weakest; ties keep the order of computation."""
        names = tuple(self.names)
        return [names[i] for i in self.order(absolute)]

    def order(self, absolute: bool = True) -> Int[np.ndarray, " sites"]:
        """Places of :attr:`names` from strongest to weakest, as :meth:`ranked`."""
        values = np.abs(self.values) if absolute else self.values
        return np.argsort(-values, kind="stable")

    def edges(self) -> tuple[Layout, Int[np.ndarray, " sites"]]:
        """The layout of the edges scored, and their numbers in it.

        Raises:
            SiteError: a name is no edge at all positions.
        """
        if isinstance(self.names, EdgeNames) and self.names.labels == (None,):
            return self.names.layout, np.arange(len(self.names))
        edges = [parse_edge(name) for name in self.names]
        if tied := [edge for edge in edges if edge.receiver.position is not None]:
            raise SiteError(f"'{tied[0]}' is tied to a position; only edges at all can be run")
        layout = fitting(self.anatomy, (end for e in edges for end in (e.sender, e.receiver)))
        return layout, np.array([layout.number(edge) for edge in edges], dtype=np.int64)

    def to_frame(self) -> pd.DataFrame:
        """A data frame with the columns name, score and (where known) standard_error."""
        import pandas as pd

        columns: dict[str, Any] = {"name": self.names, "score": self.values}
        if self.standard_error is not None:
            columns["standard_error"] = self.standard_error
        return pd.DataFrame(columns)

    def heat_map(self, labels: Mapping[int | str, str] | None = None) -> HeatMap:
        """A table that draws itself in a notebook; see :func:`patching.heat_map.heat_map`."""
        from patching.heat_map import heat_map

        return heat_map(self, labels)

    def _repr_html_(self) -> str:
        from patching.heat_map import summary

        return summary(self)

    def describe(self) -> dict[str, Any]:
        """Everything but the arrays, as plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "level": self.level,
            "method": self.method,
            "direction": self.direction,
            "metric": self.metric,
            "sign": SIGN,
            "count": self.count,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "task": self.task,
            "model_hash": self.model_hash,
            "options": dict(self.options),
            "anatomy": self.anatomy.to_json(),
            **({} if self.chosen is None else {"chosen": self.chosen.to_json()}),
        }

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with a JSON description in its header; replaces ``path``."""
        from safetensors.numpy import save

        arrays = {"totals": self.totals}
        if self.squares is not None:
            arrays["squares"] = self.squares
        described = self.describe() | {"names": list(self.names)}
        header = {"scores": json.dumps(described, sort_keys=True)}
        # Written by us, so that it is as open to others as any file.
        write_atomically(path, save(arrays, metadata=header))

    @classmethod
    def load(cls, path: str | Path) -> Scores:
        """Read what :meth:`save` wrote.

        Raises:
            FormatError: not such a file, or written by a newer version.
        """
        about, header = read_described(Path(path), "scores", WHAT, SCHEMA_VERSION)
        about.pop("sign", None)
        chosen = about.pop("chosen", None)
        if faults := [*type_faults(about, KINDS), *_faults(about, header.tensors)]:
            raise FormatError(f"{path} is not {WHAT}: {'; '.join(faults)}")
        names, anatomy = tuple(about.pop("names")), about.pop("anatomy")
        try:
            anatomy = Anatomy.from_json(anatomy)
            arrays = read_tensors(Path(path), "numpy", WHAT)
            about["chosen"] = chosen and Chosen.from_json(chosen)
            return cls(names=recognised(names, anatomy), anatomy=anatomy, **arrays, **about)
        except (TypeError, CircuitsError) as error:
            raise FormatError(f"{path} is not {WHAT}: {error}") from None

    def __repr__(self) -> str:
        return (
            f"Scores({self.method}, {self.level}, {self.direction}, {len(self)} names, "
            f"{self.count} prompts, metric {self.metric})"
        )


def _faults(about: Mapping[str, Any], tensors: Mapping[str, Described]) -> Iterator[str]:
    """What is wrong with names and arrays, as far as the header tells."""
    if unknown := sorted(set(about) - {"names", *(name for name, _ in KINDS)}):
        yield f"it has {unknown[0][:40]!r}, which no scores have"
    names = about.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield "its names are no list of texts"
        return
    if len(set(names)) != len(names):
        yield "it names a site or edge twice"
    if "totals" not in tensors:
        yield "it holds no totals"
    for name, tensor in tensors.items():
        if name not in ARRAYS:
            yield f"it holds {name[:40]!r}, which no scores have"
        elif tensor != Described("F64", (len(names),)):
            shape = f"{tensor.dtype} of shape {list(tensor.shape)}"
            yield f"its {name} are {shape}, for {len(names)} names in F64"
