"""What a page shows of the prompts and of what a model does with them: ``inside.json``.

The numbers are computed by :mod:`circuits.inside`; this is their file, read without torch.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphs.files import read_bytes, read_json
from tasks.errors import FormatError, all_faults

FILE = "inside.json"
SCHEMA_VERSION = "1.0"
MAX_BYTES = 64 * 2**20
RUNS = ("clean", "corrupted")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0, le=2**31)]


class Part(BaseModel):
    """A part of the record: immutable; fields of a later minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Word(Part):
    """A word that may follow the prompt, with its probability in each run, null if not run."""

    token: Index
    text: str
    role: Literal["answer", "counterfactual", ""] = ""
    clean: Finite
    corrupted: Finite
    circuit: Finite | None = None


class Promoted(Part):
    """The words that a part pushes up and down most directly, with its effect on their logits."""

    more: tuple[tuple[str, Finite], ...] = ()
    less: tuple[tuple[str, Finite], ...] = ()


class InsidePrompt(Part):
    """A prompt pair and what the model does with it.

    ``effects`` are by node and run, one number for every word; ``attention`` by head and run, in
    the form of :func:`packed`. ``cut`` is how many tokens at the beginning are not shown.
    """

    clean: tuple[str, ...]
    corrupted: tuple[str, ...] = ()
    positions: dict[str, int] = Field(default_factory=dict)
    cut: Index = 0
    words: tuple[Word, ...] = ()
    effects: dict[str, dict[str, tuple[Finite, ...]]] = Field(default_factory=dict)
    promotes: dict[str, Promoted] = Field(default_factory=dict)
    attention: dict[str, dict[str, str]] = Field(default_factory=dict)


class CurvePoint(Part):
    """Faithfulness of the strongest ``asked`` edges, of which ``kept`` are connected."""

    asked: Index
    kept: Index
    faithfulness: Finite


class Inside(Part):
    """``inside.json``: what a run's page shows beside its circuit."""

    format: Literal["inside"] = "inside"
    schema_version: str = Field(SCHEMA_VERSION, pattern=r"^1\.\d+$")
    circuit: str = ""
    prompts: tuple[InsidePrompt, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of the file."""
        return self.model_dump_json() + "\n"


def read_inside(path: Path) -> Inside:
    """Read an ``inside.json``.

    Raises:
        FormatError: it cannot be read, or is of another major version.
    """
    values: Any = read_json(read_bytes(path, MAX_BYTES, "no run writes as much"), str(path))
    try:
        return Inside.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()]
        raise FormatError(
            all_faults(f"{path} is not a record of schema version 1:", faults)
        ) from None


def packed(pattern: Float[np.ndarray, "s s"]) -> str:
    """A causal attention pattern: base64 of its lower triangle, row by row.

    Each number ``p`` in [0, 1] is ``round(65535 p)`` in two bytes, the lower one first, so that it
    is kept to 7.7e-6.
    """
    triangle = pattern[np.tril_indices(len(pattern))]
    return base64.b64encode(np.rint(triangle * 65535).astype("<u2").tobytes()).decode()


def unpacked(text: str) -> Float[np.ndarray, "s s"]:
    """The pattern that :func:`packed` was given, zero above the diagonal.

    Raises:
        FormatError: it is not the lower triangle of any pattern.
    """
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<u2")
    except ValueError as error:
        raise FormatError(f"this is not an attention pattern: {error}") from None
    size = int(np.sqrt(2 * len(values)))
    if size * (size + 1) != 2 * len(values):
        raise FormatError(f"{len(values)} numbers are no lower triangle of a pattern")
    pattern = np.zeros((size, size))
    pattern[np.tril_indices(size)] = values / 65535
    return pattern
