"""Ministral 3: Llama whose queries grow with the logarithm of their position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patching.families.description import Family
from patching.families.windows import every_layer


def ministral3(config: Any) -> Family:
    """Queries are multiplied by ``1 + beta log(1 + floor(position / trained length))``."""
    beta = config.rope_parameters.get("llama_4_scaling_beta")
    trained = config.rope_parameters.get("original_max_position_embeddings")

    def query_scale(hf: Any) -> Callable[[Tensor], Tensor]:
        def scale(positions: Tensor) -> Tensor:
            return 1 + beta * torch.log(1 + torch.floor(positions / trained))

        return scale

    return Family(window=every_layer, query_scale=query_scale if beta else None)


FAMILIES = {"ministral3": ministral3}
