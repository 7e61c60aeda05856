"""The forward pass of training: the model's own numbers, at about twice the speed on one thread.

Two things differ from calling the model. Matrix products run in bfloat16 where that is asked for;
the residual stream, attention, normalisation and the loss stay in fp32. And a token without its
leading space has the vector of the token with one plus a vector that all such tokens share, so that
"23" and " 23" are learned once; `settle` writes the sums into the model, an ordinary GPT-2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast


class Network(nn.Module):
    """A GPT-2 whose token vectors are `words[row] + bare * unspaced` while it is trained."""

    row: Tensor
    bare: Tensor

    def __init__(self, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        rows, bare = _rows(tokenizer)
        self.model = model
        self.register_buffer("row", torch.tensor(rows))
        self.register_buffer("bare", torch.tensor(bare, dtype=torch.float32)[:, None])
        first = {r: token for token, r in reversed(list(enumerate(rows)))}
        start = model.transformer.wte.weight.detach()
        self.words = nn.Parameter(start[[first[r] for r in range(len(first))]].clone())
        self.unspaced = nn.Parameter(0.02 * torch.randn(start.shape[1]))
        model.transformer.wte.weight.requires_grad_(False)
        self.settle()

    def trained(self) -> Iterator[nn.Parameter]:
        """Every parameter that has a gradient."""
        return (weight for weight in self.parameters() if weight.requires_grad)

    def table(self) -> Float[Tensor, "vocab d_model"]:
        """Every token's vector, for reading and for the unembedding in the same way."""
        return self.words[self.row] + self.bare * self.unspaced

    def settle(self) -> None:
        """Writes the token vectors into the model."""
        with torch.no_grad():
            self.model.transformer.wte.weight.copy_(self.table())

    def forward(
        self, ids: Int[Tensor, "n pos"], chosen: Bool[Tensor, "n pos"], low: bool
    ) -> Float[Tensor, "chosen vocab"]:
        """Logits at the chosen positions; `low` runs the matrix products in bfloat16."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            table, body = self.table(), self.model.transformer
            stream = functional.embedding(ids, table) + body.wpe.weight[: ids.shape[1]]
            for block in body.h:
                stream = stream + self._attend(block, stream)
                stream = stream + block.mlp.c_proj(_gelu(block.mlp.c_fc(block.ln_2(stream))))
            logits: Tensor = functional.linear(body.ln_f(stream[chosen]), table)
        return logits.float()

    def _attend(
        self, block: Any, stream: Float[Tensor, "n pos d_model"]
    ) -> Float[Tensor, "n pos d_model"]:
        n, pos, width = stream.shape
        heads = self.model.config.n_head
        mixed = block.attn.c_attn(block.ln_1(stream)).float()
        q, k, v = mixed.view(n, pos, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        # In bfloat16 the backward pass of this kernel is slower than everything else together.
        with torch.autocast("cpu", enabled=False):
            read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = block.attn.c_proj(read.transpose(1, 2).reshape(n, pos, width))
        return out


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _rows(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[bool]]:
    """For each token the row of its word, and whether it is the form without the leading space."""
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    rows: dict[str, int] = {}
    numbers = [rows.setdefault(token.strip() or token, len(rows)) for token in tokens]
    bare = [f" {token}" in ids and token.strip() == token for token in tokens]
    return numbers, bare
