"""Directions of labels: where the residual stream goes when only the label of a prompt changes.

Prompts come in groups that differ in nothing but the label, so what a group has in common is
subtracted before labels are averaged (Wang et al. 2025, arXiv 2510.11328). Labels may be anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from tasks.errors import MethodError, TaskError, all_faults

if TYPE_CHECKING:
    from patching.capture import Capture

POINTS = ("resid_mid", "resid_post")
STABLE = 0.9


@dataclass(frozen=True, slots=True)
class Groups:
    """``rows[g, e]`` is the number of the prompt that group ``g`` has for label ``e``."""

    labels: tuple[str, ...]
    names: tuple[str, ...]
    rows: Int[np.ndarray, "groups labels"]

    @classmethod
    def of(
        cls, groups: Sequence[str], labels: Sequence[str], order: Sequence[str] | None = None
    ) -> Groups:
        """Prompts by group and label, in order of appearance unless ``order`` lists the labels.

        Raises:
            TaskError: naming every group that lacks a label or has one twice, and every label that
                is not in ``order``; or fewer than two labels.
        """
        if len(groups) != len(labels):
            raise TaskError(f"{len(groups)} groups for {len(labels)} labels; give one of each")
        kinds = tuple(dict.fromkeys(labels if order is None else order))
        names = tuple(dict.fromkeys(groups))
        rows_by_key: dict[tuple[str, str], int] = {}
        faults = [
            f"label '{label}' is none of {', '.join(kinds)}" for label in {*labels} - {*kinds}
        ]
        for row, key in enumerate(zip(groups, labels, strict=True)):
            rows_by_key.setdefault(key, row)
        for (name, label), count in Counter(zip(groups, labels, strict=True)).items():
            if count > 1:
                faults.append(f"group '{name}' has {count} prompts of label '{label}'")
        for name in names:
            missing = [label for label in kinds if (name, label) not in rows_by_key]
            if missing:
                faults.append(f"group '{name}' has no prompt of label {', '.join(missing)}")
        if len(kinds) < 2:
            given = f"only '{kinds[0]}'" if kinds else "none"
            faults.append(f"a direction is a difference between labels, and there is {given}")
        if faults or not names:
            raise TaskError(all_faults("these prompts give no directions:", faults or ["none"]))
        rows = np.array([[rows_by_key[name, label] for label in kinds] for name in names])
        return cls(kinds, names, rows)

    def where(self, kept: Bool[np.ndarray, " n"], least: int = 1) -> Groups:
        """The groups all of whose prompts are kept: a group is used whole or not at all.

        Raises:
            TaskError: fewer than `least` groups are whole.
        """
        whole = kept[self.rows].all(1)
        if whole.sum() < least:
            count = "none" if not whole.any() else str(int(whole.sum()))
            raise TaskError(
                f"{count} of {len(self.names)} groups has all of its {len(self.labels)} prompts "
                f"accepted ({int(kept.sum())} of {len(kept)} prompts are), so there is too little "
                f"to compare; choose a model that does the task"
            )
        names = tuple(name for name, keep in zip(self.names, whole, strict=True) if keep)
        return Groups(self.labels, names, self.rows[whole])

    def centred_means(self, values: Float[np.ndarray, "n *s"]) -> Float[np.ndarray, "labels *s"]:
        """For each label the mean over groups of its value minus the mean of its group.

        They sum to zero over labels, since every group has every label once.
        """
        grouped = values[self.rows].mean(0, dtype=np.float64)
        return grouped - grouped.mean(0)


@dataclass(frozen=True)
class Directions:
    """What changes with the label, at one token, in every layer.

    vectors     unit vectors in the residual stream ``[labels, points, d]``; points are in order of
                computation: ``resid_mid.0 resid_post.0 resid_mid.1 ...``
    sizes       the norms of the differences that they are the directions of ``[labels, points]``
    rms         root mean square of the stream at each point over all prompts ``[points]``
    neurons     differences of the MLP's neurons, not normalised ``[labels, layers, d_mlp]``
    heads       differences of head outputs, not normalised ``[labels, layers, heads, d_head]``
    """

    labels: tuple[str, ...]
    groups: int
    vectors: Float[np.ndarray, "labels points d"]
    sizes: Float[np.ndarray, "labels points"]
    rms: Float[np.ndarray, " points"]
    neurons: Float[np.ndarray, "labels layers d_mlp"]
    heads: Float[np.ndarray, "labels layers heads d_head"]

    @property
    def points(self) -> tuple[str, ...]:
        """Names of the read points in order of computation."""
        return tuple(f"{kind}.{layer}" for layer in range(len(self.rms) // 2) for kind in POINTS)

    def at(self, kind: str) -> Float[np.ndarray, "labels layers d"]:
        """The unit vectors at ``resid_mid`` or ``resid_post`` of every layer."""
        return self.vectors[:, POINTS.index(kind) :: 2]

    @property
    def adjacent(self) -> Float[np.ndarray, " steps"]:
        """Cosine between each point and the next, mean over labels."""
        return np.einsum("epd,epd->ep", self.vectors[:, :-1], self.vectors[:, 1:]).mean(0)

    @property
    def cosines(self) -> Float[np.ndarray, "points points"]:
        """Cosine between every two points, mean over labels."""
        return np.einsum("epd,eqd->epq", self.vectors, self.vectors).mean(0)

    def tensors(self) -> Mapping[str, Float[np.ndarray, "..."]]:
        """The arrays by name, in float32, as they are saved."""
        names = ("vectors", "sizes", "rms", "neurons", "heads")
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in names}


def find_directions(captured: Capture, groups: Groups) -> Directions:
    """Group-centred directions at both points of every layer, and the differences of components.

    Raises:
        MethodError: at some point a label differs in nothing from the mean of all labels.
    """
    mid, post = _array(captured.resid_mid), _array(captured.resid_post)
    stream = np.stack([mid, post], axis=2).reshape(len(mid), 2 * mid.shape[1], -1)
    means = groups.centred_means(stream)
    sizes = np.linalg.norm(means, axis=-1)
    used = stream[groups.rows.ravel()]
    rms = np.sqrt(np.square(used).mean((0, 2)))
    faint = np.argwhere(sizes <= 1e-9 * rms)
    if len(faint):
        label, point = faint[0]
        raise MethodError(
            f"at {POINTS[point % 2]}.{point // 2} the prompts of '{groups.labels[label]}' differ "
            f"in nothing from the rest; read a token that comes after what distinguishes labels"
        )
    return Directions(
        labels=groups.labels,
        groups=len(groups.names),
        vectors=means / sizes[..., None],
        sizes=sizes,
        rms=rms,
        neurons=groups.centred_means(_array(captured.mlp_post)),
        heads=groups.centred_means(_array(captured.z)),
    )


@dataclass(frozen=True)
class Reference:
    """One direction per label for the whole model: the mean over a window of stable points.

    first, last   the window, as numbers of points, both included
    threshold     the least adjacent cosine within it
    reached       whether that is the threshold asked for; if not, it is the best there is
    vectors       unit vectors ``[labels, d]``
    """

    first: int
    last: int
    threshold: float
    reached: bool
    vectors: Float[np.ndarray, "labels d"]


def find_reference(directions: Directions, threshold: float = STABLE) -> Reference:
    """The sign-aligned mean direction over the longest run of points that agree with the next.

    Where no two adjacent points reach ``threshold`` (mean cosine over labels), the two that agree
    best are the window, and the result says so. Ties go to the later run.

    Raises:
        MethodError: a threshold that is no cosine.
    """
    if not -1 <= threshold <= 1:
        raise MethodError(f"the threshold is a cosine from -1 to 1, given {threshold}")
    adjacent = directions.adjacent
    reached = bool((adjacent >= threshold).any())
    used = threshold if reached else float(adjacent.max())
    first = last = start = 0
    for step, agrees in enumerate(adjacent >= used):
        start = start if agrees else step + 1
        if agrees and step + 1 - start >= last - first:
            first, last = start, step + 1
    window = directions.vectors[:, first : last + 1]
    signs = np.sign(np.einsum("epd,ed->ep", window, window[:, 0]))
    whole = (window * np.where(signs == 0, 1.0, signs)[..., None]).sum(1)
    vectors = whole / np.linalg.norm(whole, axis=-1, keepdims=True)
    return Reference(first, last, used, reached, vectors)


def _array(values: object) -> Float[np.ndarray, "..."]:
    return values.double().cpu().numpy()  # type: ignore[attr-defined]
