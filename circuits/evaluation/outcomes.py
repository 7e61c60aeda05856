"""What the whole model, the empty circuit and any number of circuits answer, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from circuits.evaluation.areas import faithfulness, told_apart
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import Ends, bootstrap, weights
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from patching.placed import wirings_of
from tasks.errors import ModelError, RunError

if TYPE_CHECKING:
    from torch import Tensor

    from graphs import CircuitInfo
    from patching.model import Model
    from patching.runs import Batch
    from patching.sites import Edge
    from tasks import PromptPairs

Rows = Float[np.ndarray, "runs n"]


@dataclass(frozen=True)
class Outcomes:
    """Per prompt: the metric, whether the answer beats the counterfactual, whether it is on top.

    ``metric``, ``preferred`` and ``right`` have one row per run: the whole model, the empty
    circuit, then the circuits in the order given. ``preferred`` compares the mean logit of the
    answers with that of the counterfactual answers; ``right`` says that the most likely token of
    the vocabulary is an answer. Without counterfactual answers ``preferred`` is ``right``.
    """

    name: str
    metric: Rows
    preferred: Bool[np.ndarray, "runs n"]
    right: Bool[np.ndarray, "runs n"]

    @property
    def full(self) -> Float[np.ndarray, " n"]:
        """The metric of the clean run."""
        return self.metric[0]

    @property
    def empty(self) -> Float[np.ndarray, " n"]:
        """The metric of the empty circuit."""
        return self.metric[1]

    @property
    def circuits(self) -> Rows:
        """The metric of the circuits."""
        return self.metric[2:]

    @property
    def n(self) -> int:
        """How many prompts."""
        return self.metric.shape[1]

    def weighted(
        self, weights: Float[np.ndarray, "times n"]
    ) -> Float[np.ndarray, "times circuits"]:
        """Faithfulness of every circuit under given prompt weights."""
        means = weights @ self.metric.T
        return faithfulness(means[:, :1], means[:, 1:2], means[:, 2:])

    @property
    def faithfulness(self) -> Float[np.ndarray, " circuits"]:
        """Share of the metric that each circuit recovers; NaN where nothing is recoverable."""
        return self.weighted(np.full((1, self.n), 1 / self.n))[0]

    def interval(self, circuit: int, seed: int = 0) -> Ends | None:
        """Bootstrap interval (95 %) of one circuit's faithfulness."""
        return bootstrap(lambda draws: self.weighted(weights(draws))[:, circuit], self.n, seed)

    @property
    def defined(self) -> bool:
        """Whether the model does the task (:func:`circuits.evaluation.areas.told_apart`)."""
        return told_apart(self.full, self.empty)

    def part(self, rows: Sequence[int]) -> Outcomes:
        """The same prompts with some of the circuits only."""
        keep = [0, 1, *(2 + row for row in rows)]
        return Outcomes(self.name, self.metric[keep], self.preferred[keep], self.right[keep])

    def prompts(self, which: Int[np.ndarray, " some"]) -> Outcomes:
        """The same circuits on some of the prompts only."""
        kept = self.metric[:, which], self.preferred[:, which], self.right[:, which]
        return Outcomes(self.name, *kept)


def undefined(outcomes: Outcomes) -> str:
    """Why no faithfulness can be given, with the two values."""
    full, empty = outcomes.full.mean(), outcomes.empty.mean()
    return (
        f"{outcomes.name} is {full:+.4f} in the clean run and {empty:+.4f} with everything "
        f"ablated: the model does not distinguish the two, so no share of it can be recovered"
    )


def measure(
    model: Model,
    pairs: PromptPairs,
    circuits: Sequence[Iterable[str | Edge]],
    running: Running = PLAIN,
) -> Outcomes:
    """Run the whole model, the empty circuit and every circuit on the same prompts.

    The run that stands in outside the circuits is computed once for all of them. The circuit of
    all edges is the clean run itself. Means that the ablation needs are those of the pairs' clean
    prompts unless ``running`` has those of another prompt set.

    Raises:
        SiteError: an edge that this model does not have.
        MethodError: an ablation that cannot stand in for every sender, or means that do not fit.
    """
    from patching.circuit_run import settled_runner
    from patching.metrics import check_metric
    from patching.sweep import sweep

    wirings = wirings_of(circuits, model.anatomy)
    layout = wirings[0].layout if wirings else layout_of(model.anatomy)
    wirings = [EdgeSet.none(layout), *wirings]
    whole = [isinstance(w, EdgeSet) and len(w) == layout.n_edges for w in wirings]
    checked = check_metric(running.metric or pairs.metric)
    runner_of = settled_runner(model, pairs, running.ablation, running.means, running, layout.nodes)
    running = running.counting(len(circuits) * len(pairs), "running circuits")

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        runner, first = runner_of(batch), model.run(batch.clean, batch.mask)
        rows = [judge(first, batch.pairs, checked)]
        for at, wiring in enumerate(wirings):
            logits = first if whole[at] else runner.logits(wiring)
            rows.append(judge(logits, batch.pairs, checked))
            running.tell(min(at, 1) * len(batch))
        return tuple(np.stack(each) for each in zip(*rows, strict=True))

    parts = sweep(model, pairs, work, running, len(circuits))
    metrics, *shares = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    # Of a prompt with several rows every one has to be right.
    preferred, right = (pairs.by_prompt(1.0 - share) == 0 for share in shares)
    return Outcomes(checked.name, pairs.by_prompt(metrics), preferred, right)


def judge(
    logits: Tensor, pairs: PromptPairs, metric: Callable[[Tensor, PromptPairs], Tensor]
) -> list[np.ndarray]:
    """Per prompt: the metric, whether the answer is preferred, whether it is on top."""
    from patching.metrics import logit_diff

    top = logits.argmax(-1).cpu().numpy()[:, None]
    value = metric(logits, pairs).double().cpu().numpy()
    right = (pairs.answer == top).any(1)
    beats = (logit_diff(logits, pairs) > 0).cpu().numpy()
    alone = (pairs.counterfactual < 0).all(1)
    return [value, np.where(alone, right, beats), right]


def check_same_model(
    found_hash: str, info: CircuitInfo, model: Model, allow_other: bool = False
) -> None:
    """Refuse to evaluate a circuit on a model that it was not found on.

    Raises:
        ModelError: other weights, and ``allow_other`` is not given or the shapes differ too.
    """
    if odd := info.differences(model.anatomy.shape):
        raise ModelError(f"this circuit belongs to a model of another shape: {', '.join(odd)}")
    if found_hash and found_hash != model.hash and not allow_other:
        raise ModelError(
            f"this circuit was found on another model: weights {found_hash[:12]}, given "
            f"{model.hash[:12]}; the shapes agree, so --allow-other-model evaluates it all the same"
        )


def check_disjoint(used: PromptPairs, held_out: PromptPairs) -> None:
    """Refuse prompts that the circuit was chosen on.

    Raises:
        RunError: with the number of prompts in both.
    """
    both = set(prompt_keys(used)) & set(prompt_keys(held_out))
    if both:
        raise RunError(
            f"{len(both)} of {len(held_out)} prompts were used to find the circuit; evaluate it on "
            f"others"
        )


def prompt_keys(pairs: PromptPairs) -> list[bytes]:
    """Each prompt without padding: equal keys are the same clean and the same corrupted prompt."""
    names = pairs.prompt if len(pairs.prompt) else np.arange(len(pairs))
    first = np.unique(names, return_index=True)[1]
    return [
        pairs.clean[row, pairs.mask[row]].tobytes()
        + b"|"
        + pairs.corrupted[row, pairs.mask[row]].tobytes()
        for row in first
    ]
