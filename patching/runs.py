"""The clean and the corrupted run of a batch of prompt pairs, and gradients at one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.forward import Record, Write, chain
from patching.in_use import undisturbed
from patching.metrics import CheckedMetric
from patching.model import Model
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
    put: tuple[Point, Tensor] | None = None,
    closed_to: Point | None = None,
) -> Gradients:
    """One forward and one backward pass: the gradient of each prompt's metric at every point.

    Prompts do not influence one another, so the gradient of the summed metric is the per-prompt
    gradient, whatever the batch size. ``put`` replaces the value of one point, and gradients are
    taken from there on: those at points before it are given as zero. No gradient passes the point
    ``closed_to``.

    Raises:
        MethodError: an activation or a gradient is not a finite number; the site is named.
    """
    tap = Record(kinds)
    frame = model.frame(batch.mask)
    edits: dict[Point, Callable[[Tensor], Tensor]] = {}
    if put is not None:
        edits[put[0]] = lambda _: put[1].detach().requires_grad_()
    if closed_to is not None:
        edits[closed_to] = torch.Tensor.detach
    tapped = chain(Write(edits), tap) if edits else tap
    with torch.enable_grad():
        x = model.embed(batch.tokens(run), frame).detach().requires_grad_(put is None)
        x = tapped("input", 0, x)
        logits = model.run_from(0, x, frame, tapped, ops)
        name_overflow(logits, tap.values)
        value = metric(logits, batch.pairs)
        points = [point for point, v in tap.values.items() if v.requires_grad]
        inputs = [tap.values[point] for point in points]
        found = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
    values = {point: v.detach() for point, v in tap.values.items()}
    on_the_way = dict(zip(points, found, strict=True))
    grads = {
        point: torch.zeros_like(v) if (g := on_the_way.get(point)) is None else g
        for point, v in values.items()
    }
    check_finite(values, "activation")
    check_finite(grads, "gradient")
    return Gradients(values, grads, value.detach())


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
        if not torch.isfinite(value).all():
            raise MethodError(
                f"{what} at {kind}.{layer} is not a finite number; the model overflows there, "
                f"so no score is given (try float32)"
            )
