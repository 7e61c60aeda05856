"""Ablations by name: what stands in for an activation, or which attention is cut. No torch here.

An :class:`Ablation` is written as its kind, or as its kind and an argument: ``zero``, ``mean``,
``resample:3``, ``cama:2``. An :class:`AttentionCut` names layers, and heads where only some are
meant: ``full-peek:3-4``, ``self-peek:5``, ``cut-last:2.h1``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from patching.anatomy import Anatomy
from tasks.errors import MethodError, unknown


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of ablation puts in an activation's place, and what its argument means."""

    claim: str
    argument: str = ""
    default: int | None = None


ABLATIONS: Mapping[str, Kind] = {
    "zero": Kind("zero"),
    "mean": Kind("the site's mean over all tokens of a prompt set"),
    "mean-by-position": Kind("its mean at the same position of prompts of the same length"),
    "mean-by-token": Kind("its mean at the same position over prompts with the same token there"),
    "resample": Kind("its value in another prompt of the same length", "seed", 0),
    "corrupted": Kind("its value in the corrupted run"),
    "cama": Kind("the residual stream after a block becomes its mean given the token", "block"),
}

OUTSIDE = tuple(kind for kind in ABLATIONS if kind != "cama")
"""The kinds that can stand in for every sender outside a circuit."""

CUTS: Mapping[str, str] = {
    "full-peek": "the last token sees every token, all others see themselves and the first",
    "self-peek": "every token sees itself and the first",
    "cut-last": "the last token sees itself and the first, all others are left alone",
}

_CUT = re.compile(r"(?P<kind>[a-z-]+):(?P<first>\d+)(?:-(?P<last>\d+))?(?:\.h(?P<head>\d+))?")


@dataclass(frozen=True, slots=True)
class Ablation:
    """What stands in for an activation. ``argument`` is a seed (resample) or a block (cama)."""

    kind: str
    argument: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ABLATIONS:
            raise MethodError(unknown("ablation", self.kind, [*ABLATIONS, *CUTS]))
        kind = ABLATIONS[self.kind]
        if self.argument is None:
            object.__setattr__(self, "argument", kind.default)
        elif not kind.argument:
            raise MethodError(f"ablation '{self.kind}' takes no argument, given {self.argument}")
        elif self.kind == "resample" and self.argument < 0:
            raise MethodError(f"resample:{self.argument}: give a seed of at least 0")
        if kind.argument and self.argument is None:
            raise MethodError(
                f"ablation '{self.kind}' needs a {kind.argument}; write {self.kind}:2"
            )

    @property
    def name(self) -> str:
        """The text that :func:`parse_ablation` reads back."""
        return self.kind if self.argument is None else f"{self.kind}:{self.argument}"

    @property
    def means_by(self) -> str | None:
        """What means are kept by: ``all``, ``position`` or ``token``; None without means."""
        by = {"mean": "all", "mean-by-position": "position", "mean-by-token": "token"}
        return "token" if self.kind == "cama" else by.get(self.kind)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class AttentionCut:
    """Attention taken away in the layers ``first`` to ``last``, of all heads or of one."""

    kind: str
    first: int
    last: int
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in CUTS:
            raise MethodError(unknown("attention cut", self.kind, CUTS))
        if not 0 <= self.first <= self.last:
            raise MethodError(f"'{self.name}': give layers from a smaller to a larger number")

    @property
    def name(self) -> str:
        """The text that :func:`parse_ablation` reads back."""
        layers = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.kind}:{layers}" + ("" if self.head is None else f".h{self.head}")

    @property
    def layers(self) -> range:
        """The layers in question."""
        return range(self.first, self.last + 1)

    def check(self, anatomy: Anatomy) -> None:
        """Refuse layers or heads that the model does not have.

        Raises:
            MethodError: see above.
        """
        if self.last >= anatomy.n_layers or (self.head or 0) >= anatomy.n_heads:
            raise MethodError(
                f"'{self.name}': this model has layers 0 to {anatomy.n_layers - 1} and heads "
                f"0 to {anatomy.n_heads - 1}"
            )

    def __str__(self) -> str:
        return self.name


def parse_ablation(text: str) -> Ablation | AttentionCut:
    """Read an ablation as it is written on the command line.

    Raises:
        MethodError: no such kind, or an argument that it does not take.
    """
    kind, colon, argument = text.partition(":")
    if kind in CUTS:
        return _parse_cut(text)
    if not colon:
        return Ablation(kind)
    if kind in ABLATIONS and not re.fullmatch(r"\d+", argument):
        raise MethodError(f"'{text}': what follows {kind}: is a whole number, not '{argument}'")
    return Ablation(kind, int(argument) if argument.isdecimal() else None)


def get_ablation(ablation: str | Ablation) -> Ablation:
    """An ablation of activations by name, or the value itself.

    Raises:
        MethodError: no such ablation, or one that cuts attention instead.
    """
    chosen = parse_ablation(ablation) if isinstance(ablation, str) else ablation
    if not isinstance(chosen, Ablation):
        raise MethodError(
            f"'{chosen}' cuts attention; here something must stand in for activations"
        )
    return chosen


def outside(ablation: str | Ablation) -> Ablation:
    """An ablation that can stand in for everything outside a circuit.

    Raises:
        MethodError: no such ablation, or one that no edge can carry.
    """
    text = str(ablation)
    kind = text.partition(":")[0]
    if kind == "cama":
        raise MethodError(
            f"'{text}' replaces the residual stream, which no edge owns; outside a circuit use "
            f"mean-by-token"
        )
    if kind in CUTS:
        raise MethodError(
            f"'{text}' cuts attention; outside a circuit something must stand in for activations: "
            f"{', '.join(OUTSIDE)}"
        )
    if kind not in OUTSIDE:
        raise MethodError(unknown("ablation", kind, OUTSIDE))
    return get_ablation(ablation)


def _parse_cut(text: str) -> AttentionCut:
    match = _CUT.fullmatch(text)
    if match is None:
        raise MethodError(f"'{text}' is no attention cut; write full-peek:3-4 or cut-last:2.h1")
    first = int(match["first"])
    last = first if match["last"] is None else int(match["last"])
    head = None if match["head"] is None else int(match["head"])
    return AttentionCut(match["kind"], first, last, head)
