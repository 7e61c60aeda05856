"""The engine gives the same on another device, and forgets no tensor on the CPU."""

import numpy as np
import pytest
import torch

from patching.ablation.run import run_ablated
from patching.loading import check_device
from patching.methods import EFFECTS
from patching.model import Model
from patching.scoring import score
from patching.sitesets import kinds_of
from tasks.errors import ModelError
from tests import families
from tests.second_device import Far, second_device

FAMILIES = ("gpt2", "gemma2")
VARIANTS = (
    *EFFECTS,
    "attribution:qk_fix=true",
    "attribution:grad_drop=true",
    "ig:on=activations",
    "relevance:rules=gim",
    "relevance:rules=attnlrp",
)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def there(family):
    """The family's model on the second device; what runs it must run inside the block."""
    with second_device() as device:
        return Model.open(families.build(family), device=device)


def same(family, there, measure):
    """What is measured on the second device equals what is measured on the CPU."""
    expected = measure(families.single(family))
    with second_device():
        found = measure(there)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.fixture(scope="module")
def few():
    return families.make_pairs()


def test_tensors_of_two_devices_do_not_meet():
    near = torch.ones(3)
    with second_device() as device:
        far = torch.zeros(3, device=device)
        assert isinstance(far + 1, Far)
        assert far.device.type == "cuda"
        assert not isinstance(far.cpu(), Far)
        for mixed in (lambda: far + near, lambda: torch.stack([near, far]), lambda: near[far > 0]):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed()
        with pytest.raises(TypeError, match=r"use \.cpu\(\)"):
            far.numpy()
        far[near > 0] = 2.0
        assert far.tolist() == [2, 2, 2]


def test_the_model_is_there(family, there):
    with second_device():
        assert there.device.type == "cuda"
        assert there.hash == families.single(family).hash


def test_a_model_in_memory_stays_where_it_is(family):
    with second_device() as device:
        moved = families.build(family).to(device)
        assert Model.open(moved).device.type == "cuda"
        assert Model.open(moved, device="cpu").device.type == "cpu"


@pytest.mark.parametrize("method", VARIANTS)
@pytest.mark.parametrize("level", ["node", "edge", "attention_edge"])
def test_every_method_scores_there(family, there, few, method, level):
    positions = "named" if level == "attention_edge" else "all"
    same(family, there, lambda m: score(m, few, method, level, positions=positions).values)


@pytest.mark.parametrize("method", VARIANTS)
def test_every_kind_of_site_is_scored_there(family, there, few, method):
    # One at a time, neurons take long; as units of a point they are like heads.
    every = kinds_of(there.anatomy)
    for kind in every if "on=activations" not in method else ("resid_mid", "z", "q", "mlp_out"):
        options = {"level": "site", "sites": kind, "positions": "named"}
        same(family, there, lambda m, o=options: score(m, few, method, **o).values)


def test_mixtures_of_experts_are_scored_there(few):
    with second_device() as device:
        moved = Model.open(families.build("qwen2_moe"), device=device)
    for method in ("activation", "relevance", "secant"):
        for kind in ("expert", "router", "shared"):
            options = {"level": "site", "sites": kind}
            same("qwen2_moe", moved, lambda m, n=method, o=options: score(m, few, n, **o).values)


@pytest.mark.parametrize(
    ("what", "ablation"),
    [
        *((["a0.h0", "m1.n3@END"], kind) for kind in ("zero", "mean", "corrupted")),
        *((["m0->logits", "a0.h1->m1"], kind) for kind in ("mean-by-token", "mean-by-position")),
        *(([], kind) for kind in ("cama:0", "full-peek:0", "self-peek:1", "cut-last:1.h0")),
    ],
)
def test_every_ablation_acts_there(family, there, few, what, ablation):
    same(family, there, lambda m: run_ablated(m, few, what, ablation))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "'gpu' is not a device; write cpu, cuda, cuda:1 or mps"),
        ("cuda:7", "torch sees no device 'cuda:7' on this machine; it sees: "),
        ("xla", "torch sees no device 'xla'"),
    ],
)
def test_devices_that_are_not_there_are_refused(name, words):
    with pytest.raises(ModelError) as caught:
        check_device(name)
    assert words in str(caught.value)
