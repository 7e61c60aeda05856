"""The TransformerLens bridge of a model, over the model's own weights."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import nn

from tasks.errors import ModelError


def bridge_over(hf: nn.Module) -> Any:
    """The bridge of a transformers model, which stays as it is.

    Building a bridge rewires the modules it is given, so it gets copies of them that hold the same
    parameters and buffers.

    Raises:
        ModelError: TransformerLens knows no such architecture.
    """
    shared = {id(t): t for t in (*hf.parameters(), *hf.buffers())}
    twin = copy.deepcopy(hf, shared)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens.model_bridge.sources._bridge_builder import (
            build_bridge_from_module,
        )

        try:
            bridge = build_bridge_from_module(
                twin, architecture=type(twin).__name__, hf_config=twin.config, tokenizer=None
            )
        except (ValueError, KeyError, RuntimeError, AttributeError) as error:
            raise ModelError(
                f"TransformerLens has no bridge for a {type(hf).__name__} ({error}); circuits "
                f"itself needs none"
            ) from error
    # Where the bridge splits a fused q, k, v, it makes new parameters.
    twin.requires_grad_(False)
    return bridge
