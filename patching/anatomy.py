"""What a model is made of, as far as circuits are concerned: counts, and who can read whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.errors import FormatError


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The shape of a decoder-only transformer.

    ``n_kv_heads`` is smaller than ``n_heads`` under grouped-query attention. ``parallel`` says
    that a layer's MLP reads the same residual stream as its attention (GPT-NeoX), so that the
    attention heads of a layer cannot reach the MLP of that layer.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    parallel: bool = False
    family: str = ""

    def kv_head(self, head: int) -> int:
        """The key/value head that query head ``head`` reads."""
        return head // (self.n_heads // self.n_kv_heads)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Anatomy:
        """Read back what :meth:`to_json` wrote.

        Raises:
            FormatError: a field is missing, unknown or of the wrong type.
        """
        try:
            anatomy = cls(**data)
        except TypeError as error:
            raise FormatError(f"model anatomy: {error}") from None
        counts = [anatomy.n_layers, anatomy.n_heads, anatomy.n_kv_heads, anatomy.d_model]
        if not all(isinstance(c, int) and c > 0 for c in counts):
            raise FormatError(f"model anatomy: counts must be positive integers, given {counts}")
        if anatomy.n_heads % anatomy.n_kv_heads:
            raise FormatError(
                f"model anatomy: {anatomy.n_heads} heads cannot share "
                f"{anatomy.n_kv_heads} key/value heads evenly"
            )
        return anatomy
