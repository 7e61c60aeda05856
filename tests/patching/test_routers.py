"""Whether both runs choose the same experts, counted prompt by prompt and token by token."""

import numpy as np
import pytest
import torch

import patching
from patching.forward import Record
from patching.routers import routing
from tasks.errors import ModelError
from tests import families


def chosen(model, tokens):
    """The experts of every layer and token of one prompt, as sets."""
    tap = Record(("router",))
    ids = torch.tensor(tokens)[None]
    with torch.no_grad():
        model.run(ids, torch.ones_like(ids, dtype=torch.bool), tap)
    return {
        layer: [set(weights.nonzero().flatten().tolist()) for weights in value[0]]
        for (_, layer), value in tap.values.items()
    }


@pytest.mark.parametrize("family", families.MIXTURES)
@pytest.mark.parametrize("batch_size", [2, 32])
def test_shares_are_those_counted_one_by_one(family, batch_size):
    model, pairs = families.opened(family), families.make_pairs()
    found = routing(model, pairs, batch_size)
    rows = []
    for i in range(len(pairs)):
        clean, corrupted = (ids[i][pairs.mask[i]] for ids in (pairs.clean, pairs.corrupted))
        one, other = chosen(model, clean), chosen(model, corrupted)
        first = int(np.flatnonzero(clean != corrupted)[0])
        rows += [[one[at][t] == other[at][t] for at in one] for t in range(first, len(clean))]
    assert found.tokens == len(rows)
    np.testing.assert_allclose(found.alike, np.mean(rows, axis=0))
    assert found.everywhere == pytest.approx(np.mean([all(row) for row in rows]))
    assert found.share == pytest.approx(np.mean(rows))
    assert 0 < found.share < 1


def test_it_says_itself():
    model, pairs = families.opened("mixtral"), families.make_pairs()
    found = patching.routing(model, pairs)
    assert isinstance(found, patching.Routing)
    assert f"choose the same at {found.share:.1%} of {found.tokens} tokens" in repr(found)
    assert found.to_frame().loc["m1.router", "alike"] == found.alike[1]
    assert f"{found.share:.1%}" in found._repr_html_()
    assert "layer 1" in found._repr_html_()


def test_a_model_without_experts_routes_nothing():
    with pytest.raises(ModelError, match="no experts: its MLPs are ordinary"):
        routing(families.opened("gpt2"), families.make_pairs())
