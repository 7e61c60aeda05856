"""How a mitigation is searched for, and what is wrong with that before anything is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.chat import form_of
from tasks.errors import TaskError, all_faults, number_faults, unknown
from tasks.mcq_files import read_questions

if TYPE_CHECKING:
    from patching.model import Model

FEWEST = 4
MOST_TESTED, LEAST_TESTED = 400, 100
"""Questions to test on where nobody says how many: at most, and at least."""

AFFORDABLE = 4e10
"""Such questions times weights: a mitigation then takes some twenty minutes of two slow cores."""

RECIPES = (
    "least squares",
    "zero",
    "suppress A",
    "A to mean",
    "project out",
    "scale head",
    "unibias",
    "unibias heads",
)


@dataclass(frozen=True)
class Settings:
    """How many questions to choose on and to test on, from where, and the seed of all draws.

    Without ``test`` they are 400, and fewer for large models (:meth:`questions_to_test`).
    ``file`` holds questions of your own (:mod:`tasks.mcq_files`), of which those with a fault are
    left out with ``skip_bad``; ``others`` is the number of
    prompts of every other task, and of texts, that side effects are measured on; while an edit is
    chosen they are two thirds as many, from the training split. ``recipes`` are
    the ones to try, all of them by default. ``bos`` and ``chat`` say how the questions are put to
    the model (:meth:`tasks.base.Task.pairs`); other tasks and texts are put without chat.

    Raises:
        TaskError: listing everything that is wrong.
    """

    train: int = 48
    test: int | None = None
    seed: int = 0
    file: str = ""
    others: int = 100
    recipes: tuple[str, ...] = ()
    skip_bad: bool = False
    bos: bool | None = None
    chat: str = ""

    def __post_init__(self) -> None:
        faults = number_faults(
            ("train", self.train, FEWEST),
            ("test", MOST_TESTED if self.test is None else self.test, FEWEST),
            ("others", self.others, FEWEST),
            ("seed", self.seed, 0),
        )
        object.__setattr__(self, "chat", form_of(self.chat))
        if self.file:
            try:
                read_questions(self.file, skip_bad=self.skip_bad)
            except TaskError as fault:
                faults.append(str(fault))
        faults += [
            unknown("recipe", recipe, RECIPES) for recipe in self.recipes if recipe not in RECIPES
        ]
        if faults:
            raise TaskError(all_faults("these settings cannot be used:", faults))

    def questions_to_test(self, model: Model) -> int:
        """As many as were asked for; else 400, or for large models half of them, and again.

        It depends on the model, not on the machine.
        """
        if self.test is not None:
            return self.test
        weights = sum(weight.numel() for weight in model.hf.parameters())
        n = MOST_TESTED
        while n > LEAST_TESTED and n * weights > AFFORDABLE:
            n //= 2
        return n
