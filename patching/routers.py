"""Whether the clean and the corrupted run send their tokens to the same experts.

A router's choice has no slope: an expert is chosen or it is not. What a method makes of tokens
whose choice differs is said in :attr:`patching.methods.Method.router`, and how many they are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.model import Model
from patching.runs import Batch, record
from patching.sweep import Sweep, added, sweep
from tasks.errors import ModelError, counted
from tasks.pairs import PromptPairs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Routing:
    """At how many tokens both runs of prompt pairs choose the same experts.

    Of every prompt, the tokens from the first that differs on count: before it both runs are one.

    layers      the layers that are mixtures of experts
    alike       share of tokens at which both runs choose the same experts, by layer ``[layers]``
    everywhere  share of tokens at which they do so in every layer
    tokens      how many tokens count

    >>> Routing((0, 1), np.array([0.9, 0.7]), 0.65, 40)
    Routing(both runs choose the same at 80.0% of 40 tokens and 2 layers, at 65.0% of tokens in ...)
    """

    layers: tuple[int, ...]
    alike: Float[np.ndarray, " layers"]
    everywhere: float
    tokens: int

    @property
    def share(self) -> float:
        """Share of tokens and layers at which both runs choose the same experts."""
        return float(self.alike.mean())

    def to_frame(self) -> pd.DataFrame:
        """One row per layer: the share of tokens at which both runs choose the same experts."""
        import pandas as pd

        names = pd.Index([f"m{layer}.router" for layer in self.layers], name="router")
        return pd.DataFrame({"alike": self.alike}, index=names)

    def __str__(self) -> str:
        return (
            f"both runs choose the same at {self.share:.1%} of {counted(self.tokens, 'token')} and "
            f"{counted(len(self.layers), 'layer')}, at {self.everywhere:.1%} of tokens in every "
            f"layer"
        )

    def __repr__(self) -> str:
        return f"Routing({self})"

    def _repr_html_(self) -> str:
        from patching.heat_map import HeatMap

        rows = tuple(f"layer {layer}" for layer in self.layers)
        return HeatMap(f"experts: {self}", rows, ("alike",), self.alike[:, None])._repr_html_()


@torch.no_grad()
def routing(model: Model, pairs: PromptPairs, batch_size: int | Sweep = 32) -> Routing:
    """Compare the experts that the clean and the corrupted run of every pair choose.

    Two forward passes. The order of weights does not count, only which of them are not zero.

    >>> from transformers import MixtralConfig, MixtralForCausalLM
    >>> counts = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}
    >>> widths = {"hidden_size": 32, "intermediate_size": 16, "vocab_size": model.vocabulary_size}
    >>> mixture = circuits.load_model(MixtralForCausalLM(MixtralConfig(**counts, **widths)))
    >>> circuits.routing(mixture, pairs)
    Routing(both runs choose the same at ... tokens and 3 layers, at ... of tokens in every layer)

    Raises:
        ModelError: the model has no experts.
        TaskError: tokens outside the model's vocabulary.
    """
    layers = model.anatomy.mixtures
    if not layers:
        raise ModelError("this model has no experts: its MLPs are ordinary, and nothing is routed")

    def compared(batch: Batch) -> tuple[np.ndarray, ...]:
        same = (_chosen(model, batch, "clean") == _chosen(model, batch, "corrupted")).all(-1)
        same = same[_can_differ(batch)]
        return same.sum(0).cpu().numpy(), same.all(1).sum().cpu().numpy(), np.array(len(same))

    alike, everywhere, tokens = added(sweep(model, pairs, compared, Sweep.of(batch_size)))
    return Routing(layers, alike / tokens, float(everywhere / tokens), int(tokens))


def _chosen(model: Model, batch: Batch, run: str) -> Bool[Tensor, "b s l e"]:
    """Which experts have a weight."""
    _, values = record(model, batch, run, ("router",))
    return torch.stack([values["router", layer] != 0 for layer in model.anatomy.mixtures], dim=2)


def _can_differ(batch: Batch) -> Bool[Tensor, "b s"]:
    """Tokens from the first on in which the runs of a prompt differ."""
    return batch.mask & ((batch.clean != batch.corrupted).cumsum(1) > 0)
