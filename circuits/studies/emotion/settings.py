"""How a concept is studied, and what is wrong with that before anything is run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from circuits.studies.emotion.circuit import Budget
from circuits.studies.emotion.prompts import SPLITS, Concept
from tasks.chat import form_of
from tasks.errors import MethodError, ModelError, all_faults, number_faults

if TYPE_CHECKING:
    from patching.anatomy import Anatomy
    from patching.model import Model


LEAST_GROUPS = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How components are found and tried.

    groups       groups of discovery prompts to find components on
    tests        groups of test prompts to try control on
    tuning       groups of discovery prompts to find strengths on
    draws        sets of random components
    new_tokens   tokens of a reply, at most
    neurons, heads, neuron_floor, head_floor  the budget (`circuits.studies.emotion.circuit.Budget`)
    layers       layers to steer; by default those of the reference direction
    threshold    adjacent cosine of stable layers
    after_norm   whether heads are read after the norm
    positions    where control acts: at the ``last`` token of every pass, or at ``all``
    bos, chat    how texts are put to the model: see :meth:`tasks.base.Task.pairs`; other tasks and
                 stories are put without chat
    """

    groups: int = 48
    tests: int = 40
    new_tokens: int = 12
    neurons: int | None = None
    heads: int | None = None
    threshold: float = 0.9
    after_norm: bool = False
    positions: str = "last"
    seed: int = 0
    batch_size: int = 64
    tuning: int = 16
    draws: int = 5
    layers: tuple[int, ...] | None = None
    neuron_floor: int | None = None
    head_floor: int | None = None
    bos: bool | None = None
    chat: str = ""

    def __post_init__(self) -> None:
        # One group has no spread, so nothing found or tried on it could be given an error.
        faults = number_faults(
            ("groups", self.groups, LEAST_GROUPS),
            ("tests", self.tests, LEAST_GROUPS),
            ("tuning", self.tuning, 1),
            ("draws", self.draws, 1),
            ("new tokens", self.new_tokens, 1),
            ("batch size", self.batch_size, 1),
            ("seed", self.seed, 0),
        )
        if self.positions not in ("last", "all"):
            faults.append(f"positions is '{self.positions}'; give last or all")
        if not -1 <= self.threshold <= 1:
            faults.append(f"threshold is {self.threshold}; give a cosine from -1 to 1")
        if self.layers is not None and not self.layers:
            faults.append("layers is empty; give a layer, or leave it out")
        object.__setattr__(self, "chat", form_of(self.chat))
        if faults:
            raise MethodError("this study cannot run like this: " + "; ".join(faults))

    def budget(self, anatomy: Anatomy) -> Budget:
        """How many components a circuit of such a model has."""
        floors = self.neuron_floor, self.head_floor
        return Budget.of(anatomy, self.neurons, self.heads, *floors)

    def check(self, model: Model, concept: Concept) -> None:
        """Refuse what this model cannot do.

        Raises:
            ModelError: it has no tokenizer.
            MethodError: listing every setting that does not fit, and whether prompts are too long
                or too few.
        """
        from circuits.studies.emotion.parts import norm_fault

        if model.tokenizer is None:
            raise ModelError("the prompts are text and this model has no tokenizer; give one")
        last = model.anatomy.n_layers - 1
        faults = self.budget(model.anatomy).faults(model.anatomy)
        if self.after_norm and (fault := norm_fault(model)):
            faults.append(fault)
        if outside := [layer for layer in self.layers or () if not 0 <= layer <= last]:
            faults.append(f"layers {outside} are outside the model's 0 to {last}")
        if fault := self._length_fault(model, concept):
            faults.append(fault)
        for split, prompts in zip(SPLITS, (concept.discovery, concept.test), strict=True):
            if (count := len({prompt.group for prompt in prompts})) < LEAST_GROUPS:
                faults.append(
                    f"{count} group of {split} prompts; an error needs at least {LEAST_GROUPS}"
                )
        if faults:
            raise MethodError(all_faults("this study cannot run like this:", faults))

    def _length_fault(self, model: Model, concept: Concept) -> str | None:
        longest = model.longest
        splits = (("discovery", self.groups), ("test", self.tests))
        taken = [prompt for split, count in splits for prompt in concept.take(split, count)]
        needed = max(len(p.ids(model.tokenizer)) for p in taken) + self.new_tokens - 1
        if longest is None or needed <= longest:
            return None
        return (
            f"the longest prompt with {self.new_tokens} new tokens takes {needed} positions and "
            f"this model has {longest}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report."""
        return asdict(self)
