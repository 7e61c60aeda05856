"""The circuit of scores at places: the strongest edges that a budget pays for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphs import CircuitGraph
from graphs.info import CircuitInfo
from graphs.parts import ScoredEdge
from patching.placed import whole_cost
from patching.placed_budget import PlacedScores
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.model import Model
    from patching.scores import Scores
    from patching.sites import Label
    from tasks import PromptPairs

WORDS = {"named": "named", "all": "token"}
"""How a discovery's positions are written, and what scoring calls them."""


def circuit_at_places(
    scores: Scores, model: Model, pairs: PromptPairs, budget: int, absolute: bool = True
) -> CircuitGraph:
    """The strongest edges at places that cost no more than ``budget`` plain edges, and connect.

    The circuit's options hold its places, each with its tokens in the first prompt, and its cost
    beside that of the whole model.

    Raises:
        MethodError: the scores are not at places.
    """
    placed = PlacedScores.of(scores)
    if placed is None:
        raise MethodError("a circuit at positions needs scores at places (level='placed')")
    order = placed.order(absolute)
    taken = order[: placed.affordable(order, budget)]
    circuit = placed.circuit(taken)
    kept = np.concatenate([circuit.kept.ravel(), circuit.crossing.ravel()])
    spreads = scores.standard_error
    edges = [
        ScoredEdge(edge, float(scores.values[i]), None if spreads is None else float(spreads[i]))
        for edge, i in zip(circuit, np.flatnonzero(kept).tolist(), strict=True)
    ]
    cost = circuit.cost(placed.sizes, placed.between)
    options = {
        name: value for name, value in scores.options.items() if not name.endswith("_shares")
    }
    options |= {
        "places": tokens_at(placed.places, model, pairs),
        "cost": round(cost, 3),
        "cost_of_all": whole_cost(placed.layout),
    }
    info = replace(CircuitInfo.from_scores(scores), options=options).selected(
        rule="placed", requested=budget, absolute=absolute, chosen=len(taken), kept=len(edges)
    )
    return CircuitGraph(info, edges)


def tokens_at(places: tuple[Label, ...], model: Model, pairs: PromptPairs) -> dict[str, str]:
    """The tokens of the first clean prompt at every place; of the rest no text is given."""
    from patching.places import REST, numbers_of

    (at, mask), ids = numbers_of(places, pairs[:1])[0], pairs.clean[0]
    ids = ids[len(ids) - len(at) :]
    tokenizer = model.tokenizer

    def text(number: int) -> str:
        tokens = ids[mask & (at == number)].tolist()
        if tokenizer is None:
            return " ".join(f"#{token}" for token in tokens)
        return str(tokenizer.decode(tokens))

    texts = {str(label): text(number) for number, label in enumerate(places)}
    # All tokens without a name are no text that could be read.
    return texts | ({REST: "other tokens"} if REST in texts and not pairs.spans else {})
