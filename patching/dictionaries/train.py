"""Training a TopK dictionary on activations that have been collected.

1. ``x`` and ``y`` are scaled by one number each, so that their mean length is sqrt(width).
2. Start: ``b_in`` and ``b_dec`` are means, rows of ``W_dec`` are random unit vectors, ``W_enc`` is
   their transpose; ``W_skip``, where there is one, is zero.
3. A step draws tokens, and minimises

       |y - y^|^2 / variance(y) + |e - e^|^2 / variance(y) / 32

   where ``e^`` rebuilds the step's error (held fixed) from the strongest ``d/2`` of those latents
   that have been silent for 50,000 tokens (Gao et al. 2024).
4. Adam; the rate warms up over 100 steps and falls to zero over the last 30 %. Of the decoder's
   gradient the part along each row is dropped, and rows are kept at length 1.
5. At the end the two scales are folded in; rows of ``W_dec`` have length 1, amounts are in units of
   the activations.

Every step draws from a generator made of the seed and the step, so a run goes on bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.tensors import TensorFileError, read_header, read_tensors
from tasks.atomic import write_atomically
from tasks.errors import MethodError, RunError, all_faults, number_faults, unknown

KINDS = ("sae", "transcoder", "skip-transcoder")
WARM_UP, FALLS_FROM = 100, 0.7
DEAD_AFTER = 50_000
AUX = 1 / 32
PARTS = ("W_enc", "b_enc", "W_dec", "b_dec", "skip")
CHECKPOINT_EVERY = 500
FIELD = "training"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a dictionary is trained.

    kind     ``sae``, ``transcoder`` or ``skip-transcoder``
    latents  how many directions
    k        how many of them each token has
    steps    of ``batch`` tokens each
    rate     Adam's largest learning rate; 3e-4 is right from a width of about 500 on
    """

    kind: str = "sae"
    latents: int = 1024
    k: int = 16
    steps: int = 5000
    batch: int = 1024
    rate: float = 1e-3
    seed: int = 0

    def check(self) -> None:
        """Refuse settings that cannot be meant.

        Raises:
            MethodError: naming all of them.
        """
        faults = number_faults(
            ("latents", self.latents, 1),
            ("k", self.k, 1),
            ("steps", self.steps, 1),
            ("batch", self.batch, 1),
            ("seed", self.seed, 0),
        )
        if self.kind not in KINDS:
            faults.append(unknown("kind of dictionary", self.kind, KINDS))
        if not faults and self.k > self.latents:
            faults.append(f"k is {self.k}, and there are only {self.latents} latents")
        if not 0 < self.rate < 1:
            faults.append(f"the learning rate is {self.rate}; it lies between 0 and 1")
        if faults:
            raise MethodError(all_faults("a dictionary cannot be trained so:", faults))

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        rising = min(1.0, (step + 1) / WARM_UP)
        falling = min(1.0, (self.steps - step) / max(1.0, self.steps * (1 - FALLS_FROM)))
        return self.rate * rising * falling


@dataclass
class Training:
    """A run between two steps; ``step`` is the next one. Nothing here is scaled back yet."""

    recipe: Recipe
    x: Float[Tensor, "n d_in"]
    y: Float[Tensor, "n d_out"]
    scales: tuple[float, float]
    b_in: Float[Tensor, " d_in"]
    weights: dict[str, Tensor]
    silent: Float[Tensor, " m"]
    optimizer: torch.optim.Adam
    step: int = 0

    @classmethod
    def start(cls, recipe: Recipe, x: Tensor, y: Tensor | None = None) -> Training:
        """The run before its first step. Without ``y`` an autoencoder of ``x``.

        Raises:
            MethodError: settings that cannot be meant, fewer tokens than a step draws, or values
                that do not differ.
        """
        recipe.check()
        same, y = y is None, x if y is None else y
        if len(x) < recipe.batch:
            raise MethodError(
                f"{len(x):,} tokens were collected, and a step draws {recipe.batch:,}; collect more"
            )
        scales = tuple(v.shape[1] ** 0.5 / float(v.norm(dim=1).mean()) for v in (x, y))
        if not all(0 < scale < float("inf") for scale in scales):
            raise MethodError("the activations are all zero, so there is nothing to take apart")
        x = x * scales[0]
        y = x if same else y * scales[1]
        generator = torch.Generator().manual_seed(recipe.seed)
        rows = torch.randn(recipe.latents, y.shape[1], generator=generator)
        rows = rows / rows.norm(dim=1, keepdim=True)
        if same:
            columns = rows.T.contiguous()
        else:
            columns = torch.randn(x.shape[1], recipe.latents, generator=generator)
            columns = columns / columns.norm(dim=0)
        weights = {
            "W_enc": columns,
            "b_enc": torch.zeros(recipe.latents),
            "W_dec": rows,
            "b_dec": y.mean(0),
        }
        if recipe.kind == "skip-transcoder":
            weights["skip"] = torch.zeros(y.shape[1], x.shape[1])
        for each in weights.values():
            each.requires_grad_()
        optimizer = torch.optim.Adam(list(weights.values()), lr=recipe.rate, betas=(0.9, 0.999))
        silent = torch.zeros(recipe.latents)
        return cls(recipe, x, y, scales, x.mean(0), weights, silent, optimizer)

    def advance(self) -> dict[str, float]:
        """Take one step; the share of the variance that is explained, and how many are dead."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        rows = torch.randint(len(self.x), (self.recipe.batch,), generator=generator)
        x, y = self.x[rows], self.y[rows]
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        variance = (y - y.mean(0)).square().sum(1).mean()
        pre = (x - self.b_in) @ self.weights["W_enc"] + self.weights["b_enc"]
        best = pre.topk(self.recipe.k, dim=1)
        made = self._decode(best.indices, best.values.relu()) + self.weights["b_dec"]
        if "skip" in self.weights:
            made = made + x @ self.weights["skip"].T
        error = y - made
        loss = error.square().sum(1).mean() / variance
        dead = self.silent >= DEAD_AFTER
        total = loss + AUX * self._revive(pre, error.detach(), dead, variance)
        total.backward()
        self._turn()
        self.optimizer.step()
        with torch.no_grad():
            self.weights["W_dec"].div_(self.weights["W_dec"].norm(dim=1, keepdim=True))
        self.silent += self.recipe.batch
        self.silent[best.indices[best.values > 0]] = 0
        self.step += 1
        return {"explained": 1 - loss.item(), "dead": float(dead.sum())}

    def _decode(self, indices: Tensor, values: Tensor) -> Tensor:
        return torch.nn.functional.embedding_bag(
            indices, self.weights["W_dec"], per_sample_weights=values, mode="sum"
        )

    def _revive(self, pre: Tensor, error: Tensor, dead: Tensor, variance: Tensor) -> Tensor:
        """The loss by which silent latents learn to rebuild what the others leave over."""
        count = min(int(dead.sum()), error.shape[1] // 2)
        if not count:
            return pre.new_zeros(())
        best = pre.masked_fill(~dead, float("-inf")).topk(count, dim=1)
        left = error - self._decode(best.indices, best.values.relu())
        return left.square().sum(1).mean() / variance

    def _turn(self) -> None:
        """Drop what would only make the decoder's rows longer or shorter."""
        rows, gradient = self.weights["W_dec"], self.weights["W_dec"].grad
        assert gradient is not None
        with torch.no_grad():
            gradient.sub_((gradient * rows).sum(1, keepdim=True) * rows)

    def dictionary(self, reads: Place, writes: Place, **origin: Any) -> Dictionary:
        """What has been learned, in units of the activations."""
        a, b = self.scales
        w = {name: value.detach() for name, value in self.weights.items()}
        # y^ = f W_dec / b with f = act(a (x - b_in / a) W_enc + b_enc): amounts take the 1/b.
        skip = w["skip"] * a / b if "skip" in w else None
        return Dictionary(
            reads=reads,
            writes=writes,
            activation="topk",
            W_enc=w["W_enc"] * a / b,
            b_enc=w["b_enc"] / b,
            W_dec=w["W_dec"],
            b_dec=w["b_dec"] / b,
            b_in=self.b_in / a,
            k=self.recipe.k,
            skip=skip,
            origin=origin,
        )

    def save(self, path: Path, about: str) -> None:
        """Write what :meth:`load` needs; ``about`` says of which activations it is."""
        from safetensors.torch import save

        state = self.optimizer.state_dict()["state"]
        arrays = {name: value.detach() for name, value in self.weights.items()}
        for number, name in enumerate(self.weights):
            for moment in ("exp_avg", "exp_avg_sq"):
                arrays[f"{name}.{moment}"] = state[number][moment]
        arrays["silent"] = self.silent
        told = {"recipe": asdict(self.recipe), "step": self.step, "about": about}
        arrays = {name: value.contiguous() for name, value in arrays.items()}
        write_atomically(path, save(arrays, {FIELD: json.dumps(told)}))

    def load(self, path: Path, about: str) -> None:
        """Go on from a checkpoint of the same recipe and activations.

        Raises:
            RunError: it is of others, or cannot be read.
        """
        try:
            told = json.loads(read_header(path).texts[FIELD])
            if told["recipe"] != asdict(self.recipe) or told["about"] != about:
                raise RunError(f"{path} is of another training; choose another --out, or delete it")
            arrays = read_tensors(path, "pt", "a checkpoint")
            groups = self.optimizer.state_dict()["param_groups"]
            state = {}
            for number, name in enumerate(self.weights):
                self.weights[name].data.copy_(arrays[name])
                moments = {m: arrays[f"{name}.{m}"] for m in ("exp_avg", "exp_avg_sq")}
                state[number] = {"step": torch.tensor(float(told["step"])), **moments}
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            self.silent.copy_(arrays["silent"])
            self.step = int(told["step"])
        except (TensorFileError, KeyError, ValueError, TypeError) as error:
            raise RunError(f"{path} is no checkpoint of a training: {error}") from None


def train(
    training: Training,
    checkpoint: Path | None = None,
    about: str = "",
    tell: Callable[[int, int, str], None] | None = None,
) -> Training:
    """Run to the last step, leaving a checkpoint every 500 steps."""
    recipe = training.recipe
    while training.step < recipe.steps:
        told = training.advance()
        if tell is not None:
            what = f"training, {told['explained']:.3f} explained, {told['dead']:.0f} dead"
            tell(training.step, recipe.steps, what)
        if checkpoint is not None and training.step % CHECKPOINT_EVERY == 0:
            training.save(checkpoint, about)
    return training
