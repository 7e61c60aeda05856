"""GPT-2s whose weights are written down, so that their circuits follow from the weights.

A feature is stored as +x and -x in two neighbouring dimensions, so that the mean of the residual
stream is 0, beside a constant much larger than all features, so that LayerNorm is a fixed factor.
What no weight reads cannot matter: the edges of the circuit are those that carry a feature which
differs between prompts from where it is written to where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from patching.model import Model
from tasks.pairs import PromptPairs

SCALE = 300.0
SHARP = 12.0
HEADS, LAYERS = 3, 2


@dataclass(frozen=True)
class Known:
    """A model, its true edges, and prompts on which they do their work."""

    model: Model
    edges: frozenset[str]
    pairs: PromptPairs


class Sheet:
    """Weights of a GPT-2 in terms of named features; all that is not written is 0."""

    def __init__(self, features: list[str], vocabulary: int, length: int) -> None:
        self.features = ["one", *features, *(f"at{i}" for i in range(length))]
        self.features += [f"spare{i}" for i in range(-len(self.features) % HEADS)]
        self.width = 2 * len(self.features)
        self.size = self.width // HEADS
        self.norm = SCALE / len(self.features) ** 0.5
        config = GPT2Config(
            vocab_size=vocabulary,
            n_embd=self.width,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=4,
            n_positions=length,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.hf = GPT2LMHeadModel._from_config(config, attn_implementation="eager")
        with torch.no_grad():
            for name, weight in self.hf.named_parameters():
                weight.fill_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
            self.hf.transformer.wte.weight[:] = self.write("one", SCALE)
            for i in range(length):
                self.hf.transformer.wpe.weight[i] = self.write(f"at{i}")

    def write(self, feature: str, amount: float = 1.0) -> torch.Tensor:
        """A residual vector that adds to one feature."""
        vector = torch.zeros(self.width)
        at = 2 * self.features.index(feature)
        vector[at], vector[at + 1] = amount, -amount
        return vector

    def read(self, feature: str, amount: float = 1.0) -> torch.Tensor:
        """A direction whose product with the normed stream is the feature, times an amount."""
        return self.write(feature, amount * self.norm / 2)

    @torch.no_grad()
    def head(
        self,
        layer: int,
        head: int,
        match: list[tuple[str, str]],
        move: list[tuple[str, str]],
        rest: str = "at0",
    ) -> None:
        """Look where a key feature matches a query feature (else at ``rest``) and move features."""
        attn = self.hf.transformer.h[layer].attn
        q, k, v = (self.width * i + head * self.size for i in range(3))
        for i, (query, key) in enumerate(match):
            attn.c_attn.weight[:, q + i] = self.read(query, 2 * SHARP)
            attn.c_attn.weight[:, k + i] = self.read(key, self.size**0.5)
        attn.c_attn.weight[:, q + len(match)] = self.read("one", SHARP / SCALE)
        attn.c_attn.weight[:, k + len(match)] = self.read(rest, self.size**0.5)
        for i, (source, target) in enumerate(move):
            attn.c_attn.weight[:, v + i] = self.read(source)
            attn.c_proj.weight[head * self.size + i] = self.write(target)

    @torch.no_grad()
    def token(self, token: int, feature: str) -> None:
        """A token that carries a feature."""
        self.hf.transformer.wte.weight[token] += self.write(feature)

    @torch.no_grad()
    def logit(self, token: int, feature: str, gain: float = 4.0) -> None:
        """A token whose logit is a feature, times a gain."""
        self.hf.lm_head.weight[token] += self.read(feature, gain)


def induction(n: int = 64, seed: int = 0) -> Known:
    """``BOS k1 v1 k2 v2 k3 v3 k`` is answered by the value that followed ``k`` before.

    Head 0 of layer 0 writes every token's predecessor, where the token is a key; head 1 of layer 1
    looks for the position whose predecessor is the current token, and moves its value to the
    output. Everything else is idle, but for head 2 of layer 0, which moves keys where nobody reads.
    """
    count, length = 6, 8
    keys, values = range(1, 1 + count), range(1 + count, 1 + 2 * count)
    names = [f"{kind}{i}" for kind in ("key", "value", "before", "out", "waste") for i in keys]
    sheet = Sheet(names, 1 + 2 * count, length)
    previous = [(f"at{i}", f"at{i - 1}") for i in range(1, length)]
    sheet.head(0, 0, previous, [(f"key{i}", f"before{i}") for i in keys])
    sheet.head(0, 2, previous, [(f"key{i}", f"waste{i}") for i in keys])
    sheet.head(
        1,
        1,
        [(f"key{i}", f"before{i}") for i in keys],
        [(f"value{i}", f"out{i}") for i in keys],
    )
    for i, (key, value) in enumerate(zip(keys, values, strict=True), start=1):
        sheet.token(key, f"key{i}")
        sheet.token(value, f"value{i}")
        sheet.logit(value, f"out{i}")
    rng = np.random.default_rng(seed)
    clean, corrupted = (_sequences(rng, n, keys, values) for _ in range(2))
    same = clean[1] == corrupted[1]
    pairs = PromptPairs.from_tokens(
        clean=clean[0][~same],
        corrupted=corrupted[0][~same],
        answer=clean[1][~same],
        counterfactual=corrupted[1][~same],
        task="induction",
    )
    edges = (
        "input->a0.h0<v>",
        "a0.h0->a1.h1<k>",
        "input->a1.h1<q>",
        "input->a1.h1<v>",
        "a1.h1->logits",
    )
    return Known(Model.open(sheet.hf.eval()), frozenset(edges), pairs)


def _sequences(rng: np.random.Generator, n: int, keys: range, values: range) -> tuple:
    """Prompts of three different keys with different values, and the values asked for."""
    chosen = np.stack([rng.permutation(keys)[:3] for _ in range(n)])
    given = np.stack([rng.permutation(values)[:3] for _ in range(n)])
    asked = rng.integers(3, size=n)
    rows = np.arange(n)
    prompts = np.zeros((n, 8), dtype=np.int64)
    prompts[:, 1:7:2], prompts[:, 2:7:2], prompts[:, 7] = chosen, given, chosen[rows, asked]
    return prompts, given[rows, asked]


def parity(n: int = 64, seed: int = 0) -> Known:
    """``BOS a b c =`` with bits a, b, c is answered by ``a XOR b``.

    Heads 0 and 2 of layer 0 move a and b to the last token; the MLP of layer 0 computes
    ``relu(a + b) - 2 relu(a + b - 1)``, which is XOR; a head of layer 1 moves c where nobody reads.
    """
    zero, one, equals = 1, 2, 3
    sheet = Sheet(["bit", "a", "b", "c", "odd"], 6, 5)
    sheet.token(one, "bit")
    sheet.head(0, 0, [("at4", "at1")], [("bit", "a")])
    sheet.head(0, 2, [("at4", "at2")], [("bit", "b")])
    sheet.head(1, 1, [("at4", "at3")], [("bit", "c")])
    _exclusive_or(sheet, gain=30.0)
    sheet.logit(5, "odd", 8.0)
    with torch.no_grad():
        sheet.hf.lm_head.weight[5] += sheet.read("one", -4.0 / SCALE)
    rng = np.random.default_rng(seed)
    bits = rng.integers(2, size=(n, 3))
    other = bits.copy()
    other[np.arange(n), np.arange(n) % 2] ^= 1
    other[:, 2] = rng.integers(2, size=n)
    clean, corrupted = (
        np.concatenate([np.zeros((n, 1), int), zero + each, np.full((n, 1), equals)], axis=1)
        for each in (bits, other)
    )
    pairs = PromptPairs.from_tokens(
        clean=clean,
        corrupted=corrupted,
        answer=4 + (bits[:, 0] ^ bits[:, 1]),
        counterfactual=4 + (other[:, 0] ^ other[:, 1]),
        task="parity",
    )
    edges = ("input->a0.h0<v>", "input->a0.h2<v>", "a0.h0->m0", "a0.h2->m0", "m0->logits")
    return Known(Model.open(sheet.hf.eval()), frozenset(edges), pairs)


@torch.no_grad()
def _exclusive_or(sheet: Sheet, gain: float) -> None:
    """GELU is relu where its input is far from 0, and 0 at 0."""
    mlp = sheet.hf.transformer.h[0].mlp
    for neuron, (shift, weight) in enumerate(((0.0, 1.0), (-gain, -2.0))):
        mlp.c_fc.weight[:, neuron] = sheet.read("a", gain) + sheet.read("b", gain)
        mlp.c_fc.bias[neuron] = shift
        mlp.c_proj.weight[neuron] = sheet.write("odd", weight / gain)
