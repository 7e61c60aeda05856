"""How much each sublayer moves the end of the stream along the reference direction.

A dose of a sublayer's own direction is added to what it writes at the last token, and the stream
after the last layer is read along the reference direction (Wang et al. 2025, arXiv 2510.11328).
Only the last token is computed again; all earlier keys and values stay. The limit of a vanishing
dose needs one backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.directions import POINTS, Directions, Reference
from patching.capture import Prompts
from patching.forward import Record, run_block, write_mlp
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.model import Model
from patching.ops import Point
from patching.sweep import Sweep, added
from tasks.errors import MethodError

DOSES = (0.1, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Influence:
    """Change of the read-out per unit of dose, mean over prompts.

    finite    ``(s' - s) / (dose * rms)`` for each dose ``[labels, doses, points]``
    gradient  its limit for a dose of zero ``[labels, points]``
    """

    doses: tuple[float, ...]
    finite: Float[np.ndarray, "labels doses points"]
    gradient: Float[np.ndarray, "labels points"]

    @property
    def mean(self) -> Float[np.ndarray, "labels points"]:
        """The influence used for budgets: mean over doses."""
        return self.finite.mean(1)

    @property
    def disagreement(self) -> Float[np.ndarray, " labels"]:
        """Distance of the smallest dose from the limit, relative to the limit's length."""
        smallest = self.finite[:, int(np.argmin(np.abs(self.doses)))]
        apart = np.linalg.norm(smallest - self.gradient, axis=-1)
        return apart / np.linalg.norm(self.gradient, axis=-1)


def find_influence(
    model: Model,
    prompts: Prompts,
    directions: Directions,
    reference: Reference,
    doses: Sequence[float] = DOSES,
    batch_size: int | Sweep = 64,
) -> Influence:
    """Influence of every sublayer for every label on prompts that do not ask for the label.

    Sublayers' directions are turned to the side of the reference direction. A dose is in units of
    the stream's root mean square at that point. The read-out is before the final norm.

    Raises:
        MethodError: no dose, or a dose that is zero or not finite.
    """
    if not doses or not all(np.isfinite(dose) and dose != 0 for dose in doses):
        raise MethodError(f"doses are numbers other than zero, given {list(doses)}")
    signs = np.sign(np.einsum("epd,ed->ep", directions.vectors, reference.vectors))
    local = _tensor(model, directions.vectors * np.where(signs == 0, 1, signs)[..., None])
    ends, rms = _tensor(model, reference.vectors), _tensor(model, directions.rms)
    n, points = len(prompts), local.shape[1]
    options = Sweep.of(batch_size).counting(points * n, "influence of sublayers")

    def work(tokens: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
        last, changes = _LastToken.of(model, tokens, mask), []
        for point in range(points):
            sizes = _tensor(model, np.array(doses)) * rms[point]
            rows = (local[:, None, point] * sizes[None, :, None]).flatten(0, 1)
            moved = last.end_with(point, rows).unflatten(0, (len(local), len(doses)))
            change = torch.einsum("ekbd,ed->ek", moved - last.end, ends)
            changes.append((change / sizes).double().cpu())
            options.tell(len(tokens))
        slopes = torch.einsum("epd,epd->ep", _slopes(model, tokens, mask, ends), local)
        return torch.stack(changes, dim=-1).numpy(), slopes.double().cpu().numpy()

    finite, gradient = added(prompts.sweep(model, work, options, points))
    return Influence(tuple(doses), finite / n, gradient / n)


def _tensor(model: Model, values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=model.dtype, device=model.device)


@dataclass(frozen=True)
class _LastToken:
    """A run of a batch whose last token can be computed again from any read point."""

    model: Model
    values: dict[Point, Tensor]
    frame: Frame

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, tokens: Tensor, mask: Tensor) -> _LastToken:
        tap = Record((*POINTS, "k_rot", "v_read"))
        model.run(tokens, mask, tap)
        return cls(model, tap.values, model.frame(mask).rows(tokens.shape[1] - 1))

    @property
    def end(self) -> Float[Tensor, "b d"]:
        return self.values["resid_post", self.model.anatomy.n_layers - 1][:, -1]

    @undisturbed
    @torch.no_grad()
    def end_with(self, point: int, deltas: Float[Tensor, "r d"]) -> Float[Tensor, "r b d"]:
        """The end of the stream with each delta added at a point."""
        layer, count = point // 2, len(deltas)
        # In parallel blocks the MLP does not read what attention wrote.
        through = point % 2 == 0 and not self.model.anatomy.parallel
        start = self.values["resid_mid" if through else "resid_post", layer][:, -1:]
        x = (start[None] + deltas[:, None, None]).flatten(0, 1)
        if through:
            x = x + write_mlp(self.model.blocks[layer], x)
        frame = self.frame.repeat(count)
        for block in self.model.blocks[layer + 1 :]:
            past = {
                (kind, block.layer): self.values[kind, block.layer][:, :-1].repeat(count, 1, 1, 1)
                for kind in ("k_rot", "v_read")
            }
            x = run_block(block, x, frame, past=past)
        return x[:, -1].unflatten(0, (count, -1))


@undisturbed
def _slopes(
    model: Model, tokens: Tensor, mask: Tensor, ends: Float[Tensor, "e d"]
) -> Float[Tensor, "e p d"]:
    """Gradient of each read-out at every point's last token, summed over prompts."""
    tap, frame = Record(POINTS), model.frame(mask)
    layers = model.anatomy.n_layers
    with torch.enable_grad():
        x = model.embed(tokens, frame).detach().requires_grad_()
        for block in model.blocks:
            x = run_block(block, x, frame, tap)
        kinds = ("resid_post",) * 2 if model.anatomy.parallel else POINTS
        points = [tap.values[kind, layer] for layer in range(layers) for kind in kinds]
        gradients = [
            torch.autograd.grad((x[:, -1] @ end).sum(), points, retain_graph=True) for end in ends
        ]
    return torch.stack([torch.stack([g[:, -1].sum(0) for g in row]) for row in gradients])
