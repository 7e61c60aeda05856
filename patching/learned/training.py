"""The training loop: a batch, a draw of masks, one masked run, one step of Adam.

Part of the pairs is held out. On these, circuits of several sizes are run as they would be used,
with their edges kept or not; when their mean loss no longer falls the training stops, and the
numbers with the lowest one are its result. What is checked and given is the mean of the numbers
over the last steps: Adam moves every number by about the learning rate, also where its slope is
noise, so the numbers themselves walk at random around their mean.

Every draw is made from the seed and the number of the step, and each stretch of steps is a shard of
the journal: a training that was killed goes on from its last stretch and ends with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.learned.edges_run import EdgesRun
from patching.learned.inputs import Inputs, Prepared
from patching.learned.losses import Loss
from patching.learned.nodes_run import NodesRun
from patching.learned.relaxations import Relaxation, relaxation
from patching.learned.settings import Settings
from patching.processes import each
from patching.sweep import Sweep, shards

Run = EdgesRun | NodesRun
State = tuple[np.ndarray, ...]

CHECKS, PATIENCE = 12, 3
"""Into how many stretches the steps are divided, with a check after each, and after how many checks
without a lower loss the training stops; never in its first half."""

MEMORY = 0.08
"""Over about what share of all steps the numbers are averaged."""

SIZES = 6
"""How many sizes of circuit are run at a check, evenly spread over the logarithm."""

HELD_OUT, FEWEST, MOST = 0.2, 8, 16
"""The share of pairs that are held out: none of fewer pairs than ``FEWEST``, at most ``MOST``."""

STACK_BYTES = 2**30
"""How large the stack of what all senders write may be; a larger batch is taken in parts."""

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8
"""Decay of Adam's two moments, and what keeps it from dividing by zero."""


@dataclass(frozen=True)
class Trained:
    """What a training found.

    shares     of every candidate: the share of circuits that hold it
    steps      how many steps were done
    losses     the loss on held-out pairs at every check; empty where none were held out
    learned_on, held_out   numbers of the pairs of either kind
    """

    shares: Float[np.ndarray, " n"]
    steps: int
    losses: tuple[float, ...]
    learned_on: Int[np.ndarray, " a"]
    held_out: Int[np.ndarray, " b"]


def split(prompts: Int[np.ndarray, " n"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn on and rows held out; rows of one prompt stay together."""
    names = np.unique(prompts)
    count = 0 if len(names) < FEWEST else min(MOST, round(HELD_OUT * len(names)))
    drawn = np.random.default_rng([seed, 0]).permutation(names)[:count]
    out = np.isin(prompts, drawn)
    return np.flatnonzero(~out), np.flatnonzero(out)


@dataclass(frozen=True)
class Training:
    """One training: pairs, where masks go, and the settings.

    ``chosen`` says which edges or nodes are trained; the others stay out.
    """

    prepared: Prepared
    loss: Loss
    chosen: Bool[np.ndarray, " all"]
    settings: Settings
    learned_on: Int[np.ndarray, " a"]
    held_out: Int[np.ndarray, " b"]
    edges: bool = True

    def carried_out(self, options: Sweep) -> Trained:
        """Train until the loss on held-out pairs no longer falls, or all steps are done."""
        settings, count = self.settings, int(self.chosen.sum())
        relaxed = relaxation(settings)
        start = relaxed.start(count, np.random.default_rng([settings.seed, 1]))
        state: State = (start, start, np.zeros_like(start), np.zeros_like(start), np.zeros(2))
        best, losses, done, lowest = start, list[float](), 0, 0
        size = max(1, -(-settings.steps // CHECKS))

        def stretch(steps: slice) -> State:
            return self._stretch(relaxed, state, steps, options)

        plain = Sweep(size, journal=options.journal)
        for state in shards(settings.steps, stretch, plain, about=self._about(), chained=True):
            done = min(done + size, settings.steps)
            losses.append(float(state[-1][1]))
            late = 2 * done >= settings.steps
            if not late or losses[-1] <= losses[lowest] or not relaxed.stops:
                best, lowest = state[1], len(losses) - 1
            elif len(self.held_out) and len(losses) - 1 - lowest >= PATIENCE:
                break
        shares = relaxed.shares(torch.as_tensor(best)).numpy()
        told = tuple(losses) if len(self.held_out) else ()
        return Trained(shares, done, told, self.learned_on, self.held_out)

    def _about(self) -> str:
        model, pairs = self.prepared.model, self.prepared.pairs
        digest = self.chosen.tobytes().hex()[:64], int(self.chosen.sum()), self.edges
        return f"learned {model.hash} {model.device} {pairs.digest} {self.settings} {digest}"

    def _stretch(self, relaxed: Relaxation, state: State, steps: slice, options: Sweep) -> State:
        """Some steps on from a state: numbers, their mean, Adam's moments, and the two losses."""
        numbers, mean, first, second, (_, held) = state
        total, losses = self.settings.steps, []
        share = min(1.0, 1 / (MEMORY * total))
        for step in range(steps.start, steps.stop):
            if options.progress is not None:
                told = "" if not step or not len(self.held_out) else f": held-out loss {held:.4g}"
                options.progress(step, total, f"learning{told}")
            loss, slopes = self._step(relaxed, torch.as_tensor(numbers), step)
            losses.append(loss)
            first = FIRST * first + (1 - FIRST) * slopes
            second = SECOND * second + (1 - SECOND) * slopes**2
            size = np.sqrt(second / (1 - SECOND ** (step + 1))) + TINY
            rate = self.settings.rate * (1 + cos(pi * step / total)) / 2
            numbers = numbers - rate * first / (1 - FIRST ** (step + 1)) / size
            mean = mean + share * (numbers - mean)
        both = np.array([np.mean(losses), self._check(relaxed, mean)])
        return numbers, mean, first, second, both

    def _step(
        self, relaxed: Relaxation, numbers: Tensor, step: int
    ) -> tuple[float, Float[np.ndarray, " m"]]:
        """The loss of one draw, and its slope at every number; up the slope of multipliers."""
        rng = np.random.default_rng([self.settings.seed, 2, step])
        keep = bool(rng.random() >= self.settings.coin)
        leaf = numbers.clone().requires_grad_()
        with torch.enable_grad():
            masks = relaxed.masks(leaf, rng)
            penalty = relaxed.penalty(leaf, step / self.settings.steps)
        loss, slopes = self._gradient(masks.detach(), keep, self._rows(step))
        with torch.enable_grad():
            total = (masks * slopes).sum() + (0.0 if penalty is None else penalty)
        (found,) = torch.autograd.grad(total, [leaf])
        slopes_down = found.numpy().copy()
        if relaxed.climbed:
            slopes_down[-relaxed.climbed :] *= -1
        return loss, slopes_down

    def _gradient(
        self, masks: Float[Tensor, " n"], keep: bool, rows: Int[np.ndarray, " r"]
    ) -> tuple[float, Float[Tensor, " n"]]:
        """Mean loss over some pairs and its slopes at the masks, part by part where many."""

        def of_part(some: Int[np.ndarray, " p"]) -> tuple[float, Tensor]:
            inputs = self.prepared.at(some)
            put = self._put(masks, keep)
            loss, found = self._run(inputs).gradient(put, self.loss.mean(inputs, keep))
            kept = found[torch.as_tensor(self.chosen)].to(masks)
            return float(loss), kept if keep else -kept

        total, slopes, parts = 0.0, torch.zeros_like(masks), self._parts(rows)
        for some, (loss, found) in zip(parts, each(parts, of_part, "slopes"), strict=True):
            weight = len(some) / len(rows)
            total += weight * loss
            slopes += weight * found
        return total, slopes

    def _put(self, masks: Float[Tensor, " n"], keep: bool) -> Float[Tensor, " all"]:
        """Masks of all edges or nodes: those not trained are out of the set that is drawn."""
        every = torch.zeros(len(self.chosen), dtype=masks.dtype)
        every[torch.as_tensor(self.chosen)] = masks
        every = every if keep else 1 - every
        return every.to(self.prepared.model.device)

    def _run(self, inputs: Inputs) -> Run:
        kind: Callable[..., Run] = EdgesRun if self.edges else NodesRun
        return kind(self.prepared.model, self.prepared.layout, inputs)

    def _parts(self, rows: Int[np.ndarray, " r"]) -> list[np.ndarray]:
        """Rows in parts whose stacks fit."""
        length = self.prepared.pairs.clean.shape[1] - self.prepared.first
        model = self.prepared.model
        pair = self.prepared.layout.n_senders * length * model.anatomy.d_model * 8
        size = max(1, STACK_BYTES // pair) if self.edges else len(rows)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _rows(self, step: int) -> Int[np.ndarray, " r"]:
        """The pairs of a step: all in a random order, again and again."""
        n, batch = len(self.learned_on), min(self.settings.batch, len(self.learned_on))
        per_round = n // batch
        epoch, place = divmod(step, per_round)
        order = np.random.default_rng([self.settings.seed, 3, epoch]).permutation(n)
        return self.learned_on[order[place * batch : (place + 1) * batch]]

    def _check(self, relaxed: Relaxation, numbers: Float[np.ndarray, " m"]) -> float:
        """Mean loss of circuits of several sizes on the held-out pairs; 0 where there are none."""
        if not len(self.held_out):
            return 0.0
        order = np.argsort(-relaxed.shares(torch.as_tensor(numbers)).numpy(), kind="stable")
        sizes = np.unique(np.geomspace(1, len(order), SIZES + 1).round().astype(int))[:-1]
        circuits = [order[:size] for size in sizes]
        return float(np.mean(each(circuits, self.held_out_loss, "held-out losses")))

    def held_out_loss(self, kept: Int[np.ndarray, " k"]) -> float:
        """Mean loss of one circuit, some of the candidates, on the held-out pairs."""
        masks = torch.zeros(int(self.chosen.sum()), dtype=torch.float64)
        masks[torch.as_tensor(kept.copy())] = 1.0
        losses = []
        with torch.no_grad():
            for some in self._parts(self.held_out):
                inputs = self.prepared.at(some)
                logits = self._run(inputs).logits(self._put(masks, keep=True))
                losses += self.loss(logits, inputs, True).double().tolist()
        return float(np.mean(losses))


def with_scale(loss: Loss, full: Float[Tensor, " n"], empty: Float[Tensor, " n"]) -> Loss:
    """The loss in units of the mean difference that the two runs make."""
    return replace(loss, scale=float((full - empty).abs().double().mean()))
