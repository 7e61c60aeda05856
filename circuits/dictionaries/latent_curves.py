"""How much of the answer the strongest latents recover, by how many of them are kept alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.evaluation.outcomes import Outcomes, judge
from circuits.results.intervals import spelled

if TYPE_CHECKING:
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.latent_run import Kept
    from patching.dictionaries.places import Place
    from patching.model import Model
    from patching.runs import Batch
    from patching.scores import Scores
    from tasks import PromptPairs

_UNIT = re.compile(r"(?P<name>.+)\.(?:f(?P<number>\d+)|err)(?:@(?P<label>.+))?")


@dataclass(frozen=True)
class LatentCurve:
    """Faithfulness of the strongest latents, by how many are kept."""

    name: str
    sizes: tuple[int, ...]
    outcomes: Outcomes

    def spelled(self, number: int) -> str:
        """One value with its interval."""
        value = float(self.outcomes.faithfulness[number])
        return spelled(value, self.outcomes.interval(number), ".2f")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        known = self.outcomes.defined
        return {
            "name": self.name,
            "sizes": list(self.sizes),
            "faithfulness": self.outcomes.faithfulness.tolist() if known else None,
            "intervals": [self.outcomes.interval(i) for i in range(len(self.sizes))],
        }


def curves_of(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Sequence[Dictionary],
    scores: Scores,
    sizes: Sequence[int],
    metric: str,
    options: Any,
    name: str = "latents",
) -> tuple[LatentCurve, ...]:
    """The strongest latents alone, with the errors, and all but them."""
    from patching.sitesets import labels_of

    labels = labels_of(str(scores.options.get("positions", "all")), pairs)

    def kept(error: bool = False, others: bool = False) -> list[dict[Place, Kept]]:
        return [_kept(dictionaries, scores, size, labels, error, others) for size in sizes]

    circuits = {
        name: kept(),
        f"{name} and errors": kept(error=True),
        f"all but these {name}": kept(error=True, others=True),
    }
    flat = [circuit for each in circuits.values() for circuit in each]
    outcomes = _measure(model, pairs, dictionaries, flat, labels, metric, options)
    count = len(sizes)
    return tuple(
        LatentCurve(label, tuple(sizes), outcomes.part(range(at * count, (at + 1) * count)))
        for at, label in enumerate(circuits)
    )


def _kept(
    dictionaries: Sequence[Dictionary],
    scores: Scores,
    size: int,
    labels: tuple[int | str | None, ...],
    error: bool,
    others: bool,
) -> dict[Place, Kept]:
    """The strongest latents of all dictionaries as a circuit, or all ``others``."""
    import torch

    from patching.dictionaries.latent_run import Kept

    places = {each.name: each for each in dictionaries}
    masks = {
        each.writes: torch.full((len(labels), each.n_latents), others) for each in dictionaries
    }
    latents = [name for name in scores.ranked() if ".err" not in name]
    for text in latents[:size]:
        found = _UNIT.fullmatch(text)
        assert found is not None
        row = [str(label) for label in labels].index(str(found["label"]))
        masks[places[found["name"]].writes][row, int(found["number"])] = not others
    return {place: Kept(mask, error) for place, mask in masks.items()}


def _measure(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Sequence[Dictionary],
    circuits: Sequence[dict[Place, Kept]],
    labels: tuple[int | str | None, ...],
    metric: str,
    options: Any,
) -> Outcomes:
    """The clean run, the one in which nothing is kept, and all circuits, on the same prompts."""
    import torch

    from patching.dictionaries.latent_run import Kept, LatentRunner
    from patching.metrics import check_metric
    from patching.sweep import sweep

    like = torch.zeros((), dtype=torch.float32, device=model.device)
    if model.dtype == torch.float64:
        like = like.double()
    moved = [each.to(like) for each in dictionaries]
    none = {
        each.writes: Kept(torch.zeros(len(labels), each.n_latents, dtype=torch.bool))
        for each in moved
    }
    checked = check_metric(metric)
    options = options.counting(len(pairs) * (1 + len(circuits)), "running latents alone")

    def latents_alone(batch: Batch) -> tuple[np.ndarray, ...]:
        runner = LatentRunner.of(model, batch, moved, labels)
        rows = [judge(model.run(batch.clean, batch.mask), batch.pairs, checked)]
        for kept in (none, *circuits):
            rows.append(judge(runner.logits(kept), batch.pairs, checked))
            options.tell(len(batch))
        return tuple(np.stack(each) for each in zip(*rows, strict=True))

    parts = sweep(model, pairs, latents_alone, options, 1 + len(circuits))
    metrics, preferred, right = (np.concatenate(e, axis=1) for e in zip(*parts, strict=True))
    return Outcomes(checked.name, metrics, preferred, right)
