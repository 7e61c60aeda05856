"""The clean and the corrupted run of a batch of prompt pairs, and gradients at one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.backward import Backward, Beside
from patching.forward import Record, Tap, Write, chain, no_tap
from patching.in_use import undisturbed
from patching.metrics import CheckedMetric
from patching.model import Model
from patching.norms import precise
from patching.ops import PLAIN, Ops, Point
from tasks.errors import MethodError, TaskError
from tasks.pairs import PromptPairs


@dataclass(frozen=True)
class Batch:
    """Some prompt pairs as tensors, without the columns that are padding in all of them.

    ``start`` is the place of the first among all pairs that are gone through.
    """

    pairs: PromptPairs
    clean: Int[Tensor, "b s"]
    corrupted: Int[Tensor, "b s"]
    mask: Bool[Tensor, "b s"]
    dropped: int
    start: int = 0

    @classmethod
    def of(cls, model: Model, pairs: PromptPairs, start: int = 0) -> Batch:
        """All of the pairs, on the model's device."""
        dropped = int(pairs.mask.any(0).argmax())

        def tensor(ids: np.ndarray) -> Tensor:
            # Padding may be any number, such as -100; the model needs one that it can look up.
            return torch.tensor(np.where(pairs.mask, ids, 0)[:, dropped:], device=model.device)

        mask = torch.tensor(pairs.mask[:, dropped:], device=model.device)
        return cls(pairs, tensor(pairs.clean), tensor(pairs.corrupted), mask, dropped, start)

    @property
    def rows(self) -> slice:
        """Which of all pairs these are."""
        return slice(self.start, self.start + len(self))

    def tokens(self, run: str) -> Int[Tensor, "b s"]:
        """Token ids of the ``clean`` or the ``corrupted`` run."""
        return self.clean if run == "clean" else self.corrupted

    def __len__(self) -> int:
        return len(self.clean)


def check_tokens(model: Model, pairs: PromptPairs) -> None:
    """Refuse pairs that this model cannot read.

    Raises:
        TaskError: a token outside the vocabulary, or more tokens than the model has positions.
    """
    prompts = pairs.clean[pairs.mask], pairs.corrupted[pairs.mask]
    largest = max(int(ids.max()) for ids in (*prompts, pairs.answer, pairs.counterfactual))
    if largest >= model.vocabulary_size:
        raise TaskError(
            f"token id {largest} is outside this model's vocabulary of {model.vocabulary_size}; "
            f"make the pairs with this model's own tokenizer"
        )
    length = int(pairs.mask.sum(1).max())
    if model.longest is not None and length > model.longest:
        raise TaskError(
            f"prompts of {length} tokens do not fit this model's {model.longest} positions"
        )


@torch.no_grad()
def record(
    model: Model, batch: Batch, run: str, kinds: Iterable[str]
) -> tuple[Float[Tensor, "b v"], dict[Point, Tensor]]:
    """Logits of one run, and the values of the given kinds of points.

    Raises:
        MethodError: the logits are not finite; the first such site among the values is named.
    """
    tap = Record(kinds)
    logits = model.run(batch.tokens(run), batch.mask, tap)
    name_overflow(logits, tap.values)
    return logits, tap.values


@dataclass(frozen=True)
class Gradients:
    """Values and gradients of the metric at some points of one run, summed over nothing."""

    values: dict[Point, Tensor]
    grads: dict[Point, Tensor]
    metric: Float[Tensor, " b"]


@undisturbed
def record_gradients(
    model: Model,
    batch: Batch,
    run: str,
    metric: CheckedMetric,
    kinds: Iterable[str],
    ops: Ops = PLAIN,
    *,
    values: Iterable[str] | None = None,
    put: tuple[Point, Tensor] | None = None,
    closed_to: Point | None = None,
    beside: Beside | None = None,
    again: bool = False,
) -> Gradients:
    """One forward and one backward pass: the gradient of each prompt's metric at every point.

    Prompts do not influence one another, so the gradient of the summed metric is the per-prompt
    gradient, whatever the batch size. ``values`` are kept of the same kinds of points unless others
    are named. ``put`` replaces the value of one point, and gradients are taken from there on: those
    at points before it are given as zero. No gradient passes the point ``closed_to``. ``beside``
    is the other run where derivatives are made of both; with ``again`` every block runs twice and
    memory is that of one (:mod:`patching.backward`).

    Raises:
        MethodError: an activation or a gradient is not a finite number; the site is named.
    """
    graded = frozenset(kinds)
    kept = graded if values is None else frozenset(values)
    edits: dict[Point, Callable[[Tensor], Tensor]] = {}
    if put is not None:
        edits[put[0]] = lambda _: put[1].detach().requires_grad_()
    if closed_to is not None:
        edits[closed_to] = torch.Tensor.detach
    tap = Write(edits) if edits else no_tap
    frame = model.frame(batch.mask)
    x = tap("input", 0, model.embed(batch.tokens(run), frame)).detach()
    passing = Backward(model, frame, tap, kept, graded, ops, beside, again)
    inside = put is not None and put[0][0] != "input"
    logits = passing.run(x, put[0][1] if put and inside else 0, not inside)
    if beside is not None and beside.logits is not None:
        other = "corrupted" if run == "clean" else "clean"
        _check_logits(beside.logits, model, batch, other, graded | kept, no_tap)
    _check_logits(logits, model, batch, run, graded | kept, tap)
    with torch.enable_grad():
        value = metric(logits, batch.pairs)
        grads = passing.gradients(value.sum())
    if "input" in kept:
        passing.values["input", 0] = x
    check_finite(passing.values, "activation")
    check_finite(grads, "gradient")
    return Gradients(passing.values, grads, value.detach())


def _check_logits(
    logits: Tensor, model: Model, batch: Batch, run: str, kinds: Iterable[str], tap: Tap
) -> None:
    """Where logits are not finite, run again to name the first site that is not.

    Raises:
        MethodError: see :func:`name_overflow`.
    """
    if not torch.isfinite(logits).all():
        kept = Record(kinds)
        with torch.no_grad():
            model.run(batch.tokens(run), batch.mask, chain(tap, kept))
        name_overflow(logits, kept.values)


def name_overflow(logits: Tensor, values: dict[Point, Tensor]) -> None:
    """Where logits are not finite, refuse them and name the first of the values that is not.

    Raises:
        MethodError: see above.
    """
    if not torch.isfinite(logits).all():
        check_finite(values | {("logits", 0): logits}, "activation")


def check_finite(values: dict[Point, Tensor], what: str) -> None:
    """Refuse values that are not finite, and name the first point that has one.

    Raises:
        MethodError: see above.
    """
    for (kind, layer), value in values.items():
        # One sum is quicker than a look at every number, and is finite only if all of them are.
        if not torch.isfinite(precise(value).sum()) and not torch.isfinite(value).all():
            raise MethodError(
                f"{what} at {kind}.{layer} is not a finite number; the model overflows there, "
                f"so no score is given (try float32)"
            )
