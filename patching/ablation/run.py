"""Running a model with some of its parts ablated, everything after them recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.ablation.kinds import Ablation, AttentionCut, get_ablation, parse_ablation
from patching.ablation.means import MeanActivations
from patching.ablation.values import StandIns, Values
from patching.activation import ExactSweep
from patching.circuit_run import run_wirings
from patching.forward import Tap
from patching.masks import Attention, cut_last, full_peek, on_heads, self_peek
from patching.metrics import Metric, check_metric
from patching.model import Model
from patching.nodes.edges import EdgeSet
from patching.ops import Point
from patching.runs import Batch
from patching.setting import Setting
from patching.sites import Edge, Site, check_site, parse_site
from patching.sitesets import label_columns, point_of, set_of, unit_axis
from patching.sweep import Sweep, sweep
from tasks.errors import SiteError, all_faults
from tasks.pairs import PromptPairs

MASKS: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "full-peek": full_peek,
    "self-peek": self_peek,
    "cut-last": cut_last,
}


@torch.no_grad()
def run_ablated(
    model: Model,
    pairs: PromptPairs,
    what: Iterable[str | Site | Edge],
    ablation: str | Ablation | AttentionCut,
    *,
    metric: str | Metric = "logit_diff",
    means: MeanActivations | None = None,
    batch_size: int | Sweep = 32,
) -> Float[np.ndarray, " n"]:
    """The metric of every clean prompt with ``what`` ablated, in units of the metric.

    ``what`` are sites (heads, neurons, MLPs, experts, routers, whole layers such as ``attn_out.3``,
    each with ``@position`` if wanted) or edges. Everything after a site is recomputed; an edge's
    receiver alone reads what stands in for its sender. Of a router the weights of all its experts
    are replaced, and those answer that then have one: under ``corrupted`` and ``resample`` the
    choice of the other prompt, under ``mean`` every expert that any prompt chooses, under ``zero``
    none but a shared one. ``cama:W`` and attention cuts say themselves where
    they act, and take no ``what``. Means are those of the pairs' clean prompts unless ``means`` of
    another prompt set are given.

    Raises:
        SiteError: sites that are not there or cannot be ablated, or sites mixed with edges.
        MethodError: an unknown ablation, or means that do not fit.
    """
    ablation = parse_ablation(ablation) if isinstance(ablation, str) else ablation
    what, options = list(what), Sweep.of(batch_size)
    if what and (isinstance(ablation, AttentionCut) or ablation.kind == "cama"):
        raise SiteError(f"'{ablation}' says itself where it acts; leave out {what[0]}")
    edges = [one for one in what if not isinstance(one, Site) and "->" in str(one)]
    if edges and len(edges) < len(what):
        raise SiteError("give sites or edges to ablate, not both at once")
    if edges and isinstance(ablation, Ablation):
        cut = EdgeSet.of([str(edge) for edge in edges], model.anatomy)
        wiring = EdgeSet.all(cut.layout) - cut
        return run_wirings(model, pairs, [wiring], metric, options, ablation, means)[0]
    if isinstance(ablation, AttentionCut):
        tap = _cut(model, ablation)
    else:
        whole = [_stream(model, ablation)] if ablation.kind == "cama" else []
        sites = whole or [_site(one, model) for one in what]
        tap = _ablator(model, pairs, sites, ablation, means, options)
    checked = check_metric(metric)

    def work(batch: Batch) -> Float[np.ndarray, " b"]:
        logits = model.run(batch.clean, batch.mask, tap(batch))
        return checked(logits, batch.pairs).double().cpu().numpy()

    options = options.counting(len(pairs), "ablating")
    return np.concatenate([*sweep(model, pairs, work, options)])


@torch.no_grad()
def baselines(
    model: Model,
    pairs: PromptPairs,
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 64,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The metric of every prompt in the clean and in the corrupted run, nothing ablated."""
    checked = check_metric(metric)

    def both(batch: Batch) -> Float[np.ndarray, "2 b"]:
        runs = (model.run(batch.tokens(run), batch.mask) for run in ("clean", "corrupted"))
        values = [checked(logits, batch.pairs) for logits in runs]
        return torch.stack(values).double().cpu().numpy()

    clean, corrupted = np.concatenate([*sweep(model, pairs, both, Sweep.of(batch_size))], axis=1)
    return clean, corrupted


@torch.no_grad()
def effects_ablated(
    model: Model,
    pairs: PromptPairs,
    what: Sequence[str | Site],
    ablation: str | Ablation,
    *,
    metric: str | Metric = "logit_diff",
    means: MeanActivations | None = None,
    batch_size: int | Sweep = 32,
) -> Float[np.ndarray, "sites n"]:
    """What each site does alone: the clean metric minus that with the site ablated.

    A row per site, a column per prompt, in units of the metric; the same to rounding as
    :func:`run_ablated` of one site after the other. Many sites ride in one forward pass, and each
    goes on from the layer it changes.

    Raises:
        SiteError: sites that are not there, cannot be ablated, or name a position.
        MethodError: an ablation that names no site's stand-in, or means that do not fit.
    """
    given = get_ablation(ablation)
    if given.kind == "cama":
        raise SiteError(f"'{given}' says itself where it acts; it has no effect of a site")
    sites = [_site(one, model) for one in what]
    if placed := [site.name for site in sites if site.position is not None]:
        raise SiteError(f"'{placed[0]}': give whole sites, without a position")
    _check_sites(model, pairs, sites)
    wanted, checked = set_of(sites, model.anatomy), check_metric(metric)
    points, options = [group.point for group in wanted.groups], Sweep.of(batch_size)
    standing = StandIns.of(model, pairs, given, points, means, options)
    options = options.counting(len(wanted) * len(pairs), "ablating one by one")

    def work(batch: Batch) -> Float[np.ndarray, "sites b"]:
        setting = Setting(model, batch, checked, "noising")
        rows = []
        for part in ExactSweep(setting, (), standing.at(batch)).sites(wanted):
            rows.append(part)
            options.tell(part.shape[1] * len(batch))
        return torch.cat(rows, dim=1).T.double().cpu().numpy()

    metrics = np.concatenate([*sweep(model, pairs, work, options, len(wanted))], axis=1)
    by_name = dict(zip(wanted.names, metrics, strict=True))
    return np.stack([by_name[site.name] for site in sites])


class Ablator:
    """A tap that puts the values of whole points instead of some sites."""

    def __init__(self, sites: Sequence[Site], batch: Batch, values: Values) -> None:
        self._batch, self._values = batch, values
        self._chosen: dict[Point, Tensor] = {}
        self._sites: dict[Point, list[Site]] = {}
        for site in sites:
            self._sites.setdefault(point_of(site), []).append(site)

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """What stands in, or the value itself."""
        point = (kind, layer)
        if point not in self._sites:
            return value
        if point not in self._chosen:
            self._chosen[point] = _selected(self._sites[point], self._batch, value)
        return torch.where(self._chosen[point], self._values[point].to(value.dtype), value)

    def wants(self, kind: str, layer: int) -> bool:
        """The points of its sites."""
        return (kind, layer) in self._sites


def _selected(sites: Sequence[Site], batch: Batch, value: Tensor) -> Bool[Tensor, "b s *unit"]:
    """Which entries of a point belong to some of its sites."""
    chosen = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
    for site in sites:
        rows: Tensor = torch.ones_like(batch.mask)
        if site.position is not None:
            at = label_columns([site.position], batch)
            rows = torch.zeros_like(batch.mask).scatter(1, at, True)
        if unit_axis(point_of(site)[0]) is None:
            chosen |= rows.view(*rows.shape, *[1] * (value.ndim - 2))
        else:
            chosen[:, :, site.unit] |= rows.view(*rows.shape, *[1] * (value.ndim - 3))
    return chosen


def _ablator(
    model: Model,
    pairs: PromptPairs,
    sites: Sequence[Site],
    ablation: Ablation,
    means: MeanActivations | None,
    options: Sweep,
) -> Callable[[Batch], Tap]:
    """Makes the tap that ablates some sites in a batch."""
    _check_sites(model, pairs, sites)
    points = [point_of(site) for site in sites]
    standing = StandIns.of(model, pairs, ablation, points, means, options)
    return lambda batch: Ablator(sites, batch, standing.at(batch))


def _cut(model: Model, cut: AttentionCut) -> Callable[[Batch], Tap]:
    """Makes the tap that cuts attention in a batch."""
    cut.check(model.anatomy)

    def tap(batch: Batch) -> Tap:
        allowed = MASKS[cut.kind](batch.mask, True)
        if cut.head is not None:
            allowed = on_heads(allowed, [cut.head], model.anatomy.n_heads)
        return Attention(dict.fromkeys(cut.layers, allowed))

    return tap


def _site(one: str | Site | Edge, model: Model) -> Site:
    if isinstance(one, Edge):
        raise SiteError(f"'{one}' is an edge, not a site")
    if isinstance(one, Site):
        check_site(one, model.anatomy)
        return one
    return parse_site(one, model.anatomy)


def _stream(model: Model, ablation: Ablation) -> Site:
    site = Site("resid_post", ablation.argument or 0)
    check_site(site, model.anatomy)
    return site


def _check_sites(model: Model, pairs: PromptPairs, sites: Sequence[Site]) -> None:
    faults = []
    for site in sites:
        if site.kind in ("logits", "pattern"):
            faults.append(f"'{site}' is no activation of a token; nothing can stand in for it")
        elif site.kind == "resid_mid" and model.anatomy.parallel:
            faults.append(f"'{site}': this model's attention and MLP read the same stream")
        elif isinstance(site.position, str) and site.position not in pairs.positions:
            known = ", ".join(pairs.positions) or "none"
            faults.append(f"'{site}': these prompts name the positions {known}")
        elif isinstance(site.position, int):
            shortest = int(pairs.mask.sum(1).min())
            if not -shortest <= site.position < shortest:
                faults.append(f"'{site}': the shortest prompt has {shortest} tokens")
    if faults:
        raise SiteError(all_faults("these sites cannot be ablated:", faults))
