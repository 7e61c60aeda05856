"""What came of trying edits on the training questions: a trial each, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits.results.intervals import Estimate
from circuits.studies.bias.recipes import Candidate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trial:
    """A candidate and how it did on the training split; larger ``score`` is better.

    score      agreement between orders minus imbalance of the letters (no right answers in it)
    gain       score less that of doing nothing, with its interval over questions
    harmless   perplexity of text at most 0.5 % up, other tasks at most half a point down; None
               where it was not looked at: nothing was gained, a better one of its recipe is
               harmless, or it was dropped
    dropped    better ones of its recipe went on (:mod:`circuits.studies.bias.race`); it was asked
               only the questions that ``gain`` counts, and is never chosen
    """

    candidate: Candidate
    score: float
    gain: Estimate
    agreement: float
    imbalance: float
    harmless: bool | None
    dropped: bool = False

    @property
    def gains(self) -> bool:
        """Whether it is better than doing nothing, be it by chance."""
        return self.gain.value > 0

    @property
    def sure(self) -> bool:
        """Harmless, and the interval of its gain excludes zero."""
        return bool(self.harmless) and self.gain.low > 0

    @property
    def verdict(self) -> str:
        """What the search makes of it, in words."""
        if self.dropped:
            return f"behind others of its recipe after {self.gain.n} questions"
        if self.harmless is None:
            return "gain, but less than the recipe's best" if self.gains else "no gain"
        if not self.harmless:
            return "gain, but harms other tasks or text"
        return "sure gain" if self.sure else "gain that may be chance"


@dataclass(frozen=True)
class Search:
    """What was tried; ``nothing`` is the score of doing nothing."""

    nothing: float
    tried: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The best harmless candidate; None where none is surely better than doing nothing.

        Surely: the interval of its gain excludes zero, so that a search over many candidates on
        few questions does not choose one by chance alone.
        """
        return max((t for t in self.tried if t.sure), key=lambda t: t.score, default=None)

    def best_of(self, recipe: str) -> Trial | None:
        """The best candidate of a recipe: a sure gain, else a harmless one, where there is one."""
        asked_all = [t for t in self.of(recipe) if not t.dropped]
        return max(asked_all, key=lambda t: (t.sure, bool(t.harmless), t.score), default=None)

    def of(self, recipe: str) -> tuple[Trial, ...]:
        """The candidates of a recipe."""
        return tuple(t for t in self.tried if t.candidate.recipe == recipe)

    @property
    def heats(self) -> tuple[int, ...]:
        """Numbers of questions that candidates answered: those that dropped out, and the rest."""
        return tuple(sorted({t.gain.n for t in self.tried}))

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes, in the order tried."""
        return tuple(dict.fromkeys(t.candidate.recipe for t in self.tried))

    def to_frame(self) -> pd.DataFrame:
        """One row per candidate, best score first."""
        import pandas as pd

        rows = [
            {name: getattr(t.candidate, name) for name in ("recipe", "layer", "size", "strength")}
            | {"questions": t.gain.n, "score": t.score, "gain": t.gain.value}
            | {"gain low": t.gain.low, "gain high": t.gain.high, "agreement": t.agreement}
            | {"imbalance": t.imbalance, "verdict": t.verdict}
            for t in sorted(self.tried, key=lambda t: -t.score)
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        best = "none better" if self.best is None else f"best {self.best.score:.3f}"
        return f"Search({len(self.tried)} candidates: {best}, doing nothing {self.nothing:.3f})"

    def _repr_html_(self) -> str:
        from circuits.results.tables import Table

        best = [trial for recipe in self.recipes if (trial := self.best_of(recipe))]
        frame = Search(self.nothing, tuple(best)).to_frame()
        return Table.of(frame.set_index("recipe"), f"{self!r}; the best of each recipe").html()
