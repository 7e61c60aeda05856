"""Names of places: what is read is what is written, and what is not there is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.nodes.layout import nodes, ports, senders
from patching.sites import (
    HEAD_PARTS,
    INPUT,
    LOGITS,
    PORTS,
    STREAMS,
    Edge,
    Site,
    head,
    mlp,
    parse_edge,
    parse_site,
    reaches,
    stage,
)
from tasks.errors import FormatError, SiteError

GROUPED = Anatomy(n_layers=3, n_heads=4, n_kv_heads=2, d_model=8, d_head=2, d_mlp=5)
PARALLEL = replace(GROUPED, parallel=True)

positions = st.none() | st.integers(-50, 50) | st.sampled_from(["S2", "IO", "option_A", "a.b"])
bases = st.one_of(
    st.sampled_from([Site("input"), Site("logits")]),
    st.builds(Site, st.sampled_from(("head", *HEAD_PARTS)), st.integers(0, 99), st.integers(0, 99)),
    st.builds(Site, st.just("neuron"), st.integers(0, 99), st.integers(0, 9999)),
    st.builds(Site, st.sampled_from(("mlp", *STREAMS)), st.integers(0, 99)),
)


@st.composite
def anatomies(draw):
    kv = draw(st.integers(1, 3))
    return Anatomy(
        n_layers=draw(st.integers(1, 3)),
        n_heads=kv * draw(st.integers(1, 2)),
        n_kv_heads=kv,
        d_model=8,
        d_head=4,
        d_mlp=8,
        parallel=draw(st.booleans()),
    )


@given(bases, positions)
def test_sites_read_what_they_write(site, position):
    site = site.at(position)
    assert parse_site(site.name) == site
    assert str(site) == site.name


@given(anatomies())
def test_edges_read_what_they_write_and_exist(anatomy):
    for edge in edges(anatomy):
        assert parse_edge(edge.name, anatomy) == edge
        assert str(edge) == edge.name


@given(anatomies())
def test_edges_are_all_pairs_in_order(anatomy):
    """Every port with every sender before it, counted in closed form."""
    found = list(edges(anatomy))
    expected = [
        Edge(sender, receiver, port)
        for receiver, port in ports(anatomy)
        for sender in senders(anatomy)
        if stage(sender, anatomy) < stage(receiver, anatomy)
    ]
    assert found == expected
    assert len(set(found)) == len(found)
    n, h = anatomy.n_layers, anatomy.n_heads
    before = [1 + layer * (h + 1) for layer in range(n)]
    into_mlps = sum(b + (0 if anatomy.parallel else h) for b in before)
    assert len(found) == 3 * h * sum(before) + into_mlps + 1 + n * (h + 1)


@given(anatomies())
def test_the_order_of_computation(anatomy):
    """A part reads what is before it, never itself or what comes after."""
    order = nodes(anatomy)
    assert order[0] == INPUT
    assert order[-1] == LOGITS
    stages = [stage(site, anatomy) for site in order]
    assert stages == sorted(stages)
    assert not any(reaches(site, site, anatomy) for site in order)
    assert all(reaches(INPUT, site, anatomy) for site in order[1:])
    assert all(reaches(site, LOGITS, anatomy) for site in order[:-1])
    assert reaches(head(0, 0), mlp(0), anatomy) != anatomy.parallel
    assert not reaches(mlp(0), head(0, 0), anatomy)


def test_gpt2_small_has_its_known_numbers():
    small = Anatomy(n_layers=12, n_heads=12, n_kv_heads=12, d_model=768, d_head=64, d_mlp=3072)
    assert len(nodes(small)) == 158
    assert sum(1 for _ in edges(small)) == 32_491
    assert len(ports(small)) == 445


@pytest.mark.parametrize("name", ["a1.h3.q", "a1.h3.pattern", "m2.n4", "resid_pre.2@S2", "m0@-1"])
def test_names_of_finer_sites(name):
    assert parse_site(name, GROUPED).name == name


@pytest.mark.parametrize(
    "name",
    ["", "a1", "a1.h", "h3", "a1.h3.w", "m", "m1.h2", "resid.3", "a-1.h0", "m3@", "A1.H3", "m1 "],
)
def test_what_is_no_site(name):
    with pytest.raises(SiteError, match=r"is not a site; write input, a3\.h5"):
        parse_site(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a3.h0", r"no site 'a3\.h0': layers are 0 to 2; the nearest is 'a2\.h0'"),
        ("a0.h4", r"heads are 0 to 3; the nearest is 'a0\.h3'"),
        ("a0.h4.pattern@S1", r"heads are 0 to 3; the nearest is 'a0\.h3\.pattern@S1'"),
        ("a0.h2.k", r"key/value heads are 0 to 1; the nearest is 'a0\.h1\.k'"),
        ("a0.h3.v", r"key/value heads are 0 to 1; the nearest is 'a0\.h1\.v'"),
        ("m1.n5", r"neurons are 0 to 4; the nearest is 'm1\.n4'"),
        ("m7", r"layers are 0 to 2; the nearest is 'm2'"),
        ("a9.h9", r"layers are 0 to 2; heads are 0 to 3; the nearest is 'a2\.h3'"),
        ("resid_post.3", r"layers are 0 to 2; the nearest is 'resid_post\.2'"),
    ],
)
def test_sites_that_this_model_does_not_have(name, message):
    assert parse_site(name)
    with pytest.raises(SiteError, match=message):
        parse_site(name, GROUPED)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a0.h0", "is not an edge; write sender->receiver"),
        ("->m0", "is not an edge"),
        ("a0.h0->", "is not an edge"),
        ("a0.h0->a1.h0", "a head receives at a port; add <q>, <k> or <v>"),
        ("a0.h0->a1.h0<z>", "a head receives at a port"),
        ("a0.h0->m1<q>", "m1 has one input and no port 'q'"),
        ("m0->logits<k>", "logits has one input and no port 'k'"),
        ("logits->m1", "logits cannot send; senders are input, heads, MLPs and neurons"),
        ("resid_pre.0->m1", r"resid_pre\.0 cannot send"),
        ("m0->resid_post.1", r"resid_post\.1 cannot receive"),
        ("m0->input", "input cannot receive"),
    ],
)
def test_what_is_no_edge(name, message):
    with pytest.raises(SiteError, match=message):
        parse_edge(name)


@pytest.mark.parametrize(
    ("name", "anatomy", "message"),
    [
        ("m1->m0", GROUPED, r"m0 does not come after m1.*the first that can is 'a2\.h0'"),
        ("m2->a2.h0<q>", GROUPED, "the first that can is 'logits'"),
        ("a1.h0->a1.h1<v>", GROUPED, "the first that can is 'm1'"),
        ("a1.h0->m1", PARALLEL, r"the first that can is 'a2\.h0'"),
        ("a0.h0->m5", GROUPED, "layers are 0 to 2"),
        ("a0.h7->m1", GROUPED, "heads are 0 to 3"),
    ],
)
def test_edges_that_this_model_cannot_have(name, anatomy, message):
    assert parse_edge(name)
    with pytest.raises(SiteError, match=message):
        parse_edge(name, anatomy)


def test_heads_of_every_port_are_query_heads():
    """Also under grouped-query attention: an edge belongs to one query head."""
    assert parse_edge("m0->a1.h3<k>", GROUPED).receiver == head(1, 3)
    into = [edge for edge in edges(GROUPED) if edge.receiver.layer == 1 and edge.port in PORTS]
    assert {(edge.receiver.unit, edge.port) for edge in into} == {
        (unit, port) for unit in range(4) for port in PORTS
    }


@given(anatomies())
def test_anatomy_survives_a_file(anatomy):
    assert Anatomy.from_json(anatomy.to_json()) == anatomy
    shared = [anatomy.kv_head(unit) for unit in range(anatomy.n_heads)]
    assert shared == sorted(shared)
    assert set(shared) == set(range(anatomy.n_kv_heads))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 0}, "counts must be positive integers"),
        ({"n_heads": "4"}, "counts must be positive integers"),
        ({"n_kv_heads": 3}, "4 heads cannot share 3 key/value heads evenly"),
        ({"width": 3}, "unexpected keyword argument 'width'"),
        ({"d_model": None}, "counts must be positive integers"),
        ({"d_mlp": "8"}, "d_mlp must be 0 or more"),
        ({"n_layers": 10**25}, "heads; at most 100,000 are read"),
        ({"d_mlp": 10**30}, "neurons; at most 100,000,000 are read"),
        ({"n_experts": 10**9}, "experts; at most 100,000 are read"),
    ],
)
def test_an_anatomy_that_makes_no_sense(change, message):
    with pytest.raises(FormatError, match=message):
        Anatomy.from_json(GROUPED.to_json() | change)
