"""Head scores in closed form held against really silencing every head, with the time of both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from circuits.directions import Directions
from circuits.emotions.parts import ablated_head_scores, head_scores
from patching.capture import Prompts, capture

if TYPE_CHECKING:
    from patching.model import Model

CHECKED = 8
REPEATS = 5


def check_head_scores(
    model: Model, prompts: Prompts, directions: Directions, after_norm: bool
) -> dict[str, float]:
    """The largest difference on a few prompts, along the first label's directions.

    Seconds are of the processor: of the forward pass that the closed form reads and of the form
    itself, each the mean of several, and of silencing one head after the other, once.
    """
    vectors = torch.tensor(directions.at("resid_mid")[0], dtype=model.dtype, device=model.device)
    part = prompts[:CHECKED]
    captured = capture(model, part)
    fast = head_scores(model, captured, vectors, after_norm)
    times = [time.process_time()]
    for _ in range(REPEATS):
        captured = capture(model, part)
    times.append(time.process_time())
    for _ in range(REPEATS):
        fast = head_scores(model, captured, vectors, after_norm)
    times.append(time.process_time())
    slow = ablated_head_scores(model, part, vectors, after_norm)
    forward = (times[1] - times[0]) / REPEATS
    closed = (times[2] - times[1]) / REPEATS
    ablated = time.process_time() - times[2]
    return {
        "prompts": len(part),
        "largest_difference": float((fast - slow).abs().max()),
        "seconds_forward": forward,
        "seconds_closed_form": closed,
        "seconds_ablation": ablated,
        "times_cheaper": ablated / max(forward + closed, 1e-9),
    }
