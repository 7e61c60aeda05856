"""The layout against brute force over names: order, reach, numbers, sets, connectivity."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patching.anatomy import Anatomy
from patching.nodes.edges import EdgeNames, EdgeSet, edges, recognised
from patching.nodes.layout import Layout, layout_of, nodes, senders
from patching.sites import Edge, Site, parse_edge, reaches
from tasks.errors import MethodError, SiteError

LLAMA_8B = Anatomy(32, 32, 8, d_model=4096, d_head=128, d_mlp=14336)


@st.composite
def layouts(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)))
    layers, heads, neurons = shape
    anatomy = Anatomy(layers, heads, heads, 8, 4, neurons, parallel=draw(st.booleans()))
    return layout_of(anatomy, draw(st.sampled_from(["heads", "neurons"])))


def brute_force(layout):
    """All edges by the definition: every sender, every port, whoever comes before whom."""
    sending = [group.site(unit) for group in layout.senders for unit in range(group.count)]
    ports = [(group.site(u), group.port) for group in layout.ports for u in range(group.count)]
    return [
        Edge(sender, receiver, port)
        for receiver, port in ports
        for sender in sending
        if reaches(sender, receiver, layout.anatomy)
    ]


@given(layouts())
def test_edges_are_those_of_the_definition_in_order(layout):
    every = brute_force(layout)
    assert list(EdgeSet.all(layout)) == every
    names = EdgeNames(layout)
    assert list(names) == [edge.name for edge in every]
    assert [names[i] for i in range(len(names))] == list(names)
    assert [names.number(edge.name) for edge in every] == list(range(layout.n_edges))
    assert recognised(list(names), layout.anatomy) == names
    assert recognised(list(names)[1:], layout.anatomy) == tuple(names)[1:]


@given(layouts(), st.integers(0, 2**32 - 1))
def test_what_is_connected_is_on_a_path(layout, seed):
    rng = np.random.default_rng(seed)
    some = EdgeSet(layout, rng.random(layout.n_edges) < rng.random())
    graph = nx.DiGraph((e.sender.name, e.receiver.name) for e in some)
    graph.add_nodes_from(["input", "logits"])
    after = nx.descendants(graph, "input") | {"input"}
    before = nx.ancestors(graph, "logits") | {"logits"}
    on_path = [e for e in some if {e.sender.name, e.receiver.name} <= after & before]
    assert list(some.connected()) == on_path


@given(layouts(), st.integers(0, 2**32 - 1))
def test_sets_are_sets(layout, seed):
    rng = np.random.default_rng(seed)
    one, other = (EdgeSet(layout, rng.random(layout.n_edges) < 0.5) for _ in range(2))
    assert set(one | other) == set(one) | set(other)
    assert set(one - other) == set(one) - set(other)
    assert len(one) == len(set(one))
    kinds = {site.kind for edge in one for site in (edge.sender, edge.receiver)}
    if kinds & {"mlp", "neuron"}:
        assert EdgeSet.of((e.name for e in one), layout.anatomy) == one


@given(layouts(), st.integers(0, 2**32 - 1))
def test_edges_among_nodes_are_those_between_them(layout, seed):
    rng = np.random.default_rng(seed)
    every = brute_force(layout)
    sites = sorted({e.sender for e in every}, key=layout.sender_number)
    kept = [site for site in sites if rng.random() < 0.5]
    kept += [next(site for site in sites if site.kind in ("mlp", "neuron"))]
    wanted = [
        e for e in every if e.sender in kept and (e.receiver in kept or e.receiver.kind == "logits")
    ]
    assert list(EdgeSet.among(kept, layout.anatomy)) == wanted


@given(layouts())
def test_walks_leave_every_sender_by_all_of_its_edges(layout):
    every = brute_force(layout)
    for number in range(layout.n_senders):
        leaving = [i for i, e in enumerate(every) if e.sender == layout.sender(number)]
        mine = [layout.leaving(number, i) for i in range(layout.readers(number))]
        assert mine == leaving
        for i in mine:
            receiver = layout.receiver_number(i)
            site = Site("logits") if receiver == layout.n_senders else layout.sender(receiver)
            assert site == every[i].receiver


def test_labels_stand_behind_their_edge():
    layout = layout_of(Anatomy(1, 1, 1, 8, 4, 4))
    names = EdgeNames(layout, ("S1", "S2"))
    assert list(names)[:2] == ["input@S1->a0.h0@S1<q>", "input@S2->a0.h0@S2<q>"]
    assert [names.number(name) for name in names] == list(range(len(names)))
    assert "input->a0.h0<q>" not in names
    assert "input@S1->a0.h0@S2<q>" not in names
    assert list(names.leaving("input")) == [i for i, n in enumerate(names) if n[:5] == "input"]


def test_nodes_are_listed_in_order():
    anatomy = Anatomy(2, 2, 1, 8, 4, 4)
    assert [site.name for site in nodes(anatomy)] == (
        ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits"]
    )
    assert nodes(anatomy)[:-1] == senders(anatomy)
    assert next(iter(edges(anatomy))).name == "input->a0.h0<q>"


def test_the_shape_of_llama_3_8b_takes_little_room():
    """1.6 million edges are a few thousand numbers until somebody asks for their names."""
    layout = Layout(LLAMA_8B)
    assert layout.n_edges == 1_592_881
    held = (layout.starts, layout.reads, EdgeSet.all(layout).connected().kept)
    assert sum(array.nbytes for array in held) < 4 * 2**20
    assert EdgeNames(layout)[-1] == "m31->logits"


def test_what_is_no_node_here_is_refused():
    heads, neurons = (layout_of(Anatomy(2, 2, 2, 8, 4, 4), kind) for kind in ("heads", "neurons"))
    with pytest.raises(SiteError, match="sends nothing where nodes are heads"):
        heads.number("m0.n1->logits")
    with pytest.raises(SiteError, match="sends nothing where nodes are neurons"):
        neurons.number("input->m0")
    with pytest.raises(SiteError, match="whole MLPs or neurons among its nodes, not both"):
        EdgeSet.of(["m0->logits", "m0.n1->logits"], heads.anatomy)
    with pytest.raises(SiteError, match="tied to a position"):
        EdgeSet.of([parse_edge("m0@1->logits@1")], heads.anatomy)
    with pytest.raises(MethodError, match="did you mean 'neurons'"):
        Layout(heads.anatomy, "neuron")
    with pytest.raises(SiteError, match="mixtures of experts"):
        Layout(Anatomy(1, 1, 1, 8, 4, 4, n_experts=4), "neurons")
