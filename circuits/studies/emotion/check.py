"""Head scores in closed form compared with really silencing every head, with the time of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import torch

from circuits.directions import Directions
from circuits.studies.emotion.parts import ablated_head_scores, head_scores
from patching.capture import Prompts, capture

if TYPE_CHECKING:
    from patching.model import Model

CHECKED = 8
REPEATS = 5

Value = TypeVar("Value")


def check_head_scores(
    model: Model, prompts: Prompts, directions: Directions, after_norm: bool
) -> dict[str, float]:
    """The largest difference on a few prompts, along the first label's directions.

    Seconds are of the processor: of the forward pass that the closed form reads (and that
    directions and neurons need anyway) and of the form itself, each the median of several, and of
    silencing one head after the other, once.
    """
    vectors = torch.tensor(directions.at("resid_mid")[0], dtype=model.dtype, device=model.device)
    part = prompts[:CHECKED]
    forward, captured = _median(lambda: capture(model, part))
    closed, fast = _median(lambda: head_scores(model, captured, vectors, after_norm))
    start = time.process_time()
    slow = ablated_head_scores(model, part, vectors, after_norm)
    ablated = time.process_time() - start
    return {
        "prompts": len(part),
        "largest_difference": float((fast - slow).abs().max()),
        "seconds_forward": forward,
        "seconds_closed_form": closed,
        "seconds_ablation": ablated,
        "times_cheaper": ablated / max(forward + closed, 1e-9),
    }


def _median(work: Callable[[], Value]) -> tuple[float, Value]:
    """Median seconds of several tries, and what the last one gave."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return median(seconds), result
