"""Text to token ids and back, in one place so that every task and every model agree.

A prompt is encoded as its tokenizer does by default: with the beginning-of-sequence id in front
where that one puts it there, and without it where it does not. Nothing is added to a prompt, and
a prompt that is written with its beginning gets no second one. :func:`with_start` overrides this.
What follows a prompt is read by :mod:`tasks.answers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from tasks.errors import TaskError

PROBE = "a"
"""A text that shows what a tokenizer puts around every text."""


class Tokenizer(Protocol):
    """What is used of a tokenizer; every Hugging Face tokenizer has it."""

    @property
    def bos_token_id(self) -> int | None:
        """The id that starts a text, None where the tokenizer defines none."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text."""

    def decode(self, token_ids: Any) -> str:
        """The text of one id or several."""


def check_tokenizer(given: object) -> None:
    """Refuse what cannot encode a text.

    Raises:
        TaskError: it is None, or something else.
    """
    if not hasattr(given, "encode"):
        kind = "None" if given is None else f"of the kind {type(given).__name__}"
        raise TaskError(
            f"texts need a tokenizer, and the one given is {kind}; give model.tokenizer, or "
            f"token ids"
        )


def encode(tokenizer: Tokenizer, text: str, bos: bool | None = None) -> list[int]:
    """Token ids of `text`, begun as this tokenizer begins a text by default.

    `bos=False` puts no beginning-of-sequence id in front, `bos=True` does whatever the tokenizer
    does by itself. A text that is written with its beginning, as those of chat templates are, never
    gets a second one.

    Raises:
        TaskError: `bos=True`, and the tokenizer defines no beginning-of-sequence token.
    """
    check_tokenizer(tokenizer)
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    start = start_ids(tokenizer, bos)
    return ids if ids[: len(start)] == start else [*start, *ids]


def start_ids(tokenizer: Tokenizer, bos: bool | None = None) -> list[int]:
    """The ids in front of every text: by default what the tokenizer itself puts there.

    Raises:
        TaskError: `bos=True`, and the tokenizer defines no beginning-of-sequence token.
    """
    if bos is False:
        return []
    if bos is None:
        bare = list(tokenizer.encode(PROBE, add_special_tokens=False))
        whole = list(tokenizer.encode(PROBE, add_special_tokens=True))
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[: next(starts, 0)]
    if tokenizer.bos_token_id is None:
        raise TaskError(
            "bos=True was asked for, but this tokenizer defines no beginning-of-sequence token; "
            "leave bos out, or set tokenizer.bos_token"
        )
    return [tokenizer.bos_token_id]


class Started:
    """A tokenizer with its texts begun in another way than by default; all else is its own."""

    def __init__(self, tokenizer: Tokenizer, start: list[int]) -> None:
        self.tokenizer = tokenizer
        self._start = start

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text, after its beginning where special tokens are wanted."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return [*self._start, *ids] if add_special_tokens else ids

    def __getattr__(self, name: str) -> Any:
        if name == "tokenizer":  # not set yet, as while it is being copied
            raise AttributeError(name)
        return getattr(self.tokenizer, name)


def with_start(tokenizer: Any, bos: bool | None) -> Any:
    """The tokenizer with every text begun by its beginning-of-sequence id, or by nothing.

    None leaves it as it is.

    Raises:
        TaskError: it is no tokenizer, or has no such token and `bos` is True.
    """
    if bos is None:
        return tokenizer
    check_tokenizer(tokenizer)
    plain = tokenizer.tokenizer if isinstance(tokenizer, Started) else tokenizer
    return Started(plain, start_ids(plain, bos))


def single_token(tokenizer: Tokenizer, text: str) -> int | None:
    """The id of `text` where it is one token, otherwise None.

    `text` counts as one token by itself (" Mary" in GPT-2) or, when it starts with a space, as what
    follows a text: tokenizers of the SentencePiece family encode a leading space on its own, yet
    write the same word as one token in running text.
    """
    ids = encode(tokenizer, text, bos=False)
    if len(ids) != 1 and text.startswith(" "):
        before = encode(tokenizer, "a", bos=False)
        after = encode(tokenizer, "a" + text, bos=False)
        ids = after[len(before) :] if after[: len(before)] == before else ids
    return ids[0] if len(ids) == 1 and ids[0] != unknown_id(tokenizer) else None


def single_tokens(tokenizer: Tokenizer, words: Iterable[str]) -> list[str]:
    """Those of `words` that are one token when they follow a space, in the order given."""
    return [word for word in words if single_token(tokenizer, f" {word}") is not None]


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The strings that `text` is cut into, for messages."""
    return [tokenizer.decode([token]) for token in encode(tokenizer, text, bos=False)]


def why_not_single(tokenizer: Tokenizer, text: str) -> str:
    """One line: how `text` splits, and whether a leading space would make it one token."""
    if not text:
        return "'' is empty; an answer is exactly one token"
    unknown = unknown_words(tokenizer, text)
    if unknown:
        return f"{text!r} is not in this tokenizer's vocabulary"
    cut = pieces(tokenizer, text)
    split = f"{text!r} is {len(cut)} tokens {cut}"
    if not text.startswith(" ") and single_token(tokenizer, f" {text}") is not None:
        return f"{split}; with a leading space, {f' {text}'!r}, it is one"
    return split


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of `text` that this tokenizer can only write as its unknown token."""
    unknown = unknown_id(tokenizer)
    if unknown is None or unknown not in encode(tokenizer, text, bos=False):
        return []
    words = [word for word in text.split() if unknown in encode(tokenizer, word, bos=False)]
    return words or [text]


def token_index(tokenizer: Tokenizer, text: str, end: int, bos: bool | None = None) -> int:
    """Index, in `encode(tokenizer, text)`, of the token that ends at character `end` of `text`.

    Raises `TaskError` where no token ends there.
    """
    ids = encode(tokenizer, text, bos)
    prefix = encode(tokenizer, text[:end], bos)
    if not prefix or ids[: len(prefix)] != prefix:
        raise TaskError(
            f"no token of this tokenizer ends at character {end} of {text!r}: "
            f"it is cut into {pieces(tokenizer, text)}"
        )
    return len(prefix) - 1


def pad_id(tokenizer: Tokenizer) -> int:
    """The id written on padding; masked, so any id the model knows will do."""
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    return 0


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of words outside the vocabulary; None where one id serves as unknown and as start."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    return None if unknown == tokenizer.bos_token_id else unknown
