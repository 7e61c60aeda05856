"""Tokenizers to try tasks on: a plain one written here, nano's, and GPT-2's vocabulary."""

import re
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[3] / "shared" / "models"


class WordTokenizer:
    """Words with their leading space, numbered as they come; words of `cut` split in two."""

    def __init__(self, bos: bool = True, cut: tuple[str, ...] = ()) -> None:
        self.vocabulary = ["<bos>"]
        self.bos_token_id = 0 if bos else None
        self.cut = cut

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        start = [] if self.bos_token_id is None or not add_special_tokens else [self.bos_token_id]
        pieces = re.findall(r" ?\w+| ?[^\w\s]", text)
        halves = [(p[:2], p[2:]) if p.strip() in self.cut else (p,) for p in pieces]
        return [*start, *(self._id(piece) for parts in halves for piece in parts)]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(self.vocabulary[token] for token in token_ids)

    def _id(self, piece: str) -> int:
        if piece not in self.vocabulary:
            self.vocabulary.append(piece)
        return self.vocabulary.index(piece)


@pytest.fixture
def words() -> WordTokenizer:
    return WordTokenizer()


@pytest.fixture(scope="session")
def nano_tokenizer():
    from transformers import AutoTokenizer

    from circuits import nano

    return AutoTokenizer.from_pretrained(nano.path())


@pytest.fixture(scope="session")
def gpt2_tokenizer():
    from transformers import GPT2TokenizerFast

    folder = MODELS / "gpt2-tokenizer"
    if not folder.is_dir():
        pytest.skip(f"the GPT-2 vocabulary is not at {folder}")
    return GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))


@pytest.fixture(scope="session")
def stories_tokenizer():
    from transformers import AutoTokenizer

    folder = MODELS / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"stories260K is not at {folder}")
    return AutoTokenizer.from_pretrained(folder)
