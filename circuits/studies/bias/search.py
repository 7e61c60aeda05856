"""Choosing an edit against a letter bias without right answers: what each candidate gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from circuits.edits.live import editing
from circuits.results.intervals import Draws, Estimate, bootstrap
from circuits.studies.bias.answers import Answers, agreement, answer, imbalance, start_at
from circuits.studies.bias.items import Items
from circuits.studies.bias.other_tasks import Others, OtherStarts, Sideways, look
from circuits.studies.bias.recipes import Candidate
from circuits.studies.bias.start import Start
from circuits.studies.bias.unibias import HEADS, VECTORS, both
from patching.model import Model
from patching.progress import Progress
from tasks.bias_measures import chosen_options

if TYPE_CHECKING:
    import pandas as pd

PERPLEXITY = 1.005
FALL = 0.005


@dataclass(frozen=True)
class Trial:
    """A candidate and how it did on the training split; larger ``score`` is better.

    score      agreement between orders minus imbalance of the letters (no right answers in it)
    gain       score less that of doing nothing, with its interval over questions
    harmless   perplexity of text at most 0.5 % up, other tasks at most half a point down; None
               where it was not looked at: nothing was gained, or a better one of its recipe is
               harmless
    """

    candidate: Candidate
    score: float
    gain: Estimate
    agreement: float
    imbalance: float
    harmless: bool | None

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
        return max(self.of(recipe), key=lambda t: (t.sure, bool(t.harmless), t.score), default=None)

    def of(self, recipe: str) -> tuple[Trial, ...]:
        """The candidates of a recipe."""
        return tuple(t for t in self.tried if t.candidate.recipe == recipe)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes, in the order tried."""
        return tuple(dict.fromkeys(t.candidate.recipe for t in self.tried))

    def to_frame(self) -> pd.DataFrame:
        """One row per candidate, best score first."""
        import pandas as pd

        rows = [
            {name: getattr(t.candidate, name) for name in ("recipe", "layer", "size", "strength")}
            | {"score": t.score, "gain": t.gain.value, "gain low": t.gain.low}
            | {"gain high": t.gain.high, "agreement": t.agreement}
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


@dataclass(frozen=True)
class Bench:
    """Where candidates are tried: the training questions and other tasks, and doing nothing."""

    model: Model
    items: Items
    others: Others
    basis: str
    start: Answers
    before: Sideways

    @classmethod
    def of(
        cls, model: Model, items: Items, others: Others, basis: str, start: Answers | None = None
    ) -> Bench:
        """Look at the model as it is; ``start`` are its answers, where they are known."""
        start = start or answer(model, items)
        return cls(model, items, others, basis, start, look(model, others))

    def tried(self, candidate: Candidate, start: Start | None = None) -> Trial:
        """What a candidate does to the training questions; other tasks are not looked at."""
        with editing(self.model, candidate.edits, self.basis):
            answers = answer(self.model, self.items, start)
        score, same, uneven = map(float, label_free(self.orders(answers)))
        return Trial(candidate, score, self.gain(answers), same, uneven, None)

    def looked(self, tried: Trial, starts: OtherStarts | None = None) -> Trial:
        """The same with what it does to other tasks and text."""
        with editing(self.model, tried.candidate.edits, self.basis):
            after = look(self.model, self.others, starts)
        return replace(tried, harmless=harmless(self.before, after))

    def gain(self, answers: Answers) -> Estimate:
        """The score less that of doing nothing; whole questions, in all orders, are redrawn."""
        after, before = self.orders(answers), self.orders(self.start)

        def gains(draws: Draws) -> np.ndarray:
            return label_free(after[draws])[0] - label_free(before[draws])[0]

        (value,) = gains(np.arange(len(after))[None])
        return Estimate(float(value), bootstrap(gains, len(after)), len(after))

    def orders(self, answers: Answers) -> Int[np.ndarray, "questions orders"]:
        """The predicted letters, a row per question."""
        return answers.top.reshape(-1, self.items.n_options)


def search(bench: Bench, proposals: Sequence[Candidate], progress: Progress) -> Search:
    """Try all candidates on the training split, and the best UniBias sets together."""
    nothing = float(label_free(bench.orders(bench.start))[0])
    tried = _looked(bench, _tried(bench, proposals, progress), progress)
    so_far = Search(nothing, tuple(tried))
    vectors, heads = so_far.best_of(VECTORS), so_far.best_of(HEADS)
    if vectors is None or heads is None:
        return so_far
    together = bench.tried(both(vectors.candidate, heads.candidate))
    return Search(nothing, (*tried, bench.looked(together) if together.gains else together))


def _tried(bench: Bench, proposals: Sequence[Candidate], progress: Progress) -> list[Trial]:
    """What all of them gain, in their order; run layer by layer, from the first that changes."""
    trials: dict[int, Trial] = {}
    order = sorted(range(len(proposals)), key=lambda i: proposals[i].first_layer)
    start = start_at(bench.model, bench.items, 0)
    for done, i in enumerate(order):
        progress(done, len(order), "trying edits")
        start = start.at(bench.model, proposals[i].first_layer)
        trials[i] = bench.tried(proposals[i], start)
    return [trials[i] for i in range(len(proposals))]


def _looked(bench: Bench, tried: Sequence[Trial], progress: Progress) -> list[Trial]:
    """The same, with what they do to other tasks and text where a recipe's choice turns on it.

    Of every recipe the candidates that gain are looked at from the best on, sure gains first,
    until one is harmless: that one is the recipe's best, whatever the others do.
    """
    trials = list(tried)
    waiting: dict[str, list[int]] = {}
    for i in sorted(range(len(tried)), key=lambda i: (tried[i].gain.low <= 0, -tried[i].score)):
        if tried[i].gains:
            waiting.setdefault(tried[i].candidate.recipe, []).append(i)
    done, first = 0, OtherStarts.of(bench.model, bench.others)
    while turn := sorted(
        (queue.pop(0) for queue in waiting.values()), key=lambda i: tried[i].candidate.first_layer
    ):
        start = first
        for i in turn:
            progress(done, done + sum(map(len, waiting.values())) + 1, "looking at other tasks")
            start = start.at(bench.model, tried[i].candidate.first_layer)
            trials[i], done = bench.looked(tried[i], start), done + 1
            if trials[i].harmless:
                waiting[tried[i].candidate.recipe].clear()
        waiting = {recipe: queue for recipe, queue in waiting.items() if queue}
    return trials


def label_free(
    top: Int[np.ndarray, "*draws questions orders"],
) -> tuple[Float[np.ndarray, "*draws"], ...]:
    """Agreement minus imbalance of the predicted letters, and both."""
    k = top.shape[-1]
    same = agreement(chosen_options(top, k))
    uneven = imbalance(top.reshape(*top.shape[:-2], -1), k)
    return same - uneven, same, uneven


def harmless(before: Sideways, after: Sideways) -> bool:
    """Whether other tasks and plain text are left alone."""
    if len(before.loss) and after.perplexity > PERPLEXITY * before.perplexity:
        return False
    falls = (before.right[name].mean() - after.right[name].mean() for name in before.right)
    return all(fall <= FALL for fall in falls)
