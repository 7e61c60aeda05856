"""What a run's page shows of the model at work: words, attention, direct effects, faithfulness.

Everything is bounded, so that a run folder stays small: the first prompt pairs only, of a long
prompt the last tokens, of a large circuit the attention of its strongest heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.evaluate import edges_of
from graphs.choose import strongest
from graphs.inside import RUNS, CurvePoint, Inside, InsidePrompt, Promoted, Word, packed
from graphs.page import MOST_EDGES
from graphs.steps import steps
from patching.direct_effect import read_out, unembedded, writes_at_end
from patching.runs import Batch
from tasks.errors import counted

if TYPE_CHECKING:
    from circuits.evaluate import Evaluation
    from graphs import CircuitGraph
    from patching.circuit_run import CircuitRunner
    from patching.model import Model
    from patching.nodes.edges import EdgeSet
    from patching.sites import Site
    from patching.sweep import Sweep
    from tasks import PromptPairs

MOST_PROMPTS, MOST_TOKENS, MOST_HEADS, MOST_PARTS = 8, 64, 60, 400
MOST_NUMBERS = 400_000
"""Numbers of all attention patterns together; each takes 2.7 bytes of the file."""

TOP, PROMOTED = 4, 5


def look_inside(
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    evaluation: Evaluation,
    options: Sweep,
) -> Inside:
    """Everything that the page of a circuit, evaluated on `pairs`, shows beside it."""
    looker = Looker.of(graph, model, pairs, evaluation.ablation, options)
    heads, shown, notes = _bounds(graph, pairs)
    prompts = [
        looker.prompt(row, heads if row < shown else [])
        for row in range(min(len(pairs), MOST_PROMPTS))
    ]
    curve = strongest_alone(graph, model, pairs, evaluation, options)
    return Inside(circuit=graph.digest, prompts=tuple(prompts), curve=curve, notes=notes)


def bare_prompts(model: Model, pairs: PromptPairs) -> list[InsidePrompt]:
    """The first prompts as they are read, without anything that the model makes of them."""
    rows = range(min(len(pairs), MOST_PROMPTS))
    return [InsidePrompt(**_texts(model, pairs, row)) for row in rows]


def _bounds(graph: CircuitGraph, pairs: PromptPairs) -> tuple[list[Site], int, tuple[str, ...]]:
    """The heads whose attention is kept, on how many prompts, and notes on what is left out."""
    every = parts_by_strength(graph, ("head",))
    heads, notes = every[:MOST_HEADS], []
    length = min(int(pairs.mask.sum(1).max()), MOST_TOKENS)
    each = max(len(heads) * len(RUNS) * length * (length + 1) // 2, 1)
    shown = max(1, min(MOST_PROMPTS, len(pairs), MOST_NUMBERS // each))
    if len(pairs) > MOST_PROMPTS:
        notes.append(f"the first {MOST_PROMPTS} of {len(pairs):,} prompt pairs are shown")
    if heads and shown < min(len(pairs), MOST_PROMPTS):
        notes.append(f"attention is kept for the first {counted(shown, 'prompt pair')}")
    if len(every) > len(heads):
        notes.append(f"attention is kept for the {len(heads)} strongest of {len(every)} heads")
    if int(pairs.mask.sum(1).max()) > MOST_TOKENS:
        notes.append(f"of long prompts the last {MOST_TOKENS} tokens are shown")
    if len(parts_by_strength(graph, KINDS)) > MOST_PARTS:
        notes.append(f"direct effects are kept for the {MOST_PARTS} strongest parts")
    return heads, shown, tuple(notes)


KINDS = ("input", "head", "mlp", "neuron")


def parts_by_strength(graph: CircuitGraph, kinds: Sequence[str]) -> list[Site]:
    """Nodes of some kinds, without positions; those of the strongest edges (or nodes) first."""
    strength: dict[Site, float] = {}
    for node in graph.scored_nodes:
        site = node.site.at(None)
        if site.kind in kinds:
            strength[site] = max(strength.get(site, 0.0), abs(node.score or 0.0))
    for item in graph.scored_edges:
        for end in (item.edge.sender, item.edge.receiver):
            if (site := end.at(None)) in strength:
                strength[site] = max(strength[site], abs(item.score))
    return sorted(strength, key=lambda site: -strength[site])


@dataclass(frozen=True)
class Looker:
    """Looks at one prompt pair after the other; its circuit is run where it can be."""

    graph: CircuitGraph
    model: Model
    pairs: PromptPairs
    parts: Sequence[Site]
    runner_of: Callable[[Batch], CircuitRunner] | None
    wiring: EdgeSet | None

    @classmethod
    def of(
        cls,
        graph: CircuitGraph,
        model: Model,
        pairs: PromptPairs,
        ablation: str,
        options: Sweep,
    ) -> Looker:
        """What all prompts share, settled once."""
        from patching.circuit_run import settled_runner
        from patching.nodes.edges import EdgeSet

        parts = parts_by_strength(graph, KINDS)[:MOST_PARTS]
        # A circuit whose parts are tied to positions can be drawn but not yet run.
        if any(node.site.position is not None for node in graph.scored_nodes):
            return cls(graph, model, pairs, parts, None, None)
        wiring = EdgeSet.of(edges_of(graph), model.anatomy)
        nodes = wiring.layout.nodes
        runner_of = settled_runner(model, pairs, ablation, None, options, nodes)
        return cls(graph, model, pairs, parts, runner_of, wiring)

    def prompt(self, row: int, heads: Sequence[Site]) -> InsidePrompt:
        """One prompt pair: words, direct effects, and the attention of some heads."""
        batch = Batch.of(self.model, self.pairs[row : row + 1], row)
        writes = {run: writes_at_end(self.model, batch, run, self.parts) for run in RUNS}
        logits = {run: values[0][0] for run, values in writes.items()}
        if self.runner_of is not None and self.wiring is not None:
            logits["circuit"] = self.runner_of(batch).logits(self.wiring)[0]
        ids, words = self._words(row, logits)
        reads = {run: read_out(self.model, *values[1:])[0] for run, values in writes.items()}
        direct = {run: unembedded(self.model, read) for run, read in reads.items()}
        names = [site.name for site in self.parts]
        effects = {
            name: {run: _rounded(direct[run][i, ids]) for run in RUNS}
            for i, name in enumerate(names)
        }
        promotes = {name: self._promoted(direct["clean"][i]) for i, name in enumerate(names)}
        return InsidePrompt(
            **_texts(self.model, self.pairs, row),
            words=words,
            effects=effects,
            promotes=promotes,
            attention=attention(self.model, batch, heads),
        )

    def _words(self, row: int, logits: dict[str, Tensor]) -> tuple[list[int], tuple[Word, ...]]:
        """Answer, counterfactual and the most likely words of every run, each once."""
        roles: dict[int, str] = {}
        for role, ids in (
            ("answer", self.pairs.answer),
            ("counterfactual", self.pairs.counterfactual),
        ):
            for token in ids[row].tolist():
                if token >= 0:
                    roles.setdefault(token, role)
        shares = {run: values.double().softmax(-1) for run, values in logits.items()}
        for values in shares.values():
            for token in values.topk(min(TOP, len(values))).indices.tolist():
                roles.setdefault(token, "")
        words = [
            Word.model_validate(
                {"token": token, "text": self._text(token), "role": role}
                | {run: float(f"{float(values[token]):.6g}") for run, values in shares.items()}
            )
            for token, role in roles.items()
        ]
        return list(roles), tuple(words)

    def _promoted(self, direct: Float[Tensor, " v"]) -> Promoted:
        def words(values: Tensor, sign: float) -> list[tuple[str, float]]:
            best = values.topk(min(PROMOTED, len(values)))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return [(self._text(token), float(f"{sign * value:.4g}")) for token, value in pairs]

        return Promoted(more=tuple(words(direct, 1.0)), less=tuple(words(-direct, -1.0)))

    def _text(self, token: int) -> str:
        return _token(self.model, token)


@torch.no_grad()
def attention(
    model: Model, batch: Batch, heads: Sequence[Site], most: int = MOST_TOKENS
) -> dict[str, dict[str, str]]:
    """The patterns of some heads on one prompt pair, packed, of its last tokens."""
    by_head: dict[str, dict[str, str]] = {head.name: {} for head in heads}
    for run in RUNS if heads else ():
        patterns = head_patterns(model, batch, run, heads)
        for head in heads:
            by_head[head.name][run] = packed(patterns[head][0, -most:, -most:])
    return by_head


@torch.no_grad()
def head_patterns(
    model: Model, batch: Batch, run: str, heads: Sequence[Site]
) -> dict[Site, Float[np.ndarray, "b s s"]]:
    """The attention patterns of some heads in one run; rows are queries."""
    chosen = set(heads)
    patterns: dict[Site, np.ndarray] = {}

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if kind == "pattern":
            for head in chosen:
                if head.layer == layer:
                    patterns[head] = value[:, head.unit].double().cpu().numpy()
        return value

    model.run(batch.tokens(run), batch.mask, tap)
    return patterns


def strongest_alone(
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    evaluation: Evaluation,
    options: Sweep,
) -> tuple[CurvePoint, ...]:
    """Faithfulness at every size that the page shows; none where it is undefined.

    The whole circuit's is the evaluation's.
    """
    from patching.circuit_run import run_circuits

    tied = any(node.site.position is not None for node in graph.scored_nodes)
    if evaluation.faithfulness is None or tied or not len(graph):
        return ()
    parts = [step for step in steps(strongest(graph, MOST_EDGES)) if len(step.graph) < len(graph)]
    whole = CurvePoint(asked=len(graph), kept=len(graph), faithfulness=evaluation.faithfulness)
    if not parts:
        return (whole,)
    runs = run_circuits(
        model,
        pairs,
        [edges_of(step.graph) for step in parts],
        evaluation.metric,
        options,
        ablation=evaluation.ablation,
    )
    span = evaluation.full - evaluation.empty
    shares = ((runs.mean(axis=1) - evaluation.empty) / span).tolist()
    points = [
        CurvePoint(asked=step.asked, kept=len(step.graph), faithfulness=share)
        for step, share in zip(parts, shares, strict=True)
    ]
    return (*points, whole)


def _texts(model: Model, pairs: PromptPairs, row: int) -> dict[str, object]:
    """The tokens of both prompts, and where the named positions are among those shown."""
    mask = pairs.mask[row]
    clean, corrupted = (ids[row][mask].tolist() for ids in (pairs.clean, pairs.corrupted))
    cut = max(len(clean) - MOST_TOKENS, 0)
    padding = len(mask) - len(clean)
    named = {name: int(at[row]) - padding - cut for name, at in pairs.positions.items()}
    return {
        "clean": tuple(_token(model, token) for token in clean[cut:]),
        "corrupted": tuple(_token(model, token) for token in corrupted[cut:]),
        "positions": {name: at for name, at in named.items() if at >= 0},
        "cut": cut,
    }


def _token(model: Model, token: int) -> str:
    return f"#{token}" if model.tokenizer is None else str(model.tokenizer.decode([token]))


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
