"""The strongest latents of a study, joined by edges, as a circuit with what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from circuits.results.tables import Table

if TYPE_CHECKING:
    from circuits.clock import Progress
    from graphs import CircuitGraph
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.latent_edges import LatentEdges
    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs

TITLES = ("edge", "score")


def joined_latents(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Sequence[Dictionary],
    scores: Scores,
    count: int,
    progress: Progress | None = None,
) -> tuple[LatentEdges | None, CircuitGraph | None]:
    """Edges between the ``count`` strongest latents, and the circuit that they make.

    Nothing where none are asked for.

    Raises:
        SiteError, MethodError: see :func:`patching.dictionaries.latent_edges.latent_edges`.
    """
    if count < 1:
        return None, None
    from patching.dictionaries.latent_edges import latent_edges

    ranked = (name.partition("@")[0] for name in scores.ranked() if ".err" not in name)
    strongest = list(dict.fromkeys(ranked))[:count]
    found = latent_edges(model, pairs, dictionaries, strongest, progress=progress)
    return found, _circuit(scores, found)


def _circuit(scores: Scores, found: LatentEdges) -> CircuitGraph:
    from graphs import CircuitGraph
    from graphs.info import CircuitInfo, Selection
    from graphs.parts import ScoredEdge
    from patching.latent_sites import parse_node
    from patching.sites import Edge

    edges = [
        ScoredEdge(Edge(parse_node(sender), parse_node(receiver)), score)
        for (sender, receiver), score in found.edges.items()
    ]
    info = CircuitInfo.from_scores(
        scores,
        level="edge",
        method="secant",
        selection=Selection(considered=len(edges), chosen=len(edges), kept=len(edges)),
    )
    return CircuitGraph(info, edges)


def edge_table(found: LatentEdges, top: int) -> Table:
    """The strongest edges."""
    ranked = sorted(found.edges.items(), key=lambda pair: -abs(pair[1]))
    rows = [[f"{a}->{b}", f"{score:+.4f}"] for (a, b), score in ranked[:top]]
    return Table(TITLES, rows)


def remainders(found: LatentEdges) -> dict[str, Any]:
    """What every receiver's score is, and what of it is on no edge."""
    return {"scores": found.scores, "rest": found.rest, "selection": found.selection}
