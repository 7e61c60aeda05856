"""What can be wrong with prompt pairs once they are arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from tasks.row import Row
from tasks.spelled import SEQUENCE

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs


def read_positions(
    positions: Mapping[str, Any], rows: list[Row]
) -> tuple[dict[str, Int[np.ndarray, " n"]], list[str]]:
    """Positions as indices from each row's start, and the faults of those outside their row."""
    lengths = np.array([len(row.clean) for row in rows])
    named, faults = {}, []
    for name, at in positions.items():
        indices = np.asarray(at)
        if indices.shape != lengths.shape or indices.dtype.kind not in "iu":
            faults.append(
                f"position {name}: {indices.dtype} of shape {indices.shape}; "
                f"give {len(rows)} whole numbers, one per pair"
            )
            continue
        # A prompt that could not be read has its fault already.
        outside = ((indices < -lengths) | (indices >= lengths)) & (lengths > 0)
        faults += [
            f"{rows[i].where}: position {name}={indices[i]} is outside its {lengths[i]} tokens"
            for i in np.flatnonzero(outside)
        ]
        named[name] = np.where(indices < 0, indices + lengths, indices)
    return named, faults


def shape_faults(pairs: PromptPairs) -> list[str]:
    """Arrays whose shapes do not go together."""
    shape = pairs.clean.shape
    if len(shape) != 2 or 0 in shape:
        return [f"clean has shape {shape}; give [n, pos] with at least one pair and one token"]
    faults = [
        f"{name} has shape {getattr(pairs, name).shape}, clean {shape}; they must be equal"
        for name in ("corrupted", "mask")
        if getattr(pairs, name).shape != shape
    ]
    for name in ("answer", "counterfactual"):
        got = getattr(pairs, name).shape
        if len(got) != 2 or got[0] != shape[0] or got[1] == 0:
            faults.append(f"{name} has shape {got}; give [{shape[0]}, k] with k at least 1")
    for name in ("shared", "rest", "longer", "remarks"):
        if len(getattr(pairs, name)) != shape[0]:
            faults.append(f"{name} has {len(getattr(pairs, name))} entries; give {shape[0]}")
    for name, at in pairs.positions.items():
        if at.shape != shape[:1]:
            faults.append(f"position {name} has shape {at.shape}; give [{shape[0]}]")
    if len(pairs.texts) != shape[0]:
        faults.append(
            f"{len(pairs.texts)} texts for {shape[0]} pairs; give one (clean, corrupted) each"
        )
    if len(pairs.templates) != shape[0]:
        faults.append(f"{len(pairs.templates)} templates for {shape[0]} pairs; give one each")
    return faults


def content_faults(pairs: PromptPairs) -> list[str]:
    """What is wrong with single pairs whose arrays fit together."""
    faults = []
    for i, mask in enumerate(pairs.mask):
        if not mask[-1] or np.any(np.diff(mask.astype(np.int8)) < 0):
            faults.append(f"pair {i}: padding must be on the left, and the last token real")
            continue
        row = Row(
            f"pair {i}",
            clean=pairs.clean[i][mask].tolist(),
            corrupted=pairs.corrupted[i][mask].tolist(),
            answer=pairs.answer[i].tolist(),
            counterfactual=pairs.counterfactual[i].tolist(),
            texts=pairs.texts[i],
            alone=pairs.metric == SEQUENCE,
        )
        faults += row.faults()
        faults += [
            f"pair {i}: position {name}={at[i]} is not on a token of the prompt"
            for name, at in pairs.positions.items()
            if not 0 <= at[i] < mask.size or not mask[at[i]]
        ]
    return faults
