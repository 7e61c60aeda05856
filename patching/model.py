"""A model opened for circuit work.

The TransformerLens bridge gives every family's modules the same names; :class:`Model` takes its
blocks apart once (:mod:`patching.blocks`) and computes with those parts. At opening the
result is compared with the bridge's own forward pass, so a family that computes anything else
than what these parts say is refused rather than silently approximated.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from patching.anatomy import Anatomy
from patching.blocks import Block, take_apart
from patching.forward import Tap, no_tap, run_block
from patching.frame import Frame, make_frame
from patching.loading import bridge_of, check_device, digest, load_tokenizer, load_weights
from patching.norms import Norm, find_norm, rounding
from patching.ops import PLAIN, Ops
from tasks.errors import ModelError


class Model:
    """A decoder-only transformer taken apart into heads, MLPs and the residual stream.

    Attributes:
        anatomy: layer and head counts, widths.
        tokenizer: the model's tokenizer, or None.
        path: the directory or hub id it was opened from; ``"in memory"`` otherwise.
        hash: SHA-256 over configuration and weights.
        bridge: the TransformerLens bridge, for hooks, generation and everything else it offers.
    """

    def __init__(
        self, bridge: Any, *, tokenizer: Any = None, path: str = "in memory", digest: str = ""
    ) -> None:
        self.bridge = bridge
        self.tokenizer = tokenizer
        self.path = path
        self.hash = digest
        self.anatomy = _anatomy(bridge)
        self.blocks: tuple[Block, ...] = tuple(
            take_apart(block, layer, self.anatomy) for layer, block in enumerate(bridge.blocks)
        )
        self.final_norm: Norm = find_norm(bridge.ln_final.original_component, self.anatomy.d_model)
        self._embed: nn.Module = bridge.embed.original_component
        position = getattr(bridge, "pos_embed", None)
        self._pos_embed: nn.Module | None = position and position.original_component
        rotary = getattr(bridge, "rotary_emb", None)
        self._rotary: nn.Module | None = rotary and rotary.original_component
        self._unembed: nn.Module = bridge.unembed.original_component
        cap = getattr(bridge.original_model.config, "final_logit_softcapping", None)
        self._logit_cap: float | None = cap

    @classmethod
    def open(
        cls,
        source: str | Path | nn.Module,
        *,
        tokenizer: Any = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Model:
        """Open a Hugging Face id or directory, or a transformers model in memory.

        A model in memory is copied first: building a bridge rewires it. ``device`` is where to
        compute, such as ``cuda``; without it a model in memory stays where it is, and one that is
        loaded is on the CPU. ``dtype`` is the number type to compute in; without it a model in
        memory keeps its own, and one that is loaded is float32 whatever its files hold.

        Raises:
            ModelError: it cannot be found offline, or cannot be taken apart, or torch does not see
                the device.
        """
        place = None if device is None else check_device(device)
        if isinstance(source, nn.Module):
            if not hasattr(source, "config"):
                raise ModelError(f"a {type(source).__name__} is not a transformers model")
            hf, path = copy.deepcopy(source), "in memory"
            hf = hf if dtype is None else hf.to(dtype)
        else:
            path = str(source)
            hf = load_weights(path, dtype or torch.float32)
            tokenizer = tokenizer or load_tokenizer(path)
        hf = (hf if place is None else hf.to(place)).eval().requires_grad_(False)
        found = digest(hf)
        bridge = bridge_of(hf)
        # Where the bridge splits a fused q, k, v, it makes new parameters.
        hf.requires_grad_(False)
        try:
            model = cls(bridge, tokenizer=tokenizer, path=path, digest=found)
            _check_forward(model)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, TypeError, KeyError, IndexError, RuntimeError) as error:
            raise ModelError(
                f"a {type(hf).__name__} cannot be taken apart into layers of attention heads and "
                f"one MLP: {error}"
            ) from error
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._embed.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the residual stream."""
        return next(self._embed.parameters()).dtype

    @property
    def vocabulary_size(self) -> int:
        """How many logits the model gives."""
        return int(self._unembed.weight.shape[0])  # type: ignore[index]

    def frame(self, mask: Bool[Tensor, "b s"]) -> Frame:
        """Positions and causal mask of a left-padded batch."""
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return make_frame(mask, self._rotary, like)

    def embed(self, tokens: Int[Tensor, "b s"], frame: Frame) -> Float[Tensor, "b s d"]:
        """The residual stream that enters the first block."""
        x: Tensor = self._embed(tokens)
        return x if self._pos_embed is None else x + self._pos_embed(frame.positions)

    def unembed(
        self, x: Float[Tensor, "b d"], tap: Tap = no_tap, ops: Ops = PLAIN
    ) -> Float[Tensor, "b v"]:
        """Logits from the final residual stream, at one position."""
        last = self.anatomy.n_layers
        x = tap("final_in", last, x)
        logits: Tensor = self._unembed(ops.norm(self.final_norm, x, ("final_in", last)))
        if self._logit_cap is not None:
            logits = tap("logits_raw", last, logits)
            logits = ops.softcap(logits, self._logit_cap, ("logits_raw", last))
        return tap("logits", last, logits)

    def run(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        tap: Tap = no_tap,
        ops: Ops = PLAIN,
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position of every prompt, with a tap at every named point."""
        frame = self.frame(mask)
        return self.run_from(0, tap("input", 0, self.embed(tokens, frame)), frame, tap, ops)

    def run_from(
        self,
        layer: int,
        x: Float[Tensor, "b s d"],
        frame: Frame,
        tap: Tap = no_tap,
        ops: Ops = PLAIN,
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position, from the residual stream that enters block ``layer``."""
        for block in self.blocks[layer:]:
            x = run_block(block, x, frame, tap, ops)
        return self.unembed(x[:, -1], tap, ops)

    def __repr__(self) -> str:
        a = self.anatomy
        kv = "" if a.n_kv_heads == a.n_heads else f" on {a.n_kv_heads} key/value heads"
        return (
            f"Model({self.path}: {a.family}, {a.n_layers} layers, {a.n_heads} heads{kv}, "
            f"d_model {a.d_model})"
        )


def _anatomy(bridge: Any) -> Anatomy:
    cfg, hf = bridge.cfg, bridge.original_model.config
    block = bridge.blocks[0]
    parallel = bool(getattr(cfg, "parallel_attn_mlp", False))
    hf_block = block.original_component
    parallel = bool(getattr(hf_block, "use_parallel_residual", parallel))
    down = getattr(getattr(block, "mlp", None), "submodules", {}).get("out")
    d_mlp = int(cfg.d_mlp or 0)
    if down is not None:
        weight = down.original_component.weight
        kind = type(down.original_component).__name__
        d_mlp = int(weight.shape[0] if kind == "Conv1D" else weight.shape[1])
    return Anatomy(
        n_layers=int(cfg.n_layers),
        n_heads=int(cfg.n_heads),
        n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or cfg.n_heads),
        d_model=int(cfg.d_model),
        d_head=int(cfg.d_head),
        d_mlp=d_mlp,
        parallel=parallel,
        family=str(hf.model_type),
    )


def _check_forward(model: Model) -> None:
    """Compare with the bridge's own forward pass, prompt by prompt and without padding.

    Raises:
        ModelError: the logits differ by more than rounding.
    """
    config = model.bridge.original_model.config
    longest = int(getattr(config, "max_position_embeddings", None) or 12)
    length = min(12, longest)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocabulary_size, (2, length), generator=generator)
    tokens = tokens.to(model.device)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    pad = min(3, length - 1)
    mask[1, :pad] = False
    with torch.no_grad():
        ours = model.run(tokens, mask).float()
        theirs = [model.bridge(row[None])[0, -1].float() for row in (tokens[0], tokens[1, pad:])]
    reference = torch.stack(theirs)
    worst = float((ours - reference).abs().max())
    allowed = rounding(model.dtype) * float(reference.abs().max() + 1)
    if not worst <= allowed:
        raise ModelError(
            f"{model.anatomy.family}: taken apart, the model gives logits that differ by "
            f"{worst:.2g} from its own forward pass, so it computes something circuits does not "
            f"know; it is refused rather than analysed wrongly"
        )
