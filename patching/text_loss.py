"""The loss of plain text, each token given those before it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from patching.forward import Tap, no_tap, run_block
from patching.model import Model


@torch.no_grad()
def text_loss(
    model: Model, tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"], tap: Tap = no_tap
) -> tuple[float, int]:
    """The summed next-token loss of left-padded texts, in nats, and of how many tokens it is.

    With a tap for all positions, each token is changed as it would be were it the last.
    """
    with model.reading():
        frame = model.frame(mask)
        x = tap("input", 0, model.embed(tokens, frame))
        for block in model.blocks:
            x = run_block(block, x, frame, tap)
        read = mask[:, :-1]
        logits = model.unembed(x[:, :-1][read])
    wanted = tokens[:, 1:][read]
    loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")
    return float(loss), int(read.sum())
