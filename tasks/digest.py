"""The digest of prompt pairs: equal contents, equal digest."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs


def digest(pairs: PromptPairs) -> str:
    """SHA-256 of the contents, in hex; what is written on padding does not count."""
    prompts = [np.where(pairs.mask, ids, 0) for ids in (pairs.clean, pairs.corrupted)]
    arrays = [*prompts, pairs.mask, pairs.answer, pairs.counterfactual]
    names = sorted(pairs.positions)
    arrays += [pairs.positions[name] for name in names]
    arrays += [pairs.rest] if pairs.rest.size else []
    arrays += [pairs.spans[name] for name in sorted(pairs.spans)]
    header = [pairs.task, pairs.metric, names, pairs.texts, [array.shape for array in arrays]]
    # Without spans the header is what it always was, so that digests of old runs stay.
    if pairs.spans:
        header.append(sorted(pairs.spans))
    hasher = hashlib.sha256(json.dumps(header).encode())
    for array in arrays:
        hasher.update(array.tobytes())
    return hasher.hexdigest()
