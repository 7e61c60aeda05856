"""Whether a model taken apart computes what the model itself computes.

The comparison is made in float32, whatever number type the model is opened in: half precision
rounds so coarsely that a misreading would pass for rounding. Layers are widened one at a time, so
that the whole model never has to fit in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from patching.forward import run_block
from tasks.errors import ModelError

if TYPE_CHECKING:
    from patching.model import Model

LENGTH = 40
"""How many tokens the two are compared on, where the model has as many positions."""

ALLOWED = 1e-4
"""The largest difference of logits, as a share of the largest logit plus one."""

HALVES = (torch.float16, torch.bfloat16)


def check_numbers(hf: Any) -> None:
    """Refuse weights that are no numbers.

    Raises:
        ModelError: naming the first weight that holds NaN or infinity.
    """
    for name, weight in hf.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            bad = int((~torch.isfinite(weight)).sum())
            raise ModelError(
                f"the weight {name} holds {bad} values that are NaN or infinite; the file is "
                f"broken, or was converted to a number type that is too narrow"
            )


@torch.no_grad()
def check_forward(model: Model) -> None:
    """Compare with the model's own forward pass, prompt by prompt and without padding.

    Raises:
        ModelError: the logits differ by more than rounding in float32, or the model's own number
            type overflows.
    """
    tokens, mask, pad = _probe(model)
    with _in_float32(model), _right_attention(model):
        ours = _run(model, tokens, mask)
        theirs = [_own_logits(model, row) for row in (tokens[0], tokens[1, pad:])]
    reference = torch.stack(theirs)
    worst = float((ours - reference).abs().max())
    allowed = ALLOWED * float(reference.abs().max() + 1)
    if not worst <= allowed:
        raise ModelError(
            f"{model.anatomy.family}: taken apart, the model gives logits that differ by "
            f"{worst:.2g} from its own forward pass, so it computes something circuits does not "
            f"know; it is refused rather than analysed wrongly"
        )
    if model.dtype in HALVES and not bool(torch.isfinite(model.run(tokens, mask)).all()):
        raise ModelError(
            f"the model's values grow beyond what {str(model.dtype).removeprefix('torch.')} can "
            f"hold; open it in bfloat16 or float32"
        )


def _probe(model: Model) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b s"], int]:
    """Two prompts of random tokens, of which the second is padded on the left."""
    length = min(LENGTH, model.longest or LENGTH)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocabulary_size, (2, length), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    pad = min(3, length - 1)
    mask[1, :pad] = False
    return tokens.to(model.device), mask.to(model.device), pad


def _own_logits(model: Model, row: Int[Tensor, " s"]) -> Float[Tensor, " v"]:
    logits: Tensor = model.hf(row[None], use_cache=False).logits[0, -1]
    return logits.float()


def _run(
    model: Model, tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
) -> Float[Tensor, "b v"]:
    """The taken-apart model's logits, with each layer widened while it computes."""
    frame = model.frame(mask)
    x = model.embed(tokens, frame)
    for block, layer in zip(model.blocks, model.parts.layers, strict=True):
        with _wide(layer):
            x = run_block(block, x, frame)
    return model.unembed(x[:, -1]).float()


@contextmanager
def _right_attention(model: Model) -> Iterator[None]:
    """The model's own forward pass with an attention that computes what the family means.

    Experts are computed by the plain loop, since the faster ways take no float64.
    """
    config, names = model.hf.config, ("_attn_implementation", "_experts_implementation")
    kept = {name: getattr(config, name, None) for name in names}
    config._attn_implementation = model.parts.right_attention or kept["_attn_implementation"]
    config._experts_implementation = "eager"
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(config, name, value)


@contextmanager
def _in_float32(model: Model) -> Iterator[None]:
    """All of a half-precision model but its layers in float32; each layer while it is called."""
    if model.dtype not in HALVES:
        yield
        return
    narrow, inside = model.dtype, {id(p) for la in model.parts.layers for p in la.parameters()}
    outside = [p for p in model.hf.parameters() if id(p) not in inside]
    with ExitStack() as stack:
        for weight in outside:
            weight.data = weight.data.float()
        try:
            for layer in model.parts.layers:
                stack.enter_context(_widened_when_called(layer, narrow))
            yield
        finally:
            for weight in outside:
                weight.data = weight.data.to(narrow)


@contextmanager
def _widened_when_called(layer: nn.Module, narrow: torch.dtype) -> Iterator[None]:
    def widen(*_: Any) -> None:
        _convert(layer, torch.float32)

    def narrowed(*_: Any) -> None:
        _convert(layer, narrow)

    before = layer.register_forward_pre_hook(widen)
    after = layer.register_forward_hook(narrowed, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def _wide(layer: nn.Module) -> Iterator[None]:
    types = {weight.dtype for weight in layer.parameters()}
    if not types & set(HALVES):
        yield
        return
    (kept,) = types & set(HALVES)
    _convert(layer, torch.float32)
    try:
        yield
    finally:
        _convert(layer, kept)


def _convert(layer: nn.Module, dtype: torch.dtype) -> None:
    """The layer's weights in another number type; every half is a float32 number as well."""
    for weight in layer.parameters():
        weight.data = weight.data.to(dtype)
