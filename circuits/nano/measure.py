"""How well a model does: greedy answers on many prompts, shares with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from tasks.tokenize import encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `n`, as a share with its 95 % Wilson interval."""

    right: int
    n: int

    @classmethod
    def of(cls, hits: Iterable[bool]) -> Share:
        """The share of true entries."""
        hits = list(hits)
        return cls(sum(hits), len(hits))

    @property
    def value(self) -> float:
        """right / n."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927), which stays inside 0 and 1 when all or none are right."""
        z2 = Z95**2
        middle = (self.right + z2 / 2) / (self.n + z2)
        spread = sqrt(self.right * (self.n - self.right) / self.n + z2 / 4) * Z95 / (self.n + z2)
        return max(0.0, middle - spread), min(1.0, middle + spread)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} [{low:.2%}, {high:.2%}], n={self.n}"


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
    fill, found = tokenizer.eos_token_id, []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        last = torch.tensor([len(row) - 1 for row in part])
        width = max(map(len, part))
        ids = torch.tensor([row + [fill] * (width - len(row)) for row in part])
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        found += logits[torch.arange(len(part)), last].argmax(dim=-1).tolist()
    return found
