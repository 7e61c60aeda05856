"""What a model is made of, as far as circuits are concerned: counts, and who can read whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.errors import FormatError
from tasks.limits import MAX_HEADS, MAX_NEURONS

_OF_EXPERTS = ("n_experts", "shared_expert", "dense_layers")


def contradictions(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """In what two shapes differ, such as ``n_layers 12, given 4``; nothing where they agree.

    What only one of them has, or has as an empty text, contradicts nothing.
    """
    both = [(name, value, theirs[name]) for name, value in mine.items() if name in theirs]
    return [f"{name} {a}, given {b}" for name, a, b in both if a != b and "" not in (a, b)]


def other_model(odd: list[str]) -> str:
    """What is said of a circuit whose shape contradicts a model's."""
    return f"this circuit is of another model: {', '.join(odd)}"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The shape of a decoder-only transformer.

    ``n_kv_heads`` is smaller than ``n_heads`` under grouped-query attention. ``parallel`` says
    that a layer's MLP reads the same residual stream as its attention (GPT-NeoX), so that the
    attention heads of a layer cannot reach the MLP of that layer.

    ``n_experts`` is how many experts a layer's router chooses among, 0 in a model without them;
    ``shared_expert`` says that one more answers every token. ``dense_layers`` are the layers that
    have an ordinary MLP beside others that are mixtures of experts.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    parallel: bool = False
    family: str = ""
    n_experts: int = 0
    shared_expert: bool = False
    dense_layers: tuple[int, ...] = ()

    @property
    def mixtures(self) -> tuple[int, ...]:
        """The layers whose MLP is a mixture of experts."""
        layers = range(self.n_layers) if self.n_experts else ()
        return tuple(layer for layer in layers if layer not in self.dense_layers)

    @property
    def shape(self) -> dict[str, Any]:
        """Every number by its name."""
        return asdict(self)

    def kv_head(self, head: int) -> int:
        """The key/value head that query head ``head`` reads."""
        return head // (self.n_heads // self.n_kv_heads)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; nothing about experts where there are none."""
        data = asdict(self)
        if not self.n_experts:
            return {name: value for name, value in data.items() if name not in _OF_EXPERTS}
        return data | {"dense_layers": list(self.dense_layers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Anatomy:
        """Read back what :meth:`to_json` wrote.

        Raises:
            FormatError: a field is missing, unknown or of the wrong type.
        """
        try:
            anatomy = cls(**{**data, "dense_layers": tuple(data.get("dense_layers", ()))})
        except TypeError as error:
            raise FormatError(f"model anatomy: {error}") from None
        counts = [anatomy.n_layers, anatomy.n_heads, anatomy.n_kv_heads, anatomy.d_model]
        if not all(isinstance(c, int) and c > 0 for c in counts):
            raise FormatError(f"model anatomy: counts must be positive integers, given {counts}")
        anatomy._check_sizes()
        if anatomy.n_heads % anatomy.n_kv_heads:
            raise FormatError(
                f"model anatomy: {anatomy.n_heads} heads cannot share "
                f"{anatomy.n_kv_heads} key/value heads evenly"
            )
        anatomy._check_experts()
        return anatomy

    def _check_sizes(self) -> None:
        """Refuse a model so large that its names alone would fill the memory."""
        widths = {"d_head": self.d_head, "d_mlp": self.d_mlp}
        for name, width in widths.items():
            if not isinstance(width, int) or width < 0:
                raise FormatError(f"model anatomy: {name} must be 0 or more, given {width!r}")
        heads, neurons = self.n_layers * self.n_heads, self.n_layers * self.d_mlp
        if heads > MAX_HEADS:
            raise FormatError(f"a model of {heads:,} heads; at most {MAX_HEADS:,} are read")
        if neurons > MAX_NEURONS:
            raise FormatError(f"a model of {neurons:,} neurons; at most {MAX_NEURONS:,} are read")

    def _check_experts(self) -> None:
        experts, dense = self.n_experts, self.dense_layers
        if not isinstance(experts, int) or experts < 0:
            raise FormatError(f"model anatomy: n_experts must be 0 or more, given {experts!r}")
        if experts * self.n_layers > MAX_HEADS:
            experts *= self.n_layers
            raise FormatError(f"a model of {experts:,} experts; at most {MAX_HEADS:,} are read")
        if not all(isinstance(layer, int) and 0 <= layer < self.n_layers for layer in dense):
            raise FormatError(
                f"model anatomy: dense_layers must be layers from 0 to {self.n_layers - 1}, "
                f"given {list(dense)}"
            )
        if not experts and (self.shared_expert or dense):
            raise FormatError(
                "model anatomy: shared_expert and dense_layers are of models with experts, and "
                "n_experts is 0"
            )
