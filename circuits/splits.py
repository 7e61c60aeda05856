"""Prompts split by groups into those to fit on and those to test on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from tasks.errors import TaskError, all_faults


@dataclass(frozen=True, slots=True)
class Split:
    """Labels by number, which prompts are for testing; no group stands on both sides."""

    labels: tuple[str, ...]
    numbers: Int[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        groups: Sequence[str] | None,
        held_out: float | Sequence[bool],
        rng: np.random.Generator,
    ) -> Split:
        """Draw the groups to test on, or check those given.

        Raises:
            TaskError: listing everything that keeps these prompts from being split.
        """
        names = list(groups) if groups is not None else [str(i) for i in range(len(labels))]
        if len(names) != len(labels):
            raise TaskError(f"{len(names)} groups for {len(labels)} labels; give one of each")
        if isinstance(held_out, int | float):
            test = _drawn(names, float(held_out), rng)
        else:
            test = np.array(held_out, dtype=bool)
            if test.shape != (len(names),):
                raise TaskError(f"held_out has {test.size} entries for {len(names)} prompts")
        kinds = tuple(dict.fromkeys(labels))
        if faults := list(_split_faults(np.array(labels), kinds, names, test)):
            raise TaskError(all_faults("no probe can be fitted and tested:", faults))
        return cls(kinds, np.array([kinds.index(label) for label in labels]), test)

    def shuffled(self, rng: np.random.Generator) -> Split:
        """The same with the labels to fit on in random order; those to test on stay."""
        numbers = self.numbers.copy()
        numbers[~self.test] = rng.permutation(numbers[~self.test])
        return Split(self.labels, numbers, self.test)


def _drawn(groups: Sequence[str], share: float, rng: np.random.Generator) -> Bool[np.ndarray, " n"]:
    names = sorted(set(groups))
    if not 0 < share < 1 or len(names) < 2:
        raise TaskError(
            f"held_out is {share} of {len(names)} groups; give a share between 0 and 1, and at "
            f"least two groups"
        )
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    chosen = {names[i] for i in rng.permutation(len(names))[:count]}
    return np.array([name in chosen for name in groups])


def _split_faults(
    labels: np.ndarray, kinds: Sequence[str], groups: Sequence[str], test: Bool[np.ndarray, " n"]
) -> Iterator[str]:
    if len(kinds) < 2:
        yield f"there {'is only one label' if kinds else 'are no labels'}; give at least two"
    for side, rows in (("fit", ~test), ("test", test)):
        if missing := [kind for kind in kinds if not (labels[rows] == kind).any()]:
            yield f"no prompt to {side} on has label {', '.join(missing)}"
    names = np.array(groups)
    if both := sorted(set(names[test]) & set(names[~test])):
        yield f"groups on both sides: {', '.join(both[:5])}"
