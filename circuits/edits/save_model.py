"""Saving an edited model as a Hugging Face directory that transformers opens without circuits.

A bridged model cannot save itself, because its modules are wrapped in place. So a pristine twin is
loaded from where the model came from, takes over the edited matrices, and is saved. What was
written is opened again and must give the logits of the live edit; otherwise nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from circuits.edits.check import is_weight_edit
from circuits.edits.live import weight_change
from circuits.edits.plan import EditPlan
from circuits.output import vacant, written
from patching.blocks import weight_in_out
from patching.loading import load_weights, without_bars
from patching.model import Model
from patching.weights import output_module
from tasks.errors import EditError

PLAN = "edit_plan.json"
NAMES = {"mlp": "mlp.out", "attention": "attn.o"}
TOLERANCE = 1e-5


def save_edited(model: Model, plan: EditPlan, out: str | Path, original: Any = None) -> Path:
    """Write the model with the plan's weight edits to the directory ``out``.

    ``original`` is the transformers model that ``model`` was opened from, needed where it was
    opened from memory; it is not changed. The tokenizer and the plan are saved beside the weights,
    and tied embeddings stay tied.

    >>> plan = circuits.EditPlan(model=model.hash, basis="raw", edits=(circuits.remove("a3.h0"),))
    >>> circuits.save_edited(model, plan, "edited")
    PosixPath('edited')

    Raises:
        EditError: the plan does not fit the model, an edit of activations, a directory that exists
            and is not empty, or a saved model that does not give the same logits.
    """
    out = Path(out)
    plan.check(model, out)
    twin = _twin(model, original)
    with plan.applied(model):
        _take_over(model, twin, _places(model, plan))
        expected = model.run(*_probe(model)).cpu()
    with written(out, _check_empty) as partial:
        with without_bars():
            twin.save_pretrained(partial)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(partial)
        (partial / PLAN).write_text(plan.to_json(), encoding="utf-8")
        _verify(model, partial, expected)
        for file in partial.iterdir():
            file.chmod(0o644)
    return out


def _check_empty(folder: Path) -> None:
    """Only an empty directory gives way to a model."""
    if not vacant(folder):
        raise EditError(f"{folder} exists already; choose another --out")


def _twin(model: Model, original: Any) -> Any:
    """The same weights, never bridged."""
    import copy

    if original is not None:
        return copy.deepcopy(original)
    if model.path == "in memory":
        raise EditError(
            "this model was opened from memory, and what was opened is wired up since; give the "
            "transformers model it was opened from as original="
        )
    return load_weights(model.path, model.dtype)


def _places(model: Model, plan: EditPlan) -> Iterable[tuple[str, int]]:
    changes = (
        weight_change(model, edit, plan.basis) for edit in plan.edits if is_weight_edit(edit)
    )
    return dict.fromkeys(change.place for change in changes)


@torch.no_grad()
def _take_over(model: Model, twin: Any, places: Iterable[tuple[str, int]]) -> None:
    """Copy the live matrices into the twin's modules of the same name."""
    for part, layer in places:
        name = f"blocks.{layer}.{NAMES[part]}"
        path = model.bridge.adapter.translate_transformer_lens_path(name)
        theirs = weight_in_out(twin.get_submodule(path))
        theirs.copy_(weight_in_out(output_module(model, part, layer)))


def _probe(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    config = model.bridge.original_model.config
    length = min(16, int(getattr(config, "max_position_embeddings", None) or 16))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocabulary_size, (4, length), generator=generator)
    tokens = tokens.to(model.device)
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


@torch.no_grad()
def _verify(model: Model, folder: Path, expected: torch.Tensor) -> None:
    saved = load_weights(str(folder), model.dtype)
    found = saved.eval()(_probe(model)[0].cpu()).logits[:, -1].float()
    allowed = TOLERANCE * float(expected.abs().max() + 1)
    worst = float((found - expected.float()).abs().max())
    if not worst <= allowed:
        raise EditError(
            f"the saved model's logits differ by {worst:.2g} from those of the live edit "
            f"(allowed {allowed:.2g}); nothing is left of it"
        )
    tied = bool(getattr(saved.config, "tie_word_embeddings", False))
    one, other = saved.get_input_embeddings(), saved.get_output_embeddings()
    if tied and one.weight.data_ptr() != other.weight.data_ptr():
        raise EditError("the saved model's embeddings are no longer tied; nothing is left of it")
