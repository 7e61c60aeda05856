"""Linear probes: in which layer, and at which token, a label can be read out of the stream.

    found = circuits.probe(model, texts, labels, groups=scenarios)
    found.to_frame()                                   # held-out accuracy by layer and position
    circuits.probe(model, texts, labels, noise=8)      # behind random tokens
    circuits.probe(model, texts, labels, bits=4)       # with weights rounded to 4 bits
    edit = found.edit("anger", "resid_post.2", 3.0)    # its weights as an edit

A probe is a logistic regression on the residual stream of a frozen model, fitted on some prompts
and tested on others; prompts of one group never stand on both sides. That a probe can read a label
does not say that the model uses it: compare with what steering along its weights does. Noise and
rounding as conditions are those of Jin et al. 2025, arXiv 2404.07066; labels shuffled before the
fit are the control task of Hewitt & Liang 2019, arXiv 1909.03368.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from circuits.arguments import check_kinds
from circuits.edits.edit import Steer, steer
from circuits.results.intervals import Proportion
from circuits.splits import Split
from tasks.errors import MethodError, TaskError, all_faults, unknown
from tasks.tokenize import encode, pad_id

if TYPE_CHECKING:
    import pandas as pd

    from patching.capture import Prompts
    from patching.model import Model

PENALTY = 10.0
ROUNDS = 2000
Positions = Sequence[int] | Mapping[str, int | Sequence[int]]


@dataclass(frozen=True, eq=False)
class Probes:
    """One probe for every read point and position.

    points      read points in order of computation: ``resid_mid.0 resid_post.0 ...``
    positions   names of the positions read
    fitted      how many prompts the probes were fitted on
    tested      how many held-out prompts they were tested on
    chance      share of the commonest label among these
    right       how many of these they told right ``[points, positions]``
    weights     for the stream as it is, minus their mean over labels ``[labels, points, positions,
                d]``; the label told is that of the largest ``weights . x + biases``
    biases      ``[labels, points, positions]``
    """

    labels: tuple[str, ...]
    points: tuple[str, ...]
    positions: tuple[str, ...]
    fitted: int
    tested: int
    chance: float
    right: Int[np.ndarray, "points positions"]
    weights: Float[np.ndarray, "labels points positions d"]
    biases: Float[np.ndarray, "labels points positions"]

    @property
    def accuracy(self) -> Float[np.ndarray, "points positions"]:
        """Share of held-out prompts told right."""
        return self.right / self.tested

    def share(self, point: str, position: str | int | None = None) -> Proportion:
        """The same for one probe, with its Wilson interval over prompts."""
        return Proportion(int(self.right[self._at(point, position)]), self.tested)

    def vector(
        self, label: str, point: str, position: str | int | None = None
    ) -> Float[np.ndarray, " d"]:
        """A probe's weights for a label as a unit vector.

        Raises:
            MethodError: no such label, point or position.
        """
        if label not in self.labels:
            raise MethodError(unknown("label", label, self.labels))
        weights = self.weights[(self.labels.index(label), *self._at(point, position))]
        return weights / np.linalg.norm(weights)

    def edit(
        self, label: str, point: str, strength: float, position: str | int | None = None
    ) -> Steer:
        """The edit that adds ``strength`` times :meth:`vector` to the stream at the probe's point.

        It acts at every token; see :func:`circuits.edits.edit.steer`.
        """
        return steer(point, self.vector(label, point, position).tolist(), strength)

    def to_frame(self) -> pd.DataFrame:
        """A row per probe: point, position, accuracy with its interval, prompts tested on."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for point in self.points:
            for position in self.positions:
                share = self.share(point, position)
                low, high = share.interval
                numbers = {"accuracy": share.value, "low": low, "high": high, "n": share.n}
                rows.append({"point": point, "position": position, **numbers})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        best = f"{self.accuracy.max():.3f} at best, {self.chance:.3f} by chance"
        return f"Probes({len(self.labels)} labels, {self.tested} held-out prompts: {best})"

    def _repr_html_(self) -> str:
        import pandas as pd

        from circuits.results.tables import Table

        index = pd.Index(self.points, name="held-out accuracy")
        return Table.of(pd.DataFrame(self.accuracy, index, self.positions), repr(self)).html()

    def _at(self, point: str, position: str | int | None) -> tuple[int, int]:
        name = self.positions[0] if position is None else str(position)
        if point not in self.points:
            raise MethodError(unknown("point", point, self.points))
        if name not in self.positions:
            raise MethodError(unknown("position", name, self.positions))
        return self.points.index(point), self.positions.index(name)


def probe(
    model: Model,
    prompts: Sequence[str] | Prompts,
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    held_out: float | Sequence[bool] = 0.3,
    positions: Positions = (-1,),
    noise: int = 0,
    bits: int | None = None,
    shuffled: bool = False,
    penalty: float = PENALTY,
    seed: int = 0,
    batch_size: int = 64,
) -> Probes:
    """Fit and test one logistic probe for every read point of the stream and every position.

    prompts     texts, or token ids padded on the left
    labels      what is to be read, one for each prompt
    groups      prompts that belong together, such as those of one scenario; default: each its own
    held_out    the share of groups to test on, or for each prompt whether it is for testing
    positions   tokens counted from the end, -1 the last; or by name, one for all or one a prompt
    noise       random tokens put before every prompt (after the start token, if there is one)
    bits        to how many bits the model's weights are rounded (:mod:`patching.quantise`)
    shuffled    fit on labels in random order: what is still told right is not about the label
    penalty     of half the weights' squared length, against the log losses' sum; features are
                standardised
    seed        draws groups, noise and order

    Read points are the stream after attention and after the MLP of every layer.

    >>> texts = [text for pair in pairs.texts for text in pair]
    >>> circuits.probe(model, texts, ["clean", "corrupted"] * 16, held_out=0.5)
    Probes(...)

    Raises:
        CircuitsError: before anything is run, where labels, groups, positions or settings do not
            fit the prompts, or the model cannot read them.
    """
    from patching.capture import streams
    from patching.quantise import check_bits, quantised

    check_kinds(model=model)
    if bits is not None:
        check_bits(bits)
    if noise < 0 or not 0 < penalty < np.inf:
        raise MethodError(
            f"noise is {noise} and penalty {penalty}; give a number of tokens and a number above 0"
        )
    rng = np.random.default_rng(seed)
    rows = _rows(model, prompts)
    names, ends = _positions(positions, rows, len(labels))
    split = Split.of(labels, groups, held_out, rng)
    padded = _padded(model, [_noisy(model, row, noise, rng) for row in rows])
    with nullcontext() if bits is None else quantised(model, bits):
        stream = streams(model, padded, ends + padded.tokens.shape[1], batch_size)
    split = split.shuffled(rng) if shuffled else split
    return fit(stream.double().cpu().numpy(), split, names, penalty)


def fit(
    stream: Float[np.ndarray, "n positions points d"],
    split: Split,
    positions: Sequence[str],
    penalty: float = PENALTY,
) -> Probes:
    """Probes of values that have been read already."""
    numbers, test = split.numbers, split.test
    shape = (stream.shape[2], stream.shape[1])
    right = np.zeros(shape, dtype=np.int64)
    weights = np.zeros((len(split.labels), *shape, stream.shape[3]))
    biases = np.zeros((len(split.labels), *shape))
    for at in np.ndindex(*shape):
        x = stream[:, at[1], at[0]]
        w, b = _logistic(x[~test], numbers[~test], penalty)
        right[at] = ((x[test] @ w.T + b).argmax(1) == numbers[test]).sum()
        weights[:, *at], biases[:, *at] = w, b
    commonest = np.bincount(numbers[test]).max() / test.sum()
    points = tuple(
        f"{kind}.{layer}" for layer in range(shape[0] // 2) for kind in ("resid_mid", "resid_post")
    )
    counts = int((~test).sum()), int(test.sum()), float(commonest)
    return Probes(split.labels, points, tuple(positions), *counts, right, weights, biases)


def _logistic(
    x: Float[np.ndarray, "n d"], numbers: Int[np.ndarray, " n"], penalty: float
) -> tuple[Float[np.ndarray, "labels d"], Float[np.ndarray, " labels"]]:
    """Weights and biases for ``x`` as it is, minus their means over labels."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    fitted = LogisticRegression(C=1 / penalty, max_iter=ROUNDS).fit((x - mean) / spread, numbers)
    weights, biases = fitted.coef_, fitted.intercept_
    if len(weights) == 1:
        weights, biases = np.concatenate([-weights, weights]), np.concatenate([-biases, biases])
    weights, biases = weights - weights.mean(0), biases - biases.mean()
    weights = weights / spread
    return weights, biases - weights @ mean


def _rows(model: Model, prompts: Sequence[str] | Prompts) -> list[list[int]]:
    from patching.capture import Prompts

    if isinstance(prompts, Prompts):
        pairs = zip(prompts.tokens, prompts.mask, strict=True)
        return [tokens[mask].tolist() for tokens, mask in pairs]
    if model.tokenizer is None:
        raise TaskError("this model has no tokenizer; give prompts as token ids")
    return [list(encode(model.tokenizer, text)) for text in prompts]


def _positions(
    positions: Positions, rows: Sequence[Sequence[int]], labels: int
) -> tuple[tuple[str, ...], Int[np.ndarray, "n positions"]]:
    """Names, and for every prompt the columns counted from the end."""
    if len(rows) != labels:
        raise TaskError(f"{len(rows)} prompts for {labels} labels; give one of each")
    named = positions if isinstance(positions, Mapping) else {str(p): p for p in positions}
    lengths, faults, columns = np.array([len(row) for row in rows]), [], []
    for name, given in named.items():
        column = np.asarray(given)
        if column.shape not in ((), (len(rows),)):
            faults.append(f"position '{name}' has shape {column.shape}; give one number a prompt")
            continue
        column = np.broadcast_to(column, (len(rows),))
        if outside := np.flatnonzero((column >= 0) | (column < -lengths)).tolist():
            faults.append(
                f"position '{name}' is {column[outside[0]]} in prompt {outside[0]} of "
                f"{lengths[outside[0]]} tokens; count from the end, -1 for the last"
            )
        columns.append(column)
    if not named:
        faults.append("no position is given")
    if faults:
        raise TaskError(all_faults("positions that cannot be read:", faults))
    return tuple(named), np.stack(columns, axis=1)


def _noisy(model: Model, row: Sequence[int], noise: int, rng: np.random.Generator) -> list[int]:
    if noise == 0:
        return list(row)
    special = getattr(model.tokenizer, "all_special_ids", ())
    ordinary = np.setdiff1d(np.arange(model.vocabulary_size), special)
    start = int(bool(row) and row[0] == getattr(model.tokenizer, "bos_token_id", None))
    return [*row[:start], *rng.choice(ordinary, noise).tolist(), *row[start:]]


def _padded(model: Model, rows: Sequence[Sequence[int]]) -> Prompts:
    from patching.capture import Prompts

    return Prompts.of(rows, 0 if model.tokenizer is None else pad_id(model.tokenizer))
