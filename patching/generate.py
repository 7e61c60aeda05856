"""Generation, greedy or sampled, by the engine's own forward pass and a cache of keys and values.

The prompt is run once; afterwards every step runs one position, which reads the keys and values of
all earlier ones. A tap sees every point of every step: of the prompt first, then of one new
position at a time (``[b, 1, ...]``; a pattern is ``[b, h, 1, keys so far]``). What a tap makes of a
key or a value is what later positions read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.forward import Past, Record, Tap, chain, no_tap, run_block
from patching.in_use import undisturbed
from patching.model import Model
from patching.ops import Point
from tasks.errors import TaskError, number_faults

CACHED = ("k_rot", "v_read")
"""The kinds of points whose earlier positions a block reads again."""


@torch.no_grad()
def generate(
    model: Model,
    tokens: Int[Tensor, "b s"],
    mask: Bool[Tensor, "b s"],
    max_new_tokens: int,
    tap: Tap = no_tap,
    stop: int | Collection[int] | None = None,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Int[Tensor, "b new"]:
    """A continuation of every left-padded prompt, token by token: by default the most likely one.

    With a `temperature` above 0 tokens are drawn from the softmax of logits / temperature; `top_p`
    draws among the most likely tokens that together have at least this probability (nucleus
    sampling, Holtzman et al. 2020, arXiv 1904.09751). Equal seeds give equal texts.

    A row ends with the first token of ``stop`` (one id or several), which is then repeated until
    all rows have ended; ``new`` is ``max_new_tokens``, or less where all rows end sooner.

    Raises:
        TaskError: nothing to generate, an empty prompt, token ids that the model does not have,
            more tokens than it has positions for, or a temperature, top_p or seed that is none.
    """
    choose = Choosing(temperature, top_p, seed)
    _check(model, tokens, mask, max_new_tokens, choose)
    # One stream of random numbers on the CPU: the same draws on every device.
    draws = torch.Generator().manual_seed(seed)
    ends = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
    ending = torch.tensor(ends, dtype=torch.long, device=model.device)
    chosen: list[Tensor] = []
    logits, steps = None, Decoding(model, tokens, mask, max_new_tokens, tap)
    for _ in range(max_new_tokens):
        logits = steps.prompt() if logits is None else steps.step(chosen[-1])
        best = choose(logits, draws)
        if chosen:
            ended = torch.isin(chosen[-1], ending)
            best = torch.where(ended, chosen[-1], best)
        chosen.append(best)
        if bool(torch.isin(best, ending).all()):
            break
    return torch.stack(chosen, dim=1)


@dataclass(frozen=True)
class Choosing:
    """How a next token is chosen from its logits: the most likely one at temperature 0."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __call__(self, logits: Float[Tensor, "b v"], draws: torch.Generator) -> Int[Tensor, " b"]:
        """One token of every row."""
        if self.temperature == 0:
            return logits.argmax(-1)
        probs = self.distribution(logits).double().cpu()
        return torch.multinomial(probs, 1, generator=draws)[:, 0].to(logits.device)

    def distribution(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """What is drawn from: probabilities, 0 outside the most likely tokens of `top_p`."""
        probs = (logits.float() / self.temperature).softmax(-1)
        ranked, order = probs.sort(dim=-1, descending=True)
        # A token counts while those before it do not reach top_p, so the first always does.
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= self.top_p, 0.0)
        kept = torch.zeros_like(probs).scatter(-1, order, ranked)
        return kept / kept.sum(-1, keepdim=True)

    def faults(self) -> Iterator[str]:
        """What is wrong with these numbers."""
        if not (isinstance(self.temperature, int | float) and 0 <= self.temperature < inf):
            yield f"temperature is {self.temperature!r}, give 0 (the most likely token) or more"
        if not (isinstance(self.top_p, int | float) and 0 < self.top_p <= 1):
            yield f"top_p is {self.top_p!r}, give more than 0 and at most 1"
        yield from number_faults(("seed", self.seed, 0))


class Decoding:
    """A batch of prompts being continued, with the keys and values of all positions so far.

    Call :meth:`prompt` once, then :meth:`step` with the token of every row, chosen in any way; both
    give the logits of the next token. ``room`` is how many tokens may be added.
    """

    def __init__(
        self,
        model: Model,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        room: int,
        tap: Tap = no_tap,
    ) -> None:
        self.model = model
        self.tap = tap
        self.past: dict[Point, Tensor] = {}
        self._tokens = tokens.to(model.device)
        self._length = 0
        grown = torch.nn.functional.pad(mask.to(model.device), (0, room), value=True)
        self._frame = model.frame(grown)

    def prompt(self) -> Float[Tensor, "b v"]:
        """Run the prompts."""
        return self._run(self._tokens)

    def step(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b v"]:
        """Run one more position."""
        return self._run(tokens[:, None])

    @undisturbed
    @torch.no_grad()
    def _run(self, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b v"]:
        start, stop = self._length, self._length + tokens.shape[1]
        frame = self._frame.between(start, stop)
        kept = Record(CACHED)
        tap = chain(self.tap, kept)
        past: Past | None = self.past or None
        x = tap("input", 0, self.model.embed(tokens, frame))
        for block in self.model.blocks:
            x = run_block(block, x, frame, tap, past=past)
        for point, new in kept.values.items():
            before = self.past.get(point)
            self.past[point] = new if before is None else torch.cat([before, new], dim=1)
        self._length = stop
        return self.model.unembed(x[:, -1], tap)


def _check(model: Model, tokens: Tensor, mask: Tensor, new: int, choose: Choosing) -> None:
    """Refuse what cannot be generated, all faults at once."""
    faults = [*choose.faults(), *_faults(model, tokens, mask, new)]
    if faults:
        raise TaskError("cannot generate: " + "; ".join(faults))


def _faults(model: Model, tokens: Tensor, mask: Tensor, new: int) -> Iterator[str]:
    if new < 1:
        yield f"max_new_tokens is {new}, give at least 1"
    if tokens.ndim != 2 or tokens.shape != mask.shape or not tokens.numel():
        shapes = f"{tuple(tokens.shape)} and {tuple(mask.shape)}"
        yield f"tokens and mask have shapes {shapes}; give [b, s] both"
        return
    if not bool(mask[:, -1].all()) or bool((mask[:, :-1] & ~mask[:, 1:]).any()):
        yield "prompts are padded on the left, so mask is False first, then True to the end"
    outside = (tokens < 0) | (tokens >= model.vocabulary_size)
    if bool(outside.any()):
        given, size = int(tokens[outside][0]), model.vocabulary_size
        yield f"token id {given} is outside the vocabulary of {size}"
    longest = model.longest
    needed = int(mask.sum(1).max()) + new - 1
    if longest is not None and needed > longest:
        yield f"{needed} positions are needed and this model has {longest}"
