"""Random anatomies, circuits and scores for property tests."""

import numpy as np
from hypothesis import strategies as st

from graphs import CircuitGraph, CircuitInfo, Metrics, ScoredEdge, ScoredNode, Selection, top_edges
from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.nodes.layout import nodes
from patching.scores import Scores
from patching.sites import Edge, Site, parse_edge

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, max_value=1e300)
# What XML and JSON allow, odd tokens included; the rest is tested apart.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
positions = st.none() | st.integers(-3, 40) | st.sampled_from(["S1", "IO", "Ġthe", 'a"b&c', "é ü"])


@st.composite
def anatomies(draw, layers=3, heads=3):
    n_heads = draw(st.integers(1, heads))
    return Anatomy(
        n_layers=draw(st.integers(1, layers)),
        n_heads=n_heads,
        n_kv_heads=draw(st.sampled_from([k for k in range(1, n_heads + 1) if n_heads % k == 0])),
        d_model=8,
        d_head=4,
        d_mlp=16,
        parallel=draw(st.booleans()),
        family=draw(st.sampled_from(["", "gpt2"])),
    )


@st.composite
def infos(draw, anatomy, level="edge"):
    numbers = st.none() | finite
    return CircuitInfo(
        anatomy=anatomy,
        level=level,
        task=draw(texts),
        method=draw(texts),
        metric=draw(texts),
        direction=draw(st.sampled_from(["noising", "denoising"])),
        prompts=draw(st.integers(0, 1000)),
        seed=draw(st.none() | st.integers(-5, 2**40)),
        model=draw(texts),
        model_hash=draw(texts),
        options=draw(st.dictionaries(texts, finite | texts | st.booleans() | st.none())),
        selection=draw(
            st.builds(
                Selection,
                rule=st.sampled_from(["top", "all"]),
                absolute=st.booleans(),
                requested=st.none() | st.integers(0, 9),
                threshold=numbers,
                considered=st.integers(0, 99),
                chosen=st.integers(0, 9),
                kept=st.integers(0, 9),
            )
        ),
        metrics=draw(st.builds(Metrics, numbers, numbers, numbers, numbers, texts)),
    )


@st.composite
def circuits(draw, anatomy=None, at=positions, info=None):
    """An edge circuit, pruned or not, with positions on some of its nodes."""
    anatomy = anatomy or draw(anatomies())
    every = list(edges(anatomy))
    chosen = draw(st.lists(st.sampled_from(every), unique=True, max_size=12))
    found = {}
    for edge in chosen:
        edge = Edge(edge.sender.at(draw(at)), edge.receiver.at(draw(at)), edge.port)
        found[edge] = ScoredEdge(edge, draw(finite), draw(st.none() | positive))
    alone = draw(st.lists(st.sampled_from(nodes(anatomy)), unique=True, max_size=3))
    listed = [ScoredNode(site, draw(st.none() | finite)) for site in alone]
    return CircuitGraph(info or draw(infos(anatomy)), found.values(), listed)


@st.composite
def node_circuits(draw):
    anatomy = draw(anatomies())
    neurons = [Site("neuron", 0, unit) for unit in range(3)]
    chosen = draw(st.lists(st.sampled_from([*nodes(anatomy), *neurons]), unique=True, max_size=8))
    listed = [
        ScoredNode(site.at(draw(positions)), draw(st.none() | finite), draw(st.none() | positive))
        for site in chosen
    ]
    return CircuitGraph(draw(infos(anatomy, "node")), (), listed)


@st.composite
def edge_scores(draw, tied=False):
    """Scores over all edges of a small model, listed in random order."""
    anatomy = draw(anatomies())
    names = draw(st.permutations([edge.name for edge in edges(anatomy)]))
    values = st.integers(-3, 3).map(float) if tied else st.floats(-10, 10)
    totals = draw(st.lists(values, min_size=len(names), max_size=len(names)))
    return scores_of(names, totals, anatomy)


def scores_of(names, totals, anatomy, level="edge", count=2, **changes):
    values = {"method": "relevance", "direction": "noising", "metric": "logit_diff", **changes}
    return Scores(
        names=tuple(names),
        totals=np.asarray(totals, dtype=np.float64),
        count=count,
        level=level,
        anatomy=anatomy,
        **values,
    )


SMALL = Anatomy(2, 2, 2, 8, 4, 16)


def circuit(*scored, anatomy=SMALL, **info):
    """A circuit from ``(name, score)`` pairs."""
    listed = [ScoredEdge(parse_edge(name), score) for name, score in scored]
    return CircuitGraph(CircuitInfo(anatomy, **info), listed)


def large(n):
    """The strongest of 6 layers with 8 heads, scores spread evenly."""
    anatomy = Anatomy(6, 8, 8, 64, 8, 256)
    names = [edge.name for edge in edges(anatomy)]
    values = [((i * 7919) % 10007) / 10007 - 0.4 for i in range(len(names))]
    return top_edges(scores_of(names, values, anatomy), n, fill=True)


def with_metrics(graph, full, empty, circuit, ablation=""):
    """The graph with measured metrics, and the faithfulness that follows from them."""
    share = None if full == empty else (circuit - empty) / (full - empty)
    return graph.with_info(metrics=Metrics(full, empty, circuit, share, ablation))
