"""How well a model does: greedy answers on many prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.tokenize import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def top_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    batch: int = 256,
) -> list[int]:
    """The most likely next token of each prompt, as an id."""
    import torch

    rows = [encode(tokenizer, prompt) for prompt in prompts]
    # Padding on the right needs no mask: a causal model never looks at it.
    fill, top = tokenizer.eos_token_id, []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        last = torch.tensor([len(row) - 1 for row in part])
        width = max(map(len, part))
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in part])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        top += logits[torch.arange(len(part)), last].argmax(dim=-1).tolist()
    return top
