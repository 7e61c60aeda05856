"""Answers that are one token, and the one that running text would have after their prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tasks.tokenize import Tokenizer, encode, single_token


@dataclass(frozen=True, slots=True)
class Follow:
    """What can follow prompts as one token. `known` holds words' ids, None where they are not."""

    tokenizer: Tokenizer
    known: dict[str, int | None] = field(default_factory=dict)

    def words(self, prompts: Sequence[str], words: Iterable[str]) -> list[str]:
        """Those of the words that are one token after every one of the prompts."""
        before = [(prompt, encode(self.tokenizer, prompt)) for prompt in prompts]
        return [word for word in words if all(self._fits(*each, word) for each in before)]

    def _fits(self, prompt: str, ids: list[int], word: str) -> bool:
        if word not in self.known:
            self.known[word] = single_token(self.tokenizer, word)
        token = self.known[word]
        return token is not None and encode(self.tokenizer, prompt + word) == [*ids, token]
