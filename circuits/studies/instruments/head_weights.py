"""What the weights of a head say it does with a token, whatever the prompt.

copying     sum of the eigenvalues of W_E W_V W_O W_U over the sum of their absolute values, -1
            to 1 (Elhage et al. 2021); norms are held fixed
successor   share of the words of known sequences (days, months, numbers, letters) for which,
            of the sequence's other words, the next one gets the largest logit from the head
            when it reads the word as the first MLP leaves it, 0 to 1 (Gould et al. 2023)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.forward import write_mlp
from patching.norms import precise
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from patching.blocks import Block
    from patching.model import Model

SEQUENCES = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    (
        *("January", "February", "March", "April", "May", "June", "July", "August"),
        *("September", "October", "November", "December"),
    ),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    tuple(str(number) for number in range(1, 100)),
)
SHORTEST = 3
"""Words that a sequence needs to count; of fewer, chance is nearly right."""


@torch.no_grad()
def copying_scores(model: Model) -> Float[np.ndarray, " heads"]:
    """Of every head, how far what it writes of a token raises that same token's logit."""
    embedding, final = precise(_weights(model.parts.tokens).detach()), model.final_norm
    rows = precise(model.unembedding)
    around = final.centre_vjp((rows.T @ embedding).T * final.weight).T
    scores = []
    for block in model.blocks:
        values, outputs = precise(block.input_weight("v")), precise(block.W_O)
        inner = block.ln1.weight.reshape(-1, 1) * values if block.ln1.weight.ndim else values
        if block.ln1.centred:
            inner = inner - inner.mean(-2, keepdim=True)
        post = block.ln1_post
        if post is not None:
            outputs = post.centre(outputs) * post.weight
        small = torch.einsum("hed,dc,hcf->hef", outputs, around.to(outputs), inner.to(outputs))
        eigenvalues = torch.linalg.eigvals(small.double())
        total = eigenvalues.abs().sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
        scores.append((eigenvalues.real.sum(-1) / total).cpu().numpy())
    return np.concatenate(scores)


def _weights(module: Any) -> Float[Tensor, "v d"]:
    weight: Tensor = module.weight
    return weight


@torch.no_grad()
def successor_scores(model: Model) -> Float[np.ndarray, " heads"]:
    """Of every head, how often the next word of a sequence is what it raises most.

    NaN throughout where the tokenizer has too few of these words, or there is none.
    """
    known = known_sequences(model.tokenizer)
    raised = [_right(model, ids) for ids in known]
    if not raised:
        return np.full(model.anatomy.n_layers * model.anatomy.n_heads, np.nan)
    return np.concatenate(raised, axis=1).mean(axis=1)


def known_sequences(tokenizer: Any) -> list[list[int]]:
    """Runs of words that follow one another and are one token each, as token ids."""
    found: list[list[int]] = []
    for words in SEQUENCES if tokenizer is not None else ():
        runs: list[list[int]] = [[]]
        for word in words:
            token = single_token(tokenizer, f" {word}")
            if token is None:
                runs.append([])
            else:
                runs[-1].append(token)
        found += [run for run in runs if len(run) >= SHORTEST]
    return found


def _right(model: Model, ids: Sequence[int]) -> Float[np.ndarray, "heads words"]:
    """Whether each word but the last has its successor raised above all others but itself."""
    tokens = torch.tensor(ids, device=model.device)
    # Every word stands first in a prompt of its own.
    x = model.embed(
        tokens[:, None], model.frame(torch.ones_like(tokens[:, None], dtype=torch.bool))
    )
    x = (x + write_mlp(model.blocks[0], x)).movedim(1, 0)
    rows = precise(model.unembedding[tokens])
    final = model.final_norm
    found = []
    for block in model.blocks:
        read = final.centre(_written(block, x)) * precise(final.weight)
        logits = torch.einsum("hsd,vd->hsv", precise(read), rows)
        logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        best = logits[:, :-1].argmax(-1)
        found.append((best == torch.arange(1, len(ids), device=best.device)).double())
    return torch.cat(found).cpu().numpy()


def _written(block: Block, x: Float[Tensor, "1 s d"]) -> Float[Tensor, "h s d"]:
    """What each head writes when it attends to one token alone."""
    values = block.share(block.values(block.ln1(x)))[0]
    written = torch.einsum("she,hed->hsd", precise(values), precise(block.W_O))
    post = block.ln1_post
    return written if post is None else post.centre(written) * post.weight
