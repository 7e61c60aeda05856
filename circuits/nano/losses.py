"""The loss of a training step: answers and whole texts, averaged source by source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import cross_entropy

from circuits.nano.batches import Chunk
from circuits.nano.forward import Network
from circuits.nano.sources import Source


def backward(
    network: Network, chunks: Sequence[Chunk], sources: Sequence[Source], low: bool
) -> Float[np.ndarray, " sources"]:
    """Adds the step's gradients, and returns the loss of each source.

    The loss of a source is the mean next-token loss on its answers plus `text_weight` times that on
    its whole texts; the step's loss is their sum, each times the source's `weight`. Chunks are
    taken one at a time, so only one of them is in memory.
    """
    per_answer, per_text = _weights(chunks, sources)
    totals = np.zeros(len(sources))
    for chunk in chunks:
        wanted = chunk.answer | chunk.text
        each = (
            chunk.answer * per_answer[chunk.owner][:, None]
            + chunk.text * per_text[chunk.owner][:, None]
        )[wanted]
        ids = torch.from_numpy(chunk.ids)
        read = torch.from_numpy(np.pad(wanted, ((0, 0), (0, 1))))
        losses = cross_entropy(
            network(ids, read, low), ids[:, 1:][torch.from_numpy(wanted)], reduction="none"
        )
        torch.sum(losses * torch.from_numpy(each).float()).backward()
        owner = np.broadcast_to(chunk.owner[:, None], wanted.shape)[wanted]
        np.add.at(totals, owner, losses.detach().numpy() * each)
    return totals / np.array([source.weight for source in sources])


def _weights(
    chunks: Sequence[Chunk], sources: Sequence[Source]
) -> tuple[Float[np.ndarray, " sources"], Float[np.ndarray, " sources"]]:
    """What one token counts in the step's loss: as part of an answer, and of a whole text."""
    answers, texts = np.zeros(len(sources)), np.zeros(len(sources))
    for chunk in chunks:
        np.add.at(answers, chunk.owner, chunk.answer.sum(axis=1))
        np.add.at(texts, chunk.owner, chunk.text.sum(axis=1))
    weight = np.array([source.weight for source in sources])
    text_weight = weight * np.array([source.text_weight for source in sources])
    return weight / np.maximum(answers, 1), text_weight / np.maximum(texts, 1)
