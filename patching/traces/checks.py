"""What can be traced: transcoders of MLPs, and prompts that the model can read."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.readings import check_fit
from patching.model import Model
from tasks.errors import MethodError, SiteError, TaskError


def by_layer(model: Model, dictionaries: Iterable[Dictionary]) -> dict[int, Dictionary]:
    """Transcoders by the layer of their MLP.

    Raises:
        SiteError: one that is no transcoder of an MLP, or does not fit.
        MethodError: two of one MLP.
    """
    found: dict[int, Dictionary] = {}
    for each in dictionaries:
        if not (each.is_transcoder and each.writes.kind == "mlp_out"):
            raise SiteError(
                f"{each!r} is no transcoder of an MLP; attribution graphs replace MLPs: train one "
                f"with --kind transcoder, or score an autoencoder's latents with 'latents'"
            )
        check_fit(model, each)
        reads, layer = each.reads, each.writes.layer
        # What the MLP itself does to the stream would be missing from every direct effect.
        if reads.kind in ("mlp_out", "resid_post") or reads.layer != layer:
            raise SiteError(f"{each!r} reads {reads}, which does not come before its MLP's output")
        if layer in found:
            raise MethodError(f"two transcoders of m{layer} are given; give one for each MLP")
        found[layer] = each
    return found


def check_ids(model: Model, ids: Tensor, other: Tensor | None) -> None:
    """Refuse prompts that the model cannot read, or that are not one pair.

    Raises:
        TaskError: see above.
    """
    from patching.capture import Prompts

    rows = [ids.tolist()] if other is None else [ids.tolist(), other.tolist()]
    Prompts.of(rows).check(model)
    if other is not None and len(ids) != len(other):
        raise TaskError(
            f"the prompt has {len(ids)} tokens and the corrupted one {len(other)}; give two of one "
            f"length"
        )
    if other is not None and bool((ids == other).all()):
        raise TaskError("prompt and corrupted prompt have the same tokens; nothing differs")
