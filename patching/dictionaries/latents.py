"""Scores of latents and error terms: what each carries of the difference between the runs.

With ``a_j`` the amounts of a dictionary's latents, ``w_j`` its directions and ``g`` a method's
gradient of the metric at what the dictionary takes apart,

    E(latent j) ~ sum over s of (a_j clean - a_j corrupted)[s] (g[s] . w_j)
    E(error)    ~ sum over s of (delta - sum_j delta a_j w_j)[s] . g[s]

so that latents and error always sum to the site's own score, for every method (Marks et al. 2024,
arXiv 2403.19647, with their splice written out: its backward pass is the plain one). Exact,
noising: ``m(x) - m(x - delta a_j w_j)``, with the run's own error left in place. A constant
difference, such as that of a skip connection, belongs to the error.

A latent that is silent in both runs of every prompt is no node and has no name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.activation import ExactSweep
from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.read import check_apart
from patching.dictionaries.readings import check_fit, kinds_of, like_point, point_of, value_at
from patching.dictionaries.splice import held, in_order
from patching.gradient_scores import combine
from patching.linearised import Kinds, Pass
from patching.methods import get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.norms import precise
from patching.ops import Point
from patching.progress import Progress
from patching.runs import Batch
from patching.scores import Scores
from patching.setting import Setting, check_direction
from patching.sites import nearest
from patching.sitesets import at_labels, labels_of
from patching.softmax_response import label_masks
from patching.sweep import Sweep, added, sweep
from patching.written import read_method
from tasks.errors import MethodError, SiteError
from tasks.pairs import PromptPairs

DEFAULT = "secant"
MOST_EXACT = 200_000
"""Runs that exact scores may take, latents times positions times prompts."""


@dataclass(frozen=True)
class Difference:
    """What differs between the two runs at one dictionary's place, clean minus corrupted."""

    amounts: Float[Tensor, "b s m"]
    rest: Float[Tensor, "b s d"]


def difference(
    model: Model, dictionary: Dictionary, clean: dict[Point, Tensor], corrupted: dict[Point, Tensor]
) -> Difference:
    """The difference in amounts, and all of the rest of the value's difference."""
    (y, here), (y2, there) = (held(model, dictionary, run) for run in (clean, corrupted))
    amounts = here - there
    return Difference(amounts, y - y2 - amounts @ dictionary.W_dec)


def latent_scores(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Iterable[Dictionary],
    method: str = DEFAULT,
    direction: str = "noising",
    metric: str | Metric = "logit_diff",
    *,
    positions: str = "all",
    batch_size: int | Sweep = 32,
    progress: Progress | None = None,
    only: Sequence[str] | None = None,
    **options: Any,
) -> Scores:
    """Score every latent and error term of some dictionaries, in units of the metric.

    ``method`` is any that scores sites, options written behind it; ``activation`` is exact, and
    takes one run for each latent. ``only`` names those that are wanted. ``positions`` are as in
    :func:`patching.scoring.score`.

    Raises:
        SiteError: a dictionary that does not fit the model, or a name that is none of theirs.
        FormatError: two dictionaries at one place.
        MethodError: an unknown method or option, or more exact runs than are done.
    """
    placed = in_order(dictionaries)
    check_apart(placed)
    for each in placed:
        check_fit(model, each)
    name, written = read_method(method)
    filled = get(name).check({**written, **options})
    check_direction(direction)
    labels, checked = labels_of(positions, pairs), check_metric(metric)
    like = next(iter(model.hf.parameters()))
    like = like if like.dtype == torch.float64 else like.float()
    moved = tuple(each.to(like) for each in placed)
    work = _Work(model, moved, checked, direction, labels, name, filled, _wanted(placed, only))
    sweeping = Sweep.of(batch_size, progress).counting(len(pairs), f"{name} scores of latents")

    def latents_of(batch: Batch) -> tuple[np.ndarray, ...]:
        return work(batch)

    totals, squares, ends = added(sweep(model, pairs, latents_of, sweeping))
    names = [name for each in placed for name in _names(each, labels)]
    live = (squares > 0) | np.array([".err" in name for name in names])
    if only is not None:
        live &= work.wanted_columns()
    return Scores(
        names=tuple(np.array(names, dtype=object)[live]),
        totals=totals[live],
        squares=squares[live],
        count=len(pairs),
        level="site",
        method=name,
        direction=direction,
        metric=checked.name,
        anatomy=model.anatomy,
        clean=float(ends[0]),
        corrupted=float(ends[1]),
        task=pairs.task,
        model_hash=model.hash,
        options={
            **filled,
            "sites": "latent",
            **({} if positions == "all" else {"positions": positions}),
            "dictionaries": [_told(each) for each in placed],
        },
    )


def _told(dictionary: Dictionary) -> dict[str, Any]:
    hashed = dictionary.origin.get("sha256", "")
    return {"place": str(dictionary.writes), "latents": dictionary.n_latents, "sha256": hashed}


def _names(dictionary: Dictionary, labels: Sequence[int | str | None]) -> list[str]:
    """Latent by latent, then the error; each position by position."""
    units = [*(dictionary.latent(j) for j in range(dictionary.n_latents)), dictionary.error]
    return [unit if at is None else f"{unit}@{at}" for unit in units for at in labels]


def _wanted(
    dictionaries: Sequence[Dictionary], only: Sequence[str] | None
) -> list[Bool[np.ndarray, " units"]]:
    """Which latents (and the error, last) of every dictionary are asked for."""
    if only is None:
        return [np.ones(each.n_latents + 1, dtype=bool) for each in dictionaries]
    masks, left = [], set(only)
    for each in dictionaries:
        units = {each.latent(j): j for j in range(each.n_latents)} | {each.error: each.n_latents}
        mask = np.zeros(len(units), dtype=bool)
        mask[[units[name] for name in left & units.keys()]] = True
        left -= units.keys()
        masks.append(mask)
    if left:
        known = [name for each in dictionaries for name in (each.latent(0), each.error)]
        raise SiteError(f"no dictionary has '{min(left)}'{nearest(min(left), known)}")
    return masks


@dataclass(frozen=True)
class _Work:
    """Scores one batch."""

    model: Model
    dictionaries: tuple[Dictionary, ...]
    metric: CheckedMetric
    direction: str
    labels: tuple[int | str | None, ...]
    method: str
    options: dict[str, Any]
    wanted: list[Bool[np.ndarray, " units"]]

    def wanted_columns(self) -> Bool[np.ndarray, " names"]:
        return np.concatenate([np.repeat(mask, len(self.labels)) for mask in self.wanted])

    def __call__(self, batch: Batch) -> tuple[np.ndarray, ...]:
        setting = Setting(self.model, batch, self.metric, self.direction)
        found = self._exact(setting) if self.method == "activation" else self._estimated(setting)
        scores, clean, corrupted = found
        rows = scores.detach().double().cpu().numpy()
        ends = [float(run.detach().double().sum()) for run in (clean, corrupted)]
        return rows.sum(0), (rows**2).sum(0), np.array(ends)

    def _estimated(self, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        written = tuple(dict.fromkeys(point_of(each.writes)[0] for each in self.dictionaries))
        kinds = Kinds(kinds_of(self.dictionaries), written)
        found = linearisation(self.method, self.options)(setting, kinds)
        differences = [
            difference(self.model, each, found.clean, found.corrupted) for each in self.dictionaries
        ]

        def one_pass(each: Pass) -> Tensor:
            pieces = zip(self.dictionaries, differences, strict=True)
            return torch.cat([self._products(each, d, of, setting) for d, of in pieces], dim=1)

        return combine(found, one_pass), found.metric_clean, found.metric_corrupted

    def _products(
        self, each: Pass, dictionary: Dictionary, of: Difference, setting: Setting
    ) -> Float[Tensor, "b units_labels"]:
        point = point_of(dictionary.writes)
        if not each.speaks_for(point):
            return of.rest.new_zeros(len(of.rest), (dictionary.n_latents + 1) * len(self.labels))
        g = precise(each.gradients.grads[point])
        g = g.flatten(-2) if dictionary.writes.kind == "z" else g
        latents = of.amounts * (g @ dictionary.W_dec.T)
        error = (of.rest * g).sum(-1, keepdim=True)
        both = torch.cat([latents, error], dim=-1)
        return at_labels(both, self.labels, setting.batch)

    @torch.no_grad()
    def _exact(self, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        kinds = kinds_of(self.dictionaries)
        exact = ExactSweep(setting, kinds)
        clean, corrupted = setting.ordered(
            {p: v for p, v in exact.kept.values.items() if p[0] in kinds}, exact.other
        )
        columns = [
            self._exact_columns(exact, each, difference(self.model, each, clean, corrupted), mask)
            for each, mask in zip(self.dictionaries, self.wanted, strict=True)
        ]
        other = setting.metric(exact.other_logits, setting.batch.pairs)
        first, second = setting.ordered(exact.base, other)
        return torch.cat(columns, dim=1), first, second

    def _exact_columns(
        self, exact: ExactSweep, dictionary: Dictionary, of: Difference, wanted: np.ndarray
    ) -> Float[Tensor, "b units_labels"]:
        """Each latent taken out (or put in) alone, then the rest."""
        first, point = exact.kept.first, point_of(dictionary.writes)
        masks = [*label_masks(self.labels, exact.setting, first)]
        live = (of.amounts != 0).flatten(0, 1).any(0).cpu().numpy()
        units = [j for j in range(dictionary.n_latents) if live[j] and wanted[j]]
        units += [dictionary.n_latents] * bool(wanted[-1])
        runs = len(units) * len(masks) * len(exact.base)
        if runs > MOST_EXACT:
            raise MethodError(
                f"exact scores of the latents of {dictionary.writes} are {runs:,} runs; at most "
                f"{MOST_EXACT:,} are done: ask for fewer prompts, or name the latents wanted"
            )
        base = value_at(self.model, dictionary.writes, exact.kept.values)[:, first:]
        found = exact.base.new_zeros(len(exact.base), dictionary.n_latents + 1, len(masks))
        chunks = [units[at : at + exact.rows] for at in range(0, len(units), exact.rows)]
        for label, at in enumerate(masks):
            for some in chunks:
                change = torch.stack([_change(dictionary, of, j)[:, first:] for j in some])
                change = exact.setting.sign() * change * at[..., None]
                put = like_point(dictionary.writes, precise(base) - change, self._heads)
                put = put.to(exact.kept.values[point].dtype)
                found[:, some, label] = exact.effect(exact.kept.go_on(*point, put)).T
        return found.flatten(1)

    @property
    def _heads(self) -> int:
        return self.model.anatomy.n_heads


def _change(dictionary: Dictionary, of: Difference, unit: int) -> Float[Tensor, "b s d"]:
    """Clean minus corrupted of one latent's part, or of the rest behind the last of them."""
    if unit == dictionary.n_latents:
        return of.rest
    return of.amounts[..., unit, None] * dictionary.W_dec[unit]
