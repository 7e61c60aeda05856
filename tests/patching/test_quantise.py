"""Rounded weights are rounded as said, change the run, and are put back bit for bit."""

import pytest
import torch

from patching.model import Model
from patching.quantise import quantised, rounded
from tasks.errors import MethodError
from tests import families


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_has_few_levels_and_moves_no_weight_by_more_than_half_a_step(bits):
    weight = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    weight[:, 3] = 0
    found = rounded(weight, bits)
    step = weight.abs().amax(0) / (2 ** (bits - 1) - 1)
    assert ((found - weight).abs() <= step / 2 + 1e-6).all()
    assert all(len(column.unique()) <= 2**bits - 1 for column in found.T)
    assert not found[:, 3].any()
    torch.testing.assert_close(rounded(found, bits), found)


def every_weight(model):
    """All parameters of the model."""
    return [weight.detach().clone() for weight in model.hf.parameters()]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_model_is_as_before_afterwards_also_after_an_error(family):
    model, pairs = Model.open(families.build(family)), families.make_pairs()
    tokens, mask = torch.tensor(pairs.clean), torch.tensor(pairs.mask)
    before, plain = every_weight(model), model.run(tokens, mask)
    logits = {}
    for bits in (3, 8):
        with quantised(model, bits):
            logits[bits] = model.run(tokens, mask)
    with pytest.raises(ZeroDivisionError), quantised(model, 3):
        raise ZeroDivisionError
    assert all(torch.equal(a, b) for a, b in zip(before, every_weight(model), strict=True))
    assert torch.equal(model.run(tokens, mask), plain)
    assert (logits[8] - plain).abs().mean() < (logits[3] - plain).abs().mean() / 4
    assert (logits[8] != plain).any()


def test_attention_and_mlps_are_rounded_and_nothing_else():
    model = Model.open(families.build("llama"))
    hf = model.hf
    before = {name: weight.detach().clone() for name, weight in hf.named_parameters()}
    with quantised(model, 2):
        changed = {n for n, weight in hf.named_parameters() if not torch.equal(weight, before[n])}
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert {name for name in before if any(kind in name for kind in kinds)} == changed


@pytest.mark.parametrize("bits", [1, 17, 0])
def test_bits_that_are_none(bits):
    with pytest.raises(MethodError, match=f"2 to 16 bits, given {bits}"):
        rounded(torch.ones(2, 2), bits)
