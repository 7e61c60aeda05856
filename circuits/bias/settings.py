"""How a mitigation is searched for, and what is wrong with that before anything is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import TaskError, all_faults, unknown

FEWEST = 4
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

    ``file`` holds questions of your own (:mod:`tasks.mcq_files`); ``others`` is the number of
    prompts of every other task, and of texts, that side effects are measured on. ``recipes`` are
    the ones to try, all of them by default.

    Raises:
        TaskError: listing everything that is wrong.
    """

    train: int = 48
    test: int = 400
    seed: int = 0
    file: str = ""
    others: int = 200
    recipes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {"train": self.train, "test": self.test, "others": self.others}
        faults = [
            f"{name} is {value}; give at least {FEWEST}"
            for name, value in counts.items()
            if value < FEWEST
        ]
        if self.seed < 0:
            faults.append(f"seed is {self.seed}; give at least 0")
        if self.file and not Path(self.file).is_file():
            faults.append(f"there is no file '{self.file}'")
        faults += [
            unknown("recipe", recipe, RECIPES) for recipe in self.recipes if recipe not in RECIPES
        ]
        if faults:
            raise TaskError(all_faults("these settings cannot be used:", faults))
