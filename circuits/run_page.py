"""The page of a run: its circuit with the prompts beside it, and faithfulness by size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphs.page import READABLE, Prompt, to_html

if TYPE_CHECKING:
    from circuits.evaluate import Evaluation
    from graphs import CircuitGraph
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs

SIZES = (5, 10, 20, 50, READABLE)
MOST_PROMPTS = 20


def run_page(
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    evaluation: Evaluation,
    options: Sweep,
) -> str:
    """The HTML of a circuit that was evaluated on `pairs`; the first prompts are shown."""
    curve = strongest_alone(graph, model, pairs, evaluation, options)
    return to_html(graph, page_prompts(model, pairs), curve)


def page_prompts(model: Model, pairs: PromptPairs) -> list[Prompt]:
    """The first clean prompts, token by token, with their named positions."""
    tokenizer, prompts = model.tokenizer, []
    for row in range(min(len(pairs), MOST_PROMPTS)):
        ids = pairs.clean[row][pairs.mask[row]].tolist()
        padding = pairs.clean.shape[1] - len(ids)
        tokens = [f"#{id}" if tokenizer is None else tokenizer.decode([id]) for id in ids]
        named = {name: int(at[row]) - padding for name, at in pairs.positions.items()}
        prompts.append(Prompt(tokens, named))
    return prompts


def strongest_alone(
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    evaluation: Evaluation,
    options: Sweep,
) -> dict[int, float]:
    """Faithfulness of the strongest edges alone, by their number.

    Empty for a circuit of nodes, and where faithfulness is undefined.
    """
    from patching.circuit_run import run_circuits

    sizes = [size for size in SIZES if size < len(graph.edges)]
    if evaluation.faithfulness is None or not sizes:
        return {}
    ranked = graph.ranked()
    chosen = [ranked[:size] for size in sizes]
    runs = run_circuits(
        model, pairs, chosen, evaluation.metric, options, ablation=evaluation.ablation
    )
    span = evaluation.full - evaluation.empty
    shares = (runs.mean(axis=1) - evaluation.empty) / span
    return dict(zip(sizes, shares.tolist(), strict=True))
