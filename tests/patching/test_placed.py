"""Circuits at places: run as defined, connected as defined, counted on the axis of plain ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from patching.circuit_run import run_circuits
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from patching.placed import PlacedEdges, plain_cost, tied, whole_cost
from patching.places import REST, pair_sizes, place_numbers, place_sizes, places_of
from tasks.errors import MethodError, SiteError
from tests import definitions, families

EXACT = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(scope="module")
def even_pairs():
    """Two pairs of one length, so that every token is a place."""
    return families.make_pairs(n=2, length=7, padding=(0,), differing=(2, 4))


def drawn(model, places, share, seed):
    """Some of the edges at places; the early and the crossing ones more often."""
    rng = np.random.default_rng(seed)
    every = PlacedEdges.all(layout_of(model.anatomy), places)
    kept = rng.random(every.kept.shape) < share
    crossing = rng.random(every.crossing.shape) < share
    return PlacedEdges(every.layout, every.places, kept, crossing)


def masks(places, batch):
    """Which tokens are in each place."""
    numbers = place_numbers(places, batch)
    return {label: numbers == number for number, label in enumerate(places)}


@pytest.mark.parametrize("share", [0.4, 0.85])
@pytest.mark.parametrize("positions", ["named", "token"])
def test_a_circuit_at_places_is_run_as_it_is_defined(model, pairs, even_pairs, positions, share):
    pairs = even_pairs if positions == "token" else pairs
    places = places_of(positions, pairs)
    circuit = drawn(model, places, share, seed=3)
    batch = families.one_batch(model, pairs)
    names = [edge.name for edge in circuit]
    expected = definitions.placed_metric(model, batch, names, masks(places, batch))
    for form in (circuit, names):
        found = run_circuits(model, pairs, [form])[0]
        np.testing.assert_allclose(found, expected.numpy(), **EXACT)


def test_a_plain_circuit_at_all_places_is_the_plain_circuit(model, pairs):
    layout, rng = layout_of(model.anatomy), np.random.default_rng(1)
    some = EdgeSet(layout, rng.random(layout.n_edges) < 0.6)
    sets = [some, EdgeSet.all(layout), EdgeSet.none(layout)]
    placed = [PlacedEdges.plain(each, places_of("named", pairs)) for each in sets]
    found = run_circuits(model, pairs, [*sets, *placed])
    np.testing.assert_allclose(found[3:], found[:3], **EXACT)


def brute_connected(circuit):
    """Edges on a way from input to logits, found by growing both ends edge by edge."""
    edges = [*circuit]
    first, last = "input", "logits"

    def steps(edge):
        """What an edge needs and gives: nodes are (name, place, 'reads q/k/v' or 'writes')."""
        sender, receiver = edge.sender, edge.receiver
        source, query = sender.position, receiver.position
        if sender.at(None) == receiver.at(None):
            name = sender.at(None).name
            needs = [(name, label, "k") for label in circuit.places]
            needs += [(name, source, "v"), (name, query, "q")]
            return needs, (name, query, "writes")
        gives = edge.port if receiver.kind == "head" else "writes"
        return [(sender.at(None).name, source, "writes")], (receiver.at(None).name, query, gives)

    moved = True
    while moved:
        start = {(first, label, "writes") for label in circuit.places}
        reached, grown = set(start), True
        while grown:
            fresh = {g for needs, g in map(steps, edges) if any(n in reached for n in needs)}
            grown = not fresh <= reached
            reached |= fresh
        needed = {(last, label, "writes") for label in circuit.places}
        grown = True
        while grown:
            fresh = {n for needs, g in map(steps, edges) if g in needed for n in needs}
            grown = not fresh <= needed
            needed |= fresh
        left = [
            e for e in edges if any(n in reached for n in steps(e)[0]) and steps(e)[1] in needed
        ]
        moved = len(left) < len(edges)
        edges = left
    return {edge.name for edge in edges}


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_what_connects_is_what_grows_together_from_both_ends(family, share, pairs):
    model = families.opened(family)
    for seed in range(4):
        circuit = drawn(model, places_of("named", pairs), share, seed)
        assert {edge.name for edge in circuit.connected()} == brute_connected(circuit)


def test_what_does_not_connect_makes_no_difference(model, pairs):
    if model.blocks[0].ln1_post is not None:
        pytest.skip("under a post-norm every head's share depends on all heads, plain or placed")
    circuit = drawn(model, places_of("named", pairs), 0.25, seed=5)
    found = run_circuits(model, pairs, [circuit, circuit.connected()])
    np.testing.assert_allclose(found[0], found[1], **EXACT)


def test_costs_stand_on_the_axis_of_plain_circuits(gpt2, pairs, even_pairs):
    layout, rng = layout_of(gpt2.anatomy), np.random.default_rng(2)
    some = EdgeSet(layout, rng.random(layout.n_edges) < 0.1)
    for positions, those in (("named", pairs), ("token", even_pairs)):
        places = places_of(positions, those)
        sizes, between = place_sizes(places, those), pair_sizes(places, those)
        assert sizes.sum() == pytest.approx(1)
        assert between.sum() == pytest.approx(1)
        for plain, whole in ((some, plain_cost(some)), (EdgeSet.all(layout), whole_cost(layout))):
            assert PlacedEdges.plain(plain, places).cost(sizes, between) == pytest.approx(whole)
    assert sizes == pytest.approx(np.full(7, 1 / 7))
    assert between[3, 4] == 0
    assert between[4, 3] == pytest.approx(1 / 28)


def test_places_hold_every_token_once(pairs, gpt2):
    places = places_of("named", pairs)
    assert set(places) == {"X", "END", REST}
    batch = families.one_batch(gpt2, pairs)
    numbers = place_numbers(places, batch)
    assert torch.equal(numbers < len(places), batch.mask)
    assert int((numbers == places.index("X")).sum()) == len(pairs)


def test_circuits_at_places_read_back_and_bad_ones_are_refused(gpt2, pairs):
    circuit = drawn(gpt2, places_of("named", pairs), 0.1, seed=0)
    names = [edge.name for edge in circuit]
    again = PlacedEdges.of(names, gpt2.anatomy, circuit.places)
    assert again == circuit
    assert hash(again) == hash(circuit)
    assert tied(names)
    assert len(names) == len(circuit)
    with pytest.raises(SiteError, match="tied to no position"):
        PlacedEdges.of([names[0], "input->m0"], gpt2.anatomy)
    with pytest.raises(SiteError, match="leads from one position to another"):
        PlacedEdges.of(["input@X->m0@END"], gpt2.anatomy)
    with pytest.raises(SiteError, match="have no position 'S2'"):
        run_circuits(gpt2, pairs, [["input@S2->logits@S2"]])
    with pytest.raises(SiteError, match="not neurons"):
        PlacedEdges.none(layout_of(gpt2.anatomy, "neurons"), ("X",))
    with pytest.raises(MethodError, match="token or named"):
        places_of("all", pairs)


def test_names_for_one_token_are_refused():
    twice = families.make_pairs(n=2, length=7, padding=(0,), differing=(6,))
    with pytest.raises(SiteError, match="X and END are one token in prompt 2"):
        places_of("named", families.replace_positions(twice, X=[3, 6], END=[6, 6]))
    with pytest.raises(SiteError, match="'rest' is the place of all tokens"):
        places_of("named", families.replace_positions(twice, rest=[1, 1]))


def test_spans_are_places_of_prompts_of_unequal_length(gpt2, pairs):
    """A span of the first tokens, one of the middle, one of the last, each of another length."""
    start, width = pairs.mask.argmax(1), pairs.clean.shape[1]
    cuts = np.stack([start, start + 1, np.resize((4, 5, 6), len(pairs)), np.full(5, width)], 1)
    names = ("rest", "middle", "end")
    spans = {name: cuts[:, i : i + 2] for i, name in enumerate(names)}
    pairs = replace(pairs, spans=spans)
    places = places_of("named", pairs)
    assert places == names
    batch = families.one_batch(gpt2, pairs)
    assert torch.equal(place_numbers(places, batch) < 3, batch.mask)
    circuit = drawn(gpt2, places, 0.7, seed=4)
    names_of = [edge.name for edge in circuit]
    expected = definitions.placed_metric(gpt2, batch, names_of, masks(places, batch))
    found = run_circuits(gpt2, pairs, [names_of])[0]
    np.testing.assert_allclose(found, expected.numpy(), **EXACT)
    with pytest.raises(SiteError, match="cannot be part of a site's name"):
        places_of("named", replace(pairs, spans={"a->b": cuts[:, ::3]}))
