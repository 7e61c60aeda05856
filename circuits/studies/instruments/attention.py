"""What attention heads attend to, and what that says they do.

On each prompt of one run, with ``A[q, k]`` the head's attention from token ``q`` to token ``k``:

    previous    mean over q of A[q, q - 1]
    duplicate   mean over q whose token stands earlier, at places j, of sum_j A[q, j]
    induction   the same for the tokens after those places: sum_j A[q, j + 1]
    first       mean over q of A[q, first token]
    answer      A[last, places of the answer's token]
    other       A[last, places of the counterfactual answer's token]
    direct      direct effect on answer less counterfactual, in logits (patching.direct_effect)

Of the weights alone are the scores ``copying`` and ``successor``
(:mod:`circuits.studies.instruments.head_weights`).

Induction, duplicate-token and S-inhibition heads as in Olsson et al. 2022 and Wang et al. 2022: an
S-inhibition head attends from the last token to the other answer (in IOI, the subject) and writes
next to nothing of either answer: it makes movers attend elsewhere. A copy-suppression head attends
there as well, and lowers what it attends to itself (McDougall et al. 2023). Attention is no
proof of what a head does: the names are candidates, to be checked by patching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.arguments import check_kinds
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Table
from circuits.studies.instruments.head_weights import copying_scores, successor_scores
from circuits.studies.instruments.measured import Measured, frame_of, plain_rows
from patching.direct_effect import read_out, writes_at_end
from patching.norms import precise
from patching.runs import Batch
from patching.sites import Site, head
from patching.sweep import Sweep, sweep
from tasks.errors import MethodError, SiteError, counted, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from circuits.clock import Progress
    from patching.model import Model
    from tasks import PromptPairs

MEASURES = ("previous", "duplicate", "induction", "first", "answer", "other", "direct")
LEAST = {"previous": 0.4, "induction": 0.25, "duplicate": 0.25, "answer": 0.25, "other": 0.25}
SUCCEEDS, WRITES = 0.5, 0.1
"""From where on a head is named after what it attends to, or after what its weights do."""

NAMES = {
    "previous": "previous-token head",
    "induction": "induction head",
    "duplicate": "duplicate-token head",
}
RUNS = ("clean", "corrupted")
MOST_ROWS = 20


@dataclass(frozen=True, eq=False)
class AttentionScores(Reported):
    """What every head attends to, on prompts of one run.

    measures    name to values by prompt and head, see the module
    copying     of every head's weights, -1 to 1
    successor   of every head's weights, 0 to 1; NaN where the tokenizer has no such words
    positions   the named positions of the prompts
    between     mean attention from named position to named position ``[heads, query, key]``
    """

    run: str
    n: int
    heads: tuple[str, ...]
    measures: Mapping[str, Measured]
    copying: Float[np.ndarray, " heads"]
    successor: Float[np.ndarray, " heads"]
    positions: tuple[str, ...]
    between: Float[np.ndarray, "heads q k"]

    def roles(self) -> dict[str, str]:
        """What the heads do by their scores, of those that can be named; candidates, no proof.

        A head that attends from the last token to the answer is a mover where its direct effect
        favours the answer, a negative mover where it disfavours it. One that attends from there
        rather to the other answer is a copy-suppression head where its direct effect favours the
        answer, an S-inhibition head where it has next to none.
        """
        means = {name: measured.mean() for name, measured in self.measures.items()}
        largest = float(np.abs(means["direct"]).max(initial=0.0))
        found: dict[str, str] = {}
        for at, name in enumerate(self.heads):
            told = [NAMES[kind] for kind in NAMES if means[kind][at] >= LEAST[kind]]
            low, high = self._direct[:, at]
            if means["answer"][at] >= LEAST["answer"] and (low > 0 or high < 0):
                told.insert(0, "name mover" if low > 0 else "negative name mover")
            elif means["other"][at] >= max(LEAST["other"], means["answer"][at]):
                told[:0] = _reader_of_the_other(means["direct"][at], (low, high), largest)
            if self.successor[at] >= SUCCEEDS:
                told.append("successor head")
            if told:
                found[name] = ", ".join(told)
        return found

    @property
    def _direct(self) -> Float[np.ndarray, "2 heads"]:
        return self.measures["direct"].intervals()

    def to_frame(self) -> pd.DataFrame:
        """A row for every head: means, ends of their intervals (95 %), copying, and its role."""
        frame = frame_of(self.measures, self.heads, "head")
        frame["copying"] = self.copying
        frame["successor"] = self.successor
        roles = self.roles()
        frame["candidate"] = [roles.get(name, "") for name in self.heads]
        return frame

    def report(self) -> Report:
        """The heads that can be named, and the layers' scores as pictures."""
        frame = self.to_frame()
        named = frame[frame["candidate"] != ""]
        named = named.reindex(named["direct"].abs().sort_values(ascending=False).index)
        shown = [name for name in MEASURES if name != "first"]
        table = Table.of(named[["candidate", *shown, "copying", "successor"]], "", MOST_ROWS)
        told = (
            f"{self._size}, {self.run} run: candidates by what they attend to; patching is the "
            f"proof"
        )
        nothing = "" if len(named) else "no head passes the thresholds for a name"
        return Report.of(told, nothing or table, Picture(self.figure, "scores of all heads"))

    def figure(self) -> Figure:
        """Every measure as layers by heads."""
        from circuits.studies.instruments.plot import by_layer

        means = {name: measured.mean() for name, measured in self.measures.items()}
        weights = {"copying": self.copying, "successor": self.successor}
        return by_layer(self.heads, means | weights, f"{self._size}, {self.run} run")

    def pattern(self, head: str) -> Figure:
        """A head's mean attention between the prompts' named positions.

        Raises:
            SiteError: no such head.
            MethodError: the prompts name no positions.
        """
        from circuits.studies.instruments.plot import between_positions

        if head not in self.heads:
            raise SiteError(unknown("head", head, self.heads))
        if not self.positions:
            raise MethodError("these prompts name no positions, so they cannot be averaged by them")
        told = f"{head}, {self.run} run: mean of {counted(self.n, 'prompt')} by named position"
        return between_positions(self.between[self.heads.index(head)], self.positions, told)

    @property
    def _size(self) -> str:
        return counted(self.n, "prompt pair")

    def to_json(self) -> dict[str, Any]:
        """Plain values for another program; null where a score is not defined."""
        return {"run": self.run, "n": self.n, "heads": plain_rows(self.to_frame())}

    def __repr__(self) -> str:
        return f"AttentionScores({len(self.heads)} heads, {self._size}: {len(self.roles())} named)"


def attention(
    model: Model,
    pairs: PromptPairs,
    *,
    run: str = "clean",
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttentionScores:
    """What every head attends to on the prompts of one run; see :class:`AttentionScores`.

    `run` is clean or corrupted; `seed` draws the bootstrap of the intervals; `progress` is called
    with (done, total, what).

    >>> circuits.attention(model, pairs)
    AttentionScores(16 heads, 16 prompt pairs: ... named)

    Raises:
        MethodError: another run.
        TaskError: the model cannot read the prompts.
    """
    check_kinds(model=model, pairs=pairs)
    if run not in RUNS:
        raise MethodError(unknown("run", run, RUNS))
    sites = all_heads(model)
    options = Sweep(batch_size, progress).counting(len(pairs), "reading attention")
    rows = [*sweep(model, pairs, lambda batch: _measure(model, batch, run, sites), options)]
    names = tuple(site.name for site in sites)
    measures = {
        name: Measured(names, np.concatenate([row[name] for row in rows]), seed)
        for name in MEASURES
    }
    between = np.sum([row["between"] for row in rows], axis=0) / len(pairs)
    weights = copying_scores(model), successor_scores(model)
    positions = tuple(pairs.positions)
    return AttentionScores(run, len(pairs), names, measures, *weights, positions, between)


def _reader_of_the_other(direct: float, interval: tuple[float, float], largest: float) -> list[str]:
    """What a head that attends to the other answer is called, by what it writes of the answers."""
    low, high = interval
    if abs(direct) < WRITES * largest or not (low > 0 or high < 0):
        return ["S-inhibition head"]
    return ["copy-suppression head"] if low > 0 else []


def all_heads(model: Model) -> list[Site]:
    """All heads, layer by layer."""
    anatomy = model.anatomy
    return [head(layer, h) for layer in range(anatomy.n_layers) for h in range(anatomy.n_heads)]


@torch.no_grad()
def _measure(model: Model, batch: Batch, run: str, sites: list[Site]) -> dict[str, np.ndarray]:
    """The scores of one batch ``[b, heads]``, and the sum of attention between named positions."""
    masks = attended_places(batch, run)
    places = [torch.tensor(at - batch.dropped) for at in batch.pairs.positions.values()]
    at = torch.stack(places, dim=1) if places else torch.empty(len(batch), 0, dtype=torch.long)
    found: dict[str, list[Tensor]] = {name: [] for name in (*masks, "between")}

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        del layer
        if kind == "pattern":
            for name, mask in masks.items():
                found[name].append(
                    torch.einsum("bhqk,bqk->bh", precise(value), mask.to(precise(value)))
                )
            rows = torch.arange(len(value))[:, None, None]
            named = precise(value)[rows, :, at[:, :, None], at[:, None]]
            found["between"].append(named.sum(0).movedim(-1, 0))
        return value

    model.run(batch.tokens(run), batch.mask, tap)
    values = {name: torch.cat(found[name], dim=1).double().cpu().numpy() for name in masks}
    between = torch.cat(found["between"]).double().cpu().numpy()
    return values | {"direct": _direct(model, batch, run, sites), "between": between}


def attended_places(batch: Batch, run: str) -> dict[str, Float[Tensor, "b q k"]]:
    """For every score the weights of a pattern's cells: each query's share, where it counts.

    NaN throughout where no query of a prompt counts.
    """
    ids, mask = batch.tokens(run), batch.mask
    size = ids.shape[1]
    rows, columns = torch.arange(size)[:, None], torch.arange(size)
    real = mask[:, :, None] & mask[:, None]
    same = (ids[:, :, None] == ids[:, None]) & real & (columns < rows)
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    first = (columns == mask.int().argmax(1)[:, None])[:, None] & real
    ends = []
    for words in (batch.pairs.answer, batch.pairs.counterfactual):
        meant = torch.tensor(words, device=ids.device)
        is_meant = (ids[:, :, None] == meant[:, None]).any(-1)
        ends.append((rows == size - 1) & is_meant[:, None] & real)
    return {
        "previous": _shares((columns == rows - 1) & real),
        "duplicate": _shares(same),
        "induction": _shares(after & (columns < rows) & real),
        "first": _shares(first & (columns < rows)),
        "answer": _shares(ends[0]),
        "other": _shares(ends[1]),
    }


def _shares(cells: Bool[Tensor, "b q k"]) -> Float[Tensor, "b q k"]:
    """Each cell's weight: one over the number of queries that have any."""
    queries = cells.any(-1).sum(-1).double()
    return cells / torch.where(queries > 0, queries, torch.nan)[:, None, None]


def _direct(
    model: Model, batch: Batch, run: str, sites: list[Site]
) -> Float[np.ndarray, "b heads"]:
    _, writes, final = writes_at_end(model, batch, run, sites)
    return answer_effects(model, batch, read_out(model, writes, final))


def answer_effects(
    model: Model, batch: Batch, read: Float[Tensor, "b p d"]
) -> Float[np.ndarray, "b p"]:
    """Direct effects on the mean logit of the answers less that of the counterfactual answers."""
    rows = model.unembedding
    sides = []
    for ids in (batch.pairs.answer, batch.pairs.counterfactual):
        known = torch.tensor(ids >= 0, device=rows.device)
        chosen = precise(rows[torch.tensor(np.where(ids >= 0, ids, 0), device=rows.device)])
        sides.append((chosen * known[..., None]).sum(1) / known.sum(1, keepdim=True))
    effects = torch.einsum("bpd,bd->bp", precise(read), sides[0] - sides[1])
    return effects.double().cpu().numpy()
