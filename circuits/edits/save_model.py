"""Saving an edited model as a Hugging Face directory that transformers opens without circuits.

The model's own weights are saved while the edit is in force, in the number type that they came in.
What was written is opened again and must give the logits of the live edit; otherwise nothing is
left.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from circuits.edits.check import is_weight_edit
from circuits.edits.live import weight_change
from circuits.edits.plan import EditPlan
from circuits.output import vacant, written
from patching.loading import load_weights, without_bars
from patching.model import Model
from patching.weights import output_module
from tasks.errors import EditError

PLAN = "edit_plan.json"
TOLERANCE = 1e-5


def save_edited(model: Model, plan: EditPlan, out: str | Path) -> Path:
    """Write the model with the plan's weight edits to the directory ``out``.

    The tokenizer and the plan are saved beside the weights, tied embeddings stay tied, and weights
    have the number type of the files that the model was opened from, also where circuits computes
    in a wider one.

    >>> plan = circuits.EditPlan(model=model.hash, basis="raw", edits=(circuits.remove("a3.h0"),))
    >>> circuits.save_edited(model, plan, "edited")
    PosixPath('edited')

    Raises:
        EditError: the plan does not fit the model, an edit of activations, a directory that exists
            and is not empty, or a saved model that does not give the same logits.
    """
    out = Path(out)
    plan.check(model, out)
    with plan.applied(model), _rounded(model, _places(model, plan)):
        expected = model.run(*_probe(model)).cpu()
        with written(out, _check_empty) as partial:
            _write(model, partial)
            (partial / PLAN).write_text(plan.to_json(), encoding="utf-8")
            _verify(model, partial, expected)
            for file in partial.iterdir():
                file.chmod(0o644)
    return out


def _check_empty(folder: Path) -> None:
    """Only an empty directory gives way to a model."""
    if not vacant(folder):
        raise EditError(f"{folder} exists already; choose another --out")


def _places(model: Model, plan: EditPlan) -> Iterable[tuple[str, int]]:
    changes = (
        weight_change(model, edit, plan.basis) for edit in plan.edits if is_weight_edit(edit)
    )
    return dict.fromkeys(change.place for change in changes)


@contextmanager
@torch.no_grad()
def _rounded(model: Model, places: Iterable[tuple[str, int]]) -> Iterator[None]:
    """Edited matrices as they will be after saving: rounded to the saved number type."""
    for place in places:
        weight: Any = output_module(model, *place).weight
        weight.copy_(weight.to(model.source_dtype))
    yield


def _write(model: Model, folder: Path) -> None:
    state = {name: weight.to(model.source_dtype) for name, weight in model.hf.state_dict().items()}
    with without_bars():
        model.hf.save_pretrained(folder, state_dict=state)
    # transformers writes the number type in which the model computes.
    config = copy.deepcopy(model.hf.config)
    config.dtype = model.source_dtype
    config.save_pretrained(folder)
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(folder)


def _probe(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    length = min(16, model.longest or 16)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.vocabulary_size, (4, length), generator=generator)
    tokens = tokens.to(model.device)
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


@torch.no_grad()
def _verify(model: Model, folder: Path, expected: torch.Tensor) -> None:
    saved = load_weights(str(folder), model.dtype)
    logits = saved.eval()(_probe(model)[0].cpu()).logits[:, -1].float()
    allowed = TOLERANCE * float(expected.abs().max() + 1)
    worst = float((logits - expected.float()).abs().max())
    if not worst <= allowed:
        raise EditError(
            f"the saved model's logits differ by {worst:.2g} from those of the live edit "
            f"(allowed {allowed:.2g}); nothing is left of it"
        )
    tied = bool(getattr(saved.config, "tie_word_embeddings", False))
    one, other = saved.get_input_embeddings(), saved.get_output_embeddings()
    if tied and one.weight.data_ptr() != other.weight.data_ptr():
        raise EditError("the saved model's embeddings are no longer tied; nothing is left of it")
