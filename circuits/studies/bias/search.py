"""Choosing an edit against a letter bias without right answers: what each candidate gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from circuits.edits.live import editing
from circuits.results.intervals import Draws, Estimate, bootstrap
from circuits.studies.bias.answers import Answers, agreement, answer, imbalance
from circuits.studies.bias.items import Items
from circuits.studies.bias.other_tasks import Others, Sideways, Stops, glances, look
from circuits.studies.bias.race import Race
from circuits.studies.bias.recipes import Candidate
from circuits.studies.bias.start import Start
from circuits.studies.bias.trials import Search, Trial
from circuits.studies.bias.unibias import HEADS, VECTORS, both
from patching.model import Model
from patching.progress import Progress
from tasks.bias_measures import chosen_options

PERPLEXITY = 1.005
FALL = 0.005

TRYING, LOOKING = "trying edits", "looking at other tasks"


@dataclass(frozen=True)
class Bench:
    """Where candidates are tried: the training questions and other tasks, and doing nothing."""

    model: Model
    items: Items
    others: Others
    basis: str
    start: Answers
    before: Sideways
    stops: Stops

    @classmethod
    def of(
        cls,
        model: Model,
        items: Items,
        others: Others,
        basis: str,
        start: Answers | None = None,
        stops: Stops | None = None,
    ) -> Bench:
        """Look at the model as it is.

        ``start`` are its answers and ``stops`` where other tasks enter its blocks, where known.
        """
        start, stops = start or answer(model, items), stops or Stops.of(model, others)
        before = look(model, others, stops.at(model.anatomy.n_layers - 1))
        return cls(model, items, others, basis, start, before, stops)

    def answered(
        self, candidate: Candidate, items: Items, start: Start | None = None
    ) -> Int[np.ndarray, "questions orders"]:
        """The letters that are predicted under a candidate, a row per question."""
        with editing(self.model, candidate.edits, self.basis):
            return self.orders(answer(self.model, items, start))

    def trial(
        self,
        candidate: Candidate,
        top: Int[np.ndarray, "questions orders"],
        dropped: bool = False,
    ) -> Trial:
        """What the answers to the first training questions say; other tasks are not looked at."""
        score, same, uneven = map(float, label_free(top))
        return Trial(candidate, score, self.gain(top), same, uneven, None, dropped)

    def tried(self, candidate: Candidate) -> Trial:
        """A candidate on all training questions."""
        return self.trial(candidate, self.answered(candidate, self.items))

    def looked(self, tried: Trial) -> Trial:
        """The same with what it does to other tasks and text, as far as the first harm."""
        starts = self.stops.at(tried.candidate.first_layer)
        with editing(self.model, tried.candidate.edits, self.basis):
            seen = glances(self.model, self.others, starts)
            return replace(tried, harmless=all(harmless(self.before, each) for each in seen))

    def gain(self, top: Int[np.ndarray, "questions orders"]) -> Estimate:
        """The score less that of doing nothing; whole questions, in all orders, are redrawn."""
        before = self.orders(self.start)[: len(top)]

        def gains(draws: Draws) -> np.ndarray:
            return label_free(top[draws])[0] - label_free(before[draws])[0]

        (value,) = gains(np.arange(len(top))[None])
        return Estimate(float(value), bootstrap(gains, len(top)), len(top))

    def orders(self, answers: Answers) -> Int[np.ndarray, "questions orders"]:
        """The predicted letters, a row per question."""
        return answers.top.reshape(-1, self.items.n_options)


def search(bench: Bench, proposals: Sequence[Candidate], progress: Progress) -> Search:
    """Race all candidates on the training split, and try the best UniBias sets together."""
    nothing = float(label_free(bench.orders(bench.start))[0])
    tried = _looked(bench, _tried(bench, proposals, progress), progress)
    so_far = Search(nothing, tuple(tried))
    vectors, heads = so_far.best_of(VECTORS), so_far.best_of(HEADS)
    if vectors is None or heads is None:
        return so_far
    together = bench.tried(both(vectors.candidate, heads.candidate))
    if together.gains:
        together = bench.looked(together)
    return Search(nothing, (*tried, together))


def _tried(bench: Bench, proposals: Sequence[Candidate], progress: Progress) -> list[Trial]:
    """What they gain, in their order; run layer by layer, from the first that changes."""
    n = len(bench.items) // bench.items.n_options
    race = Race.of([each.recipe for each in proposals], n)
    costs = [1 + bench.model.anatomy.n_layers - each.first_layer for each in proposals]
    tops = [np.zeros((0, bench.items.n_options), dtype=int)] * len(proposals)
    done, total, running = 0, race.expected(costs), list(range(len(proposals)))
    for first, last in race.heats:
        items = bench.items.asked(slice(first, last))
        start = Start.of(bench.model, items.tokens, items.mask, items.orders)
        for i in sorted(running, key=lambda i: proposals[i].first_layer):
            progress(done, total, TRYING)
            start = start.at(bench.model, proposals[i].first_layer)
            tops[i] = np.concatenate([tops[i], bench.answered(proposals[i], items, start)])
            done += costs[i] * (last - first)
        running = race.onward(last, {i: float(label_free(tops[i])[0]) for i in running})
    return [
        bench.trial(each, top, dropped=len(top) < n)
        for each, top in zip(proposals, tops, strict=True)
    ]


def _looked(bench: Bench, tried: Sequence[Trial], progress: Progress) -> list[Trial]:
    """The same, with what they do to other tasks and text where a recipe's choice turns on it.

    Of every recipe the candidates that gain are looked at from the best on, sure gains first,
    until one is harmless: that one is the recipe's best, whatever the others do.
    """
    trials = list(tried)
    waiting: dict[str, list[int]] = {}
    for i in sorted(range(len(tried)), key=lambda i: (tried[i].gain.low <= 0, -tried[i].score)):
        if tried[i].gains and not tried[i].dropped:
            waiting.setdefault(tried[i].candidate.recipe, []).append(i)
    done = 0
    while turn := sorted(
        (queue.pop(0) for queue in waiting.values()), key=lambda i: tried[i].candidate.first_layer
    ):
        for i in turn:
            progress(done, done + sum(map(len, waiting.values())) + 1, LOOKING)
            trials[i] = bench.looked(tried[i])
            done += 1
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
    """Whether the other tasks and the plain text that were looked at afterwards are left alone."""
    if len(after.loss) and after.perplexity > PERPLEXITY * before.perplexity:
        return False
    falls = (before.right[name].mean() - after.right[name].mean() for name in after.right)
    return all(fall <= FALL for fall in falls)
