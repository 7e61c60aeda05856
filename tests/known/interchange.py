"""A small GPT-2 forced to a known circuit by interchange-intervention training.

The task: ``[BOS, a, b, c, =]`` with digits below 6 is answered by ``(a + b + c) mod 6``. The
circuit, edge by edge, is ``CIRCUIT``: two heads of layer 0 fetch a and b, the MLP of layer 0 adds
them, a head of layer 1 fetches c, and the MLP of layer 1 adds it. Training runs random sets of
edges (those outside carry another prompt's run) and asks for the answer that the circuit gives
when exactly those of its own edges carry the prompt: a strict form of interchange-intervention
training (Geiger et al. 2022; SIIT, Gupta et al. 2024) at the level of edges. So every edge of the
circuit matters as the circuit says, and no other edge matters at all.

``python tests/known/interchange.py tests/data/interchange`` trains the shipped model again: some
minutes on one CPU thread.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, layer_norm
from transformers import GPT2Config, GPT2LMHeadModel

from patching.model import Model
from tasks.pairs import PromptPairs

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "interchange"
MODULUS, BOS, EQUALS, VOCABULARY, LENGTH = 6, 6, 7, 8, 5
LAYERS, HEADS, WIDTH, HIDDEN = 2, 4, 32, 128
CIRCUIT = (
    "input->a0.h0<v>",
    "input->a0.h2<v>",
    "a0.h0->m0",
    "a0.h2->m0",
    "input->a1.h1<v>",
    "m0->m1",
    "a1.h1->m1",
    "m1->logits",
)
SENDERS = (
    "input",
    *(f"a0.h{h}" for h in range(HEADS)),
    "m0",
    *(f"a1.h{h}" for h in range(HEADS)),
    "m1",
)
STEPS, BATCH, RATE, SEED = 6000, 384, 3e-3, 0


@cache
def opened() -> Model:
    """The shipped model."""
    return Model.open(SHIPPED)


def pairs(n: int = 128, seed: int = 1) -> PromptPairs:
    """At most ``n`` pairs of random prompts with different answers."""
    generator = torch.Generator().manual_seed(seed)
    clean, other = prompts(n, generator), prompts(n, generator)
    right, wrong = (tokens[:, 1:4].sum(1) % MODULUS for tokens in (clean, other))
    differ = right != wrong
    return PromptPairs.from_tokens(
        clean=clean[differ].numpy(),
        corrupted=other[differ].numpy(),
        answer=right[differ].numpy(),
        counterfactual=wrong[differ].numpy(),
        task="sum of three digits",
    )


def config() -> GPT2Config:
    """The shape of the model."""
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=HIDDEN,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EQUALS,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )


def prompts(n: int, generator: torch.Generator) -> Tensor:
    """Random prompts ``[n, 5]``."""
    digits = torch.randint(0, MODULUS, (n, 3), generator=generator)
    return torch.cat([torch.full((n, 1), BOS), digits, torch.full((n, 1), EQUALS)], dim=1)


class Network:
    """The forward pass of a GPT-2 in which every edge can carry one of two runs."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        self.model = model
        self.weights = dict(model.named_parameters())

    def embed(self, tokens: Tensor) -> Tensor:
        """What the input writes."""
        return (
            self.weights["transformer.wte.weight"][tokens]
            + (self.weights["transformer.wpe.weight"][: tokens.shape[1]])
        )

    def run(self, tokens: Tensor, off: list[Tensor], kept: dict[str, Tensor]) -> tuple:
        """Logits at the last position, and what every sender wrote.

        ``kept[receiver]`` is ``[b, ports, senders]``, 1 where the edge carries this run and 0
        where it carries ``off``, the writes of another run (an empty list: this run everywhere).
        """
        written = [self.embed(tokens)]
        for layer in range(LAYERS):
            written += self._heads(layer, self._read(f"a{layer}", written, off, kept))
            written.append(self._mlp(layer, self._read(f"m{layer}", written, off, kept))[:, 0])
        x = self._read("logits", written, off, kept)[:, 0, -1]
        return self._norm("ln_f", x) @ self.weights["lm_head.weight"].T, written

    def _read(self, receiver: str, written: list, off: list, kept: dict) -> Tensor:
        now = torch.stack(written, dim=1)
        if not off:
            return now.sum(1, keepdim=True)
        before = torch.stack(off[: len(written)], dim=1)
        mixed = torch.einsum("bpu,busd->bpsd", kept[receiver][:, :, : len(written)], now - before)
        return before.sum(1, keepdim=True) + mixed

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weights = (self.weights[f"transformer.{name}.{part}"] for part in ("weight", "bias"))
        return layer_norm(x, (WIDTH,), *weights)

    def _heads(self, layer: int, x: Tensor) -> list[Tensor]:
        name = f"transformer.h.{layer}.attn"
        n = self._norm(f"h.{layer}.ln_1", x).expand(-1, 3 * HEADS, -1, -1)
        weight = self.weights[f"{name}.c_attn.weight"].unflatten(1, (3 * HEADS, -1))
        bias = self.weights[f"{name}.c_attn.bias"].unflatten(0, (3 * HEADS, 1, -1))
        q, k, v = (torch.einsum("bpsd,dpe->bpse", n, weight) + bias).chunk(3, dim=1)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        z = scores.masked_fill(~causal, -1e9).softmax(-1) @ v
        out = self.weights[f"{name}.c_proj.weight"].unflatten(0, (HEADS, -1))
        heads = torch.einsum("bhse,hed->bhsd", z, out)
        # The bias belongs to no head; on the first it is a constant, and cancels between runs.
        heads = torch.cat([heads[:, :1] + self.weights[f"{name}.c_proj.bias"], heads[:, 1:]], 1)
        return list(heads.unbind(1))

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        name = f"transformer.h.{layer}.mlp"
        n = self._norm(f"h.{layer}.ln_2", x)
        up = n @ self.weights[f"{name}.c_fc.weight"] + self.weights[f"{name}.c_fc.bias"]
        down = self.weights[f"{name}.c_proj.weight"]
        return gelu(up, approximate="tanh") @ down + self.weights[f"{name}.c_proj.bias"]


def draw_edges(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random sets of edges: the circuit's and the others each all, none, or half of them."""
    shares = torch.tensor([0.0, 0.5, 0.5, 1.0])
    inside, outside = (
        shares[torch.randint(0, 4, (n, 1, 1), generator=generator)] for _ in range(2)
    )
    kept = {}
    for receiver, ports in _receivers():
        chance = outside.expand(n, ports, len(SENDERS)).clone()
        for port, sender in _wires(receiver):
            chance[:, port, sender] = inside[:, 0, 0]
        kept[receiver] = (torch.rand(chance.shape, generator=generator) < chance).float()
    return kept


def _receivers() -> list[tuple[str, int]]:
    return [("a0", 3 * HEADS), ("m0", 1), ("a1", 3 * HEADS), ("m1", 1), ("logits", 1)]


def _wires(receiver: str) -> list[tuple[int, int]]:
    """Port and sender of the circuit's edges into a receiver."""
    return [_wire(edge)[1:] for edge in CIRCUIT if _wire(edge)[0] == receiver]


def _wire(edge: str) -> tuple[str, int, int]:
    """Receiver, port and sender of an edge, as they index ``kept``."""
    sender, target = edge.split("->")
    receiver, _, rest = target.partition(".h")
    port = "qkv".index(rest[2]) * HEADS + int(rest[0]) if rest else 0
    return receiver, port, SENDERS.index(sender)


def answer(clean: Tensor, other: Tensor, kept: dict[str, Tensor]) -> Tensor:
    """What the circuit answers when only some of its edges carry the clean prompt."""

    def pick(edge: str, on: Tensor, off: Tensor) -> Tensor:
        receiver, port, sender = _wire(edge)
        return torch.where(kept[receiver][:, port, sender] > 0, on, off)

    a, b, c = (pick(CIRCUIT[i], clean[:, j], other[:, j]) for i, j in ((0, 1), (1, 2), (4, 3)))
    first = pick(CIRCUIT[2], a, other[:, 1]) + pick(CIRCUIT[3], b, other[:, 2])
    total = pick(CIRCUIT[5], first, other[:, 1] + other[:, 2]) + pick(CIRCUIT[6], c, other[:, 3])
    return pick(CIRCUIT[7], total, other[:, 1:4].sum(1)) % MODULUS


def train(steps: int = STEPS, seed: int = SEED, tell: bool = False) -> GPT2LMHeadModel:
    """The trained model; the same seed gives the same weights on one kind of machine."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT2LMHeadModel(config())
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.data = torch.randn(weight.shape, generator=generator) * WIDTH**-0.5
        elif "ln" not in name:
            weight.data.zero_()
    network = Network(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for step in range(steps):
        clean, other = prompts(BATCH, generator), prompts(BATCH, generator)
        kept = draw_edges(BATCH, generator)
        plain, off = network.run(other, [], {})
        mixed, _ = network.run(clean, off, kept)
        loss = cross_entropy(mixed, answer(clean, other, kept))
        loss = loss + cross_entropy(plain, other[:, 1:4].sum(1) % MODULUS)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if tell and step % 200 == 0:
            right = (mixed.argmax(-1) == answer(clean, other, kept)).float().mean()
            sys.stdout.write(f"{step} loss {loss.item():.4f} right {right.item():.4f}\n")
            sys.stdout.flush()
    return model.eval()


if __name__ == "__main__":
    train(tell=True).save_pretrained(Path(sys.argv[1]))
