"""Three ways from trained numbers to masks between 0 and 1, and from them to a ranking.

budget          masks add up to a budget that every step draws anew, so that one vector serves all
                sizes (Matryoshka attribution, arXiv 2609.25518)
hard_concrete   stretched and cut-off gates at one sparsity (Edge Pruning, arXiv 2406.16778)
uniform_window  a gate is open, closed, or in a window around its probability uniformly between
                (UGS of optimal ablation, arXiv 2409.09951)

Each gives ``start`` numbers, ``masks`` for one step, perhaps a ``penalty`` on top of the loss,
numbers ``climbed`` (Lagrange multipliers), and at the end a share between 0 and 1 of every edge.
Only a ranking for all sizes is one at every step, so that a training of it may ``stop`` early.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.learned.budget import masks_of
from patching.learned.settings import Settings

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Temperature and ends of the hard-concrete distribution."""

SHARES = 65
"""Of how many budgets the final share of an edge is the mean."""

OPEN = 10.0
"""Where the numbers of hard-concrete gates begin: open."""


class Relaxation(Protocol):
    """From trained numbers to masks. ``climbed`` of them, at the end, are not masks' own."""

    @property
    def climbed(self) -> int:
        """How many."""
        ...

    @property
    def stops(self) -> bool:
        """Whether the ranking is one at every step."""
        ...

    def start(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, " m"]:
        """The numbers before the first step."""
        ...

    def masks(self, numbers: Float[Tensor, " m"], rng: np.random.Generator) -> Float[Tensor, " n"]:
        """The masks of one step."""
        ...

    def penalty(self, numbers: Float[Tensor, " m"], done: float) -> Tensor | None:
        """What is added to the loss; ``done`` says how much of the training is."""
        ...

    def shares(self, numbers: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """The ranking: the share of circuits that hold each edge, larger for a better one."""
        ...


def relaxation(settings: Settings) -> Relaxation:
    """The one that the settings name."""
    if settings.masks == "hard_concrete":
        return HardConcrete(settings.keep)
    if settings.masks == "uniform_window":
        return UniformWindow(settings.penalty)
    uniform = 1.0 if settings.budgets == "uniform" else settings.uniform
    return Budgets(settings.temperature, uniform)


@dataclass(frozen=True)
class Budgets:
    """Budgets drawn evenly over log k, or in a share ``uniform`` of steps evenly over k."""

    temperature: float
    uniform: float
    climbed: int = 0
    stops: bool = True

    def start(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, " m"]:
        """All the same."""
        del rng
        return np.zeros(n)

    def masks(self, numbers: Float[Tensor, " m"], rng: np.random.Generator) -> Float[Tensor, " n"]:
        """Those of one budget between one edge and all."""
        n = len(numbers)
        plain, drawn = rng.random(2)
        budget = 1 + drawn * (n - 1) if plain < self.uniform else exp(drawn * log(n))
        return masks_of(numbers, min(budget, n - 0.5), self.temperature)

    def penalty(self, numbers: Float[Tensor, " m"], done: float) -> Tensor | None:
        """None: the budget is met exactly."""
        del numbers, done
        return None

    def shares(self, numbers: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """The mean mask over budgets that are evenly spread over log k."""
        n = len(numbers)
        budgets = np.minimum(np.geomspace(1, n, SHARES), n - 0.5)
        every = [masks_of(numbers, float(budget), self.temperature) for budget in budgets]
        return torch.stack(every).mean(0)


@dataclass(frozen=True)
class HardConcrete:
    """Gates of which a share ``keep`` is to be open at the end of the training.

    With ``l`` the multipliers, which ascend, and ``d`` the expected share of gates that are not
    shut, the penalty is ``l1 (d - t) + l2 (d - t)^2``; the target ``t`` goes from 1 to ``keep``.
    """

    keep: float
    climbed: int = 2
    stops: bool = False

    def start(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, " m"]:
        """All open, with a little noise, and multipliers of 0."""
        return np.concatenate([rng.normal(OPEN, 0.01, n), np.zeros(2)])

    def masks(self, numbers: Float[Tensor, " m"], rng: np.random.Generator) -> Float[Tensor, " n"]:
        """A draw of every gate."""
        drawn = torch.as_tensor(rng.uniform(1e-6, 1 - 1e-6, len(numbers) - 2)).to(numbers)
        gates = torch.sigmoid((torch.logit(drawn) + numbers[:-2]) / BETA)
        return (gates * (HIGH - LOW) + LOW).clamp(0, 1)

    def penalty(self, numbers: Float[Tensor, " m"], done: float) -> Tensor | None:
        """The Lagrangian; the target is reached after nine tenths of the training."""
        target = 1 - (1 - self.keep) * min(1.0, done / 0.9)
        over = self.shares(numbers).mean() - target
        return numbers[-2] * over + numbers[-1] * over**2

    def shares(self, numbers: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """The chance that a gate is not shut."""
        return torch.sigmoid(numbers[:-2] - BETA * log(-LOW / HIGH))


@dataclass(frozen=True)
class UniformWindow:
    """Gates that are open with chance ``alpha = sigmoid(theta)``; each costs ``penalty`` times it.

    With ``w = alpha (1 - alpha)`` and ``u`` uniform, ``m = clamp((alpha - u) / w + 1/2, 0, 1)``:
    within a window of width ``w``, which has chance ``w``, the gradient at ``alpha`` is ``1 / w``.
    """

    cost: float
    climbed: int = 0
    stops: bool = False

    def start(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, " m"]:
        """All likely open."""
        del rng
        return np.full(n, 1.0)

    def masks(self, numbers: Float[Tensor, " m"], rng: np.random.Generator) -> Float[Tensor, " n"]:
        """A draw of every gate."""
        chance = torch.sigmoid(numbers)
        width = (chance * (1 - chance)).detach().clamp_min(1e-9)
        drawn = torch.as_tensor(rng.random(len(numbers))).to(numbers)
        return ((chance - drawn) / width + 0.5).clamp(0, 1)

    def penalty(self, numbers: Float[Tensor, " m"], done: float) -> Tensor | None:
        """The cost of every open gate."""
        del done
        return self.cost * torch.sigmoid(numbers).sum()

    def shares(self, numbers: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """The chance that a gate is open."""
        return torch.sigmoid(numbers)
