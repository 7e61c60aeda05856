"""What the answer loses when named parts of the model are ablated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.arguments import check_kinds
from circuits.results.intervals import NO_INTERVAL, Ends, bootstrap
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows
from tasks.errors import counted

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from patching.ablation.kinds import Ablation, AttentionCut
    from patching.ablation.means import MeanActivations
    from patching.metrics import Metric
    from patching.model import Model
    from patching.sites import Edge, Site
    from tasks import PromptPairs


@dataclass(frozen=True, eq=False)
class AblationResult(Reported):
    """The metric of every prompt with some parts ablated, beside those of the plain runs.

    what         names of the sites or edges; empty where the ablation says itself where it acts
    ablation     what stood in for them
    clean        the metric of the clean run, per prompt, in units of the metric
    ablated      the same with the parts ablated
    corrupted    the metric of the corrupted run
    """

    what: tuple[str, ...]
    ablation: str
    metric: str
    clean: Float[np.ndarray, " n"]
    ablated: Float[np.ndarray, " n"]
    corrupted: Float[np.ndarray, " n"]
    seed: int = 0

    @property
    def effect(self) -> float:
        """`m(clean) - m(ablated)`, mean over prompts: positive if the parts help the answer.

        With the ablation `corrupted` it is the exact effect of noising all parts at once.
        """
        return float(np.mean(self.clean - self.ablated))

    @property
    def interval(self) -> Ends | None:
        """Bootstrap interval of the effect over prompts (95 %, percentiles); None of one prompt."""
        lost = self.clean - self.ablated
        return bootstrap(lambda draws: lost[draws].mean(axis=1), len(lost), self.seed)

    @property
    def share(self) -> float | None:
        """The effect as a share of `m(clean) - m(corrupted)`; None where that is nothing."""
        total = float(np.mean(self.clean - self.corrupted))
        return None if abs(total) < 1e-6 else self.effect / total

    def report(self) -> Report:
        """The metric of the three runs, and the effect."""
        ends = NO_INTERVAL
        if (interval := self.interval) is not None:
            ends = f"95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
        share = "" if self.share is None else f", {self.share:.1%} of clean less corrupted"
        rows = {
            "ablated": ", ".join(self.what) or "as the ablation says",
            "ablation": self.ablation,
            "prompt pairs": str(len(self.clean)),
            f"{self.metric}, clean": f"{self.clean.mean():+.4f}",
            f"{self.metric}, ablated": f"{self.ablated.mean():+.4f}",
            f"{self.metric}, corrupted": f"{self.corrupted.mean():+.4f}",
            "effect": f"{self.effect:+.4f} ({ends}){share}",
        }
        return Report.of(Rows(rows))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file or another program."""
        return {
            "what": list(self.what),
            "ablation": self.ablation,
            "metric": self.metric,
            "n": len(self.clean),
            "clean": float(self.clean.mean()),
            "ablated": float(self.ablated.mean()),
            "corrupted": float(self.corrupted.mean()),
            "effect": self.effect,
            "interval": self.interval,
            "share": self.share,
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per prompt: the metric in the three runs, and the effect."""
        import pandas as pd

        runs = {name: getattr(self, name) for name in ("clean", "ablated", "corrupted")}
        return pd.DataFrame(runs | {"effect": self.clean - self.ablated}).rename_axis("prompt")

    def __repr__(self) -> str:
        parts = ", ".join(self.what) or self.ablation
        size = counted(len(self.clean), "prompt pair")
        return f"AblationResult({parts}: effect {self.effect:+.3f} on {size})"


def ablate(
    model: Model,
    pairs: PromptPairs,
    what: str | Site | Edge | Iterable[str | Site | Edge] = (),
    ablation: str | Ablation | AttentionCut = "corrupted",
    *,
    metric: str | Metric | None = None,
    means: MeanActivations | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> AblationResult:
    """Run the clean prompts with named parts ablated, all of them at once.

    `what` names sites (`a3.h0`, `m2`, `a1.h2.q`, `m3.n17`, `m3.e17`, `m3.router`, `attn_out.3`,
    each with a position such as `@END` or `@-1` if wanted) or edges (`m0->a3.h1<q>`). What comes
    after a site is computed again; of an edge, the receiver alone reads what stands in for the
    sender. `ablation` is one of `circuits ablations`; `cama:W` and the attention cuts say
    themselves where they act and take no `what`. Means are those of the pairs' clean prompts unless
    others are given. `progress` is called with (done, total, what).

    >>> circuits.ablate(model, pairs, ["a3.h0", "m3"], "mean-by-position")
    AblationResult(a3.h0, m3: effect +... on 16 prompt pairs)

    Raises:
        SiteError: parts that this model or these prompts do not have, or sites mixed with edges.
        MethodError: an unknown ablation or metric, means that do not fit, or nothing to ablate.
    """
    from patching.ablation.kinds import parse_ablation
    from patching.ablation.run import baselines, run_ablated
    from patching.metrics import check_metric
    from patching.sites import Edge, Site
    from patching.sweep import Sweep

    check_kinds(model=model, pairs=pairs)
    kind = parse_ablation(ablation) if isinstance(ablation, str) else ablation
    parts = [what] if isinstance(what, str | Site | Edge) else list(what)
    check_parts(parts, kind)
    chosen, options = metric or pairs.metric, Sweep(batch_size, progress)
    lost = run_ablated(
        model,
        pairs,
        parts,
        kind,
        metric=chosen,
        means=means,
        batch_size=options,
    )
    rows = np.stack([lost, *baselines(model, pairs, chosen, options)])
    lost, clean, corrupted = pairs.by_prompt(rows)
    names = tuple(str(part) for part in parts)
    return AblationResult(names, kind.name, check_metric(chosen).name, clean, lost, corrupted, seed)


def check_parts(parts: Sequence[object], ablation: Ablation | AttentionCut) -> None:
    """Refuse what can be no part of any model, without having one.

    Raises:
        SiteError: listing every part that is no name of a site or an edge.
        MethodError: there is none, and the ablation does not say itself where it acts.
    """
    from patching.ablation.kinds import AttentionCut
    from patching.sites import Edge, Site, parse_edge, parse_site
    from tasks.errors import MethodError, SiteError, all_faults

    faults = []
    for part in parts:
        try:
            if isinstance(part, str):
                (parse_edge if "->" in part else parse_site)(part)
            elif not isinstance(part, Site | Edge):
                faults.append(f"{part!r} is no part of a model; name sites such as 'a3.h0'")
        except SiteError as fault:
            faults.append(str(fault))
    if faults:
        raise SiteError(
            faults[0] if len(faults) == 1 else all_faults("these cannot be ablated:", faults)
        )
    if not (parts or isinstance(ablation, AttentionCut) or ablation.kind == "cama"):
        raise MethodError(
            f"'{ablation}' does not say where it acts: name a site or an edge to ablate"
        )
