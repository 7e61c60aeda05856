"""A GPT-2 whose weights are written down: it adds two digits, and operands move where we say.

Prompts are ``BOS A + B =``. Blocks 0 and 1 prepare each digit by themselves (block 1 also lets B
look at A, which nobody reads); block 2 moves A to the last token, block 3 moves B; the MLP of
block 4 turns the sum there into what the unembedding reads. So the stages are W = 1 and T = 2, the
heads that transfer are a2.h0 and a3.h1, and one block later all is lost.

A feature is stored as +x and -x in two neighbouring dimensions, and a constant much larger than
all features keeps the scale of every norm the same, so that LayerNorm is a fixed factor.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from patching.model import Model
from tasks.pairs import PromptPairs

BOS, PLUS, EQUALS, NUMBERS, LARGEST = 0, 1, 2, 3, 18
WAIT, TRANSFER, LAYERS = 1, 2, 5
HEADS = ("a2.h0", "a3.h1")
FEATURES = ("one", "digit", "half", "ready", "seen", "sum", "out", *(f"at{i}" for i in range(5)))
WIDTH = 2 * len(FEATURES)
SCALE = 300.0
NORM = SCALE / np.sqrt(len(FEATURES))
"""What LayerNorm divides by: the constant is all there is, to within a percent."""


def write(feature: str, amount: float = 1.0) -> torch.Tensor:
    """A residual vector that adds to one feature."""
    vector = torch.zeros(WIDTH)
    at = 2 * FEATURES.index(feature)
    vector[at], vector[at + 1] = amount, -amount
    return vector


def read(feature: str, amount: float = 1.0) -> torch.Tensor:
    """A direction whose product with the normed stream is the feature, times an amount."""
    return write(feature, amount * NORM / 2)


def build() -> object:
    """The Hugging Face model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=NUMBERS + LARGEST + 1,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=2,
        n_inner=4,
        n_positions=5,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=BOS,
    )
    hf = GPT2LMHeadModel._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            weight.fill_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
        _embed(hf.transformer)
        _copy(hf.transformer.h[0], "digit", "half")
        _copy(hf.transformer.h[1], "half", "ready")
        _move(hf.transformer.h[1], 0, query="at3", key="at1", value="digit", into="seen")
        _move(hf.transformer.h[2], 0, query="at4", key="at1", value="ready", into="sum")
        _move(hf.transformer.h[3], 1, query="at4", key="at3", value="ready", into="sum")
        _copy(hf.transformer.h[4], "sum", "out")
        for total in range(LARGEST + 1):
            weight = read("out", 2.0 * total) + read("one", -(total**2) / SCALE)
            hf.lm_head.weight[NUMBERS + total] = weight
        hf.lm_head.weight[:NUMBERS] = read("one", -1000.0 / SCALE)
    return hf.eval()


def _embed(transformer) -> None:
    transformer.wte.weight[:] = write("one", SCALE)
    for number in range(LARGEST + 1):
        transformer.wte.weight[NUMBERS + number] += write("digit", float(number))
    for position in range(5):
        transformer.wpe.weight[position] = write(f"at{position}")


def _copy(block, source: str, target: str) -> None:
    """An MLP that adds one feature to another: far right of zero, GELU is the identity."""
    shift = 30.0
    block.mlp.c_fc.weight[:, 0] = read(source)
    block.mlp.c_fc.bias[0] = shift
    block.mlp.c_proj.weight[0] = write(target)
    block.mlp.c_proj.bias[:] = write(target, -shift)


def _move(block, head: int, query: str, key: str, value: str, into: str) -> None:
    """A head that copies a feature from the position `key` to the position `query`.

    Elsewhere it looks at BOS, where the value is zero.
    """
    size = WIDTH // 2
    q, k, v = (WIDTH * i + head * size for i in range(3))
    sharp = 8.0
    block.attn.c_attn.weight[:, q] = read(query, 2 * sharp)
    block.attn.c_attn.weight[:, k] = read(key, 2 * sharp)
    block.attn.c_attn.weight[:, q + 1] = read("one", sharp / SCALE)
    block.attn.c_attn.weight[:, k + 1] = read("at0", sharp)
    block.attn.c_attn.weight[:, v] = read(value)
    block.attn.c_proj.weight[head * size] = write(into)


def tokenizer() -> object:
    """Numbers up to 18, the two signs and BOS in front, as a fast tokenizer that can be saved."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = ["<bos>", "+", "=", *map(str, range(LARGEST + 1)), "<unk>"]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Split(Regex(r"\d+|."), "isolated")
    made.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", unk_token="<unk>")


@cache
def opened() -> Model:
    """The planted model, opened; not to be changed."""
    return Model.open(build(), tokenizer=tokenizer())


def pairs(n: int = 100, seed: int = 0) -> PromptPairs:
    """Sums of two digits, all hundred of them at most; the corruption changes A."""
    rng = np.random.default_rng(seed)
    a, b = np.divmod(rng.permutation(100)[:n], 10)
    c, d = (a + rng.integers(1, 10, n)) % 10, b
    prompts = [
        np.stack(
            [np.full(n, BOS), NUMBERS + x, np.full(n, PLUS), NUMBERS + y, np.full(n, EQUALS)], 1
        )
        for x, y in ((a, b), (c, d))
    ]
    return PromptPairs.from_tokens(
        clean=prompts[0],
        corrupted=prompts[1],
        answer=(NUMBERS + a + b)[:, None],
        counterfactual=(NUMBERS + c + d)[:, None],
        positions={"A": np.full(n, 1), "B": np.full(n, 3), "END": np.full(n, 4)},
        task="planted",
    )
