"""The method ``auto``: exact where that is cheap, elsewhere the right estimate with a check."""

import numpy as np
import pytest

from patching.choice import CHECKED, ESTIMATE, Check, Chosen
from patching.costs import BACKWARD
from patching.scores import Scores
from patching.scoring import prompt_scores, score
from patching.sites import parse_site
from patching.sitesets import point_of, site_set
from tasks.errors import FormatError, MethodError
from tests import families

CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def even_pairs():
    """Pairs of one length, so that costs can be counted by hand."""
    return families.make_pairs(n=2, length=6, padding=(0,), differing=(2, 4))


def blocks(model, pairs, names):
    """The cost in block passes, site by site, and of the estimate, point by point."""
    layers, width = model.anatomy.n_layers, pairs.clean.shape[1]
    first = min(np.flatnonzero((pairs.clean != pairs.corrupted).any(0)))
    exact, points = 0.0, set()
    for name in names:
        site = parse_site(name, model.anatomy)
        points.add(point_of(site))
        if not isinstance(site.position, int) or site.position >= first:
            exact += (layers - max(site.layer, 0)) * (width - first) / width
    estimate = sum(2 * (1 + BACKWARD) * (layers - layer) for _, layer in points)
    return exact, estimate


@pytest.mark.parametrize("sites", ["node", "resid_pre", "q", "pattern", "neuron"])
@pytest.mark.parametrize("positions", ["all", "token"])
def test_each_kind_is_done_in_the_cheaper_of_the_two_right_ways(
    gpt2, even_pairs, sites, positions, direction
):
    how = {"level": "site", "direction": direction, "sites": sites, "positions": positions}
    found = score(gpt2, even_pairs, "auto", **how)
    ways = {True: score(gpt2, even_pairs, "activation", **how)}
    ways[False] = score(gpt2, even_pairs, ESTIMATE, **how)
    kinds: dict[str, list[str]] = {}
    for name in found.names:
        kinds.setdefault(point_of(parse_site(name, gpt2.anatomy))[0], []).append(name)
    cost = cost_exact = 2.0 * gpt2.anatomy.n_layers
    for kind, names in kinds.items():
        exact, estimate = blocks(gpt2, even_pairs, names)
        cost, cost_exact = cost + min(exact, estimate), cost_exact + exact
        assert kind in (found.chosen.exact if exact <= estimate else found.chosen.estimated)
        expected = ways[exact <= estimate]
        np.testing.assert_allclose([found[n] for n in names], [expected[n] for n in names], **CLOSE)
    assert found.chosen.cost_exact == pytest.approx(cost_exact)
    assert (found.chosen.check is None) == (not found.chosen.estimated)
    if found.chosen.check is None:
        assert found.chosen.cost == pytest.approx(cost)
        return
    assert found.chosen.cost > cost
    checked_by_hand(found, ways[True], [n for k in found.chosen.estimated for n in kinds[k]])


def checked_by_hand(found, exact, estimated):
    """The strongest of the estimated sites are among those done exactly."""
    half = min(len(estimated), CHECKED // 2)
    strongest = sorted(estimated, key=lambda name: -abs(found[name]))[:half]
    same = [np.sign(found[name]) == np.sign(exact[name]) for name in strongest]
    assert found.chosen.check.signs == pytest.approx(np.mean(same))
    assert found.chosen.check.sites == min(len(estimated), CHECKED)
    worst = max(abs(found[name] - exact[name]) for name in estimated)
    assert found.chosen.check.worst <= worst + 1e-5
    assert found.chosen.check.worst >= max(abs(found[n] - exact[n]) for n in strongest) - 1e-5


def test_an_estimate_that_misses_is_said_to():
    exact = np.array([2.0, -1.0, 0.5, 0.1])
    assert Check.of(exact, exact * 1.1, 2).right
    turned = Check.of(exact, exact * [-1, 1, 1, 1], 2)
    assert not turned.right
    assert turned.signs == 0.5
    assert "misses here: use activation" in str(turned)
    assert not Check.of(exact, np.array([2.0, -1.0, 3.0, -4.0]), 2).right
    assert Check.of(exact[:1], exact[:1], 1).pearson is None


def test_split_and_chosen_sites_keep_their_names(gpt2, even_pairs):
    every = site_set("node", gpt2.anatomy, even_pairs, "token")
    for sites in (every, every.sample(17, seed=1)):
        seen = []
        for kinds in (["z", "input"], ["mlp_out"]):
            some, places = sites.split(kinds)
            assert [sites.names[i] for i in places] == list(some.names)
            seen += places.tolist()
        assert sorted(seen) == list(range(len(sites)))
        assert sites.at([3, 1]).names == (sites.names[1], sites.names[3])


def test_edges_are_scored_by_secant_and_say_so(gpt2, pairs):
    found = score(gpt2, pairs)
    assert (found.method, found.chosen) == ("secant", None)
    np.testing.assert_array_equal(found.values, score(gpt2, pairs, "secant").values)


def test_what_was_chosen_is_kept_with_the_scores(gpt2, even_pairs, tmp_path):
    how = {"level": "site", "sites": "resid_pre", "positions": "token"}
    found, rows = prompt_scores(gpt2, even_pairs, **how)
    np.testing.assert_allclose(rows.mean(0), found.values, **CLOSE)
    found.save(tmp_path / "s.safetensors")
    again = Scores.load(tmp_path / "s.safetensors")
    assert again.chosen == found.chosen
    assert str(found.chosen.cost_exact.__round__()) in str(again.chosen)
    assert "block passes" in found._repr_html_()
    assert (found + again).chosen == found.chosen
    with pytest.raises(FormatError, match="what auto chose"):
        Chosen.from_json({"exact": 3})


def test_auto_has_no_options(gpt2, pairs):
    with pytest.raises(MethodError, match="option of auto 'steps'"):
        score(gpt2, pairs, "auto:steps=3", "node")
