"""Answers in their place: what follows a prompt, cut as running text would be.

The tokens of an answer are those by which `encode(prompt + answer)` is longer than
`encode(prompt)`. Many tokenizers cut the same word otherwise by itself: SentencePiece writes a
space before it, byte-level vocabularies join it to what stands in front.

Where an answer is several tokens, those it shares with the counterfactual are added to both
prompts and the first token at which the two differ is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.tokenize import Tokenizer, encode, single_token, unknown_id, unknown_words

Ids = tuple[int, ...]
TAIL = 12
"""So many characters of a prompt are shown before its answer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Where right and wrong answers part.

    shared           tokens that all of them begin with, to be added to the prompts
    answer           the next token of every right answer, none of them twice
    counterfactual   the next token of every wrong one
    rest             what follows it in the first right answer
    longer           whether any of them goes on after it
    """

    shared: Ids
    answer: Ids
    counterfactual: Ids
    rest: Ids
    longer: bool


def following(
    tokenizer: Tokenizer, prompt: str, answer: str, bos: bool | None = None
) -> list[int] | None:
    """The tokens of `answer` after `prompt`; None where the two are not cut apart there."""
    before = encode(tokenizer, prompt, bos)
    whole = encode(tokenizer, prompt + answer, bos)
    return whole[len(before) :] if whole[: len(before)] == before else None


def answer_tokens(
    tokenizer: Tokenizer, prompts: Sequence[str], answer: str, bos: bool | None = None
) -> Ids:
    """The tokens of `answer` after every one of the prompts.

    Raises:
        ValueError: it is empty, has words outside the vocabulary, is not cut apart from a prompt,
            or is cut differently after them; the message says how it would be.
    """
    if not answer:
        raise ValueError("'' is empty; an answer is one token or more")
    spellings: dict[Ids, str] = {}
    for prompt in prompts or ("",):
        after = following(tokenizer, prompt, answer, bos)
        if after is None:
            raise ValueError(_joined(tokenizer, prompt, answer, bos))
        spellings.setdefault(tuple(after), prompt)
    if unknown_id(tokenizer) in {token for ids in spellings for token in ids}:
        raise ValueError(f"{answer!r} is not in this tokenizer's vocabulary")
    if len(spellings) > 1:
        cuts = " and ".join(
            f"{_shown(tokenizer, ids)} after {_tail(prompt)!r}" for ids, prompt in spellings.items()
        )
        raise ValueError(f"{answer!r} is cut differently after the two prompts: {cuts}")
    (ids,) = spellings
    if not ids:
        raise ValueError(f"{answer!r} adds no token to the prompt")
    return ids


def size_of(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens `text` is in running text; 0 where the tokenizer does not know it."""
    if single_token(tokenizer, text) is not None:
        return 1
    if unknown_words(tokenizer, text):
        return 0
    return len(following(tokenizer, "a", text) or encode(tokenizer, text, bos=False))


def measured(answers: Sequence[Ids], counterfactuals: Sequence[Ids]) -> Measured:
    """Where right and wrong answers differ for the first time.

    Answers that are the same throughout are left for the caller to refuse.

    Raises:
        ValueError: an answer ends before that, or some begin with the same token and others do not.
    """
    every = [*answers, *counterfactuals]
    same = set(answers) & set(counterfactuals)
    k = 0 if same else begin_alike(every)
    if any(len(ids) == k for ids in every):
        raise ValueError(
            "one answer is the beginning of the other, so no token distinguishes them; write both "
            "to where they differ, or give another counterfactual"
        )
    right = tuple(dict.fromkeys(ids[k] for ids in answers))
    wrong = tuple(dict.fromkeys(ids[k] for ids in counterfactuals))
    if not same and set(right) & set(wrong):
        raise ValueError(
            "some answers and counterfactuals begin with the same token and others do not; give "
            "one of each, or only such as begin differently"
        )
    longer = any(len(ids) > k + 1 for ids in every)
    return Measured(every[0][:k], right, wrong, answers[0][k + 1 :], longer)


def text_with(
    tokenizer: Tokenizer, prompt: str, answer: str, shared: Ids, bos: bool | None = None
) -> str:
    """The prompt with the beginning of its answer, as text that is cut into just those tokens."""
    wanted = [*encode(tokenizer, prompt, bos), *shared]
    for k in range(1, len(answer) + 1):
        if encode(tokenizer, prompt + answer[:k], bos) == wanted:
            return prompt + answer[:k]
    return prompt + tokenizer.decode(list(shared))


def glued(prompt: str, answer: str) -> str:
    """What to say of an answer that is written onto the prompt's last word; empty if it is not."""
    if not prompt or not answer or not (_cased(prompt[-1]) and _cased(answer[0])):
        return ""
    word = f"{prompt.split()[-1]}{answer}"
    return f"{answer!r} is read as the end of the word {word!r}; a new word is {f' {answer}'!r}"


def begin_alike(sequences: Sequence[Ids]) -> int:
    """How many tokens all of the sequences begin with."""
    first, last = min(sequences), max(sequences)
    return next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )


def _joined(tokenizer: Tokenizer, prompt: str, answer: str, bos: bool | None) -> str:
    """Why the answer does not follow the prompt, and a spelling that does."""
    before = encode(tokenizer, prompt, bos)
    whole = encode(tokenizer, prompt + answer, bos)
    at = begin_alike([tuple(before), tuple(whole)])
    fault = (
        f"{answer!r} does not follow this prompt as tokens of its own: the end of "
        f"{_tail(prompt + answer, len(answer))!r} is cut as {_shown(tokenizer, whole[at:])}"
    )
    stem, bare = prompt.rstrip(" "), f" {answer.lstrip(' ')}"
    if not following(tokenizer, stem, bare, bos):
        return fault
    if stem != prompt:
        return f"{fault}; give the prompt without the space at its end, and {bare!r}"
    return f"{fault}; with a leading space, {bare!r}, it does"


def _shown(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return str([tokenizer.decode([token]) for token in ids])


def _tail(text: str, beyond: int = 0) -> str:
    return text[-TAIL - beyond :]


def _cased(letter: str) -> bool:
    """Whether it is a letter of a script that puts spaces between words."""
    return letter.lower() != letter.upper()
