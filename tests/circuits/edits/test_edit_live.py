"""Edits in force: what each does, restated from its definition, and that nothing is left behind."""

from functools import cache

import pytest
import torch

from circuits.edits import edit as e
from circuits.edits.live import editing
from patching.directions import BASES, default_basis, token_direction, unembedding
from patching.forward import Record, Write
from patching.generate import generate
from patching.model import Model
from patching.weights import value_vectors
from tasks.errors import EditError
from tests.families import FAMILIES, build, make_pairs, one_batch, single

VECTOR = tuple(float(i % 5) - 1.7 for i in range(32))
NARROW = VECTOR[:8]
EVERY = {
    "add": e.add("m1.n3", {"#5": -1.0, "#7": 0.5}),
    "project": e.project("m1.n3", VECTOR),
    "scale neuron": e.scale("m0.n2", 0.0),
    "scale head": e.scale("a0.h1", -0.5),
    "rank one": e.RankOne(
        site="m0", keys=tuple([0.1] * 48), direction=e.Direction(vector=VECTOR), strength=0.3
    ),
    "scale mlp": e.scale("m1", 0.5),
    "swap": e.swap_attention("a1.h2", 3, -1),
    "swap named": e.swap_attention("a1.h2", "X", "END"),
    "steer": e.steer("resid_post.0", VECTOR, 0.4),
    "steer there": e.steer("resid_post.0@X", VECTOR),
    "clamp": e.clamp("resid_pre.1", VECTOR, low=-0.1, high=0.1),
    "affine": e.affine("attn_out.1", offset=VECTOR),
}


@cache
def in_type(dtype):
    return Model.open(build("llama"), dtype=dtype)


@pytest.fixture(scope="module")
def batch():
    return one_batch(single("llama"), make_pairs())


def columns(batch):
    return {name: torch.tensor(at - batch.dropped) for name, at in batch.pairs.positions.items()}


@pytest.mark.parametrize("name", EVERY)
def test_every_edit_acts_and_leaves_every_bit_as_it_was(name, batch):
    model = single("llama")
    state = {k: v.clone() for k, v in model.hf.state_dict().items()}
    before = model.run(batch.clean, batch.mask)
    with pytest.raises(RuntimeError, match="meanwhile"), editing(model, EVERY[name]) as edited:
        during = edited.run(batch.clean, batch.mask, columns(batch))
        assert (during - before).abs().max() > 1e-4
        raise RuntimeError("meanwhile")
    after = model.hf.state_dict()
    assert all(torch.equal(after[k], value) for k, value in state.items())
    assert torch.equal(model.run(batch.clean, batch.mask), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_edits_are_the_same_in_other_number_types(name, dtype):
    changes = {}
    for one in (torch.float32, dtype):
        model = in_type(one)
        other = one_batch(model, make_pairs())
        before = model.run(other.clean, other.mask)
        with editing(model, EVERY[name]) as edited:
            after = edited.run(other.clean, other.mask, columns(other))
        assert after.dtype == before.dtype
        changes[one] = (after - before).double()
    wanted, found = changes.values()
    rounding = 0.02 * float(before.double().norm()) if dtype == torch.bfloat16 else 0.0
    assert float((found - wanted).norm()) < 1e-3 * float(wanted.norm()) + rounding


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_head_or_neuron_is_a_zeroed_activation(family):
    model = single(family)
    batch = one_batch(model, make_pairs())

    def zero(axis_index):
        def change(value):
            value = value.clone()
            value[:, :, axis_index] = 0
            return value

        return change

    for name, point, unit in [("a1.h2", ("z", 1), 2), ("m0.n5", ("mlp_post", 0), 5)]:
        wanted = model.run(batch.clean, batch.mask, Write({point: zero(unit)}))
        with editing(model, e.remove(name)):
            found = model.run(batch.clean, batch.mask)
        assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max() + 1))


@pytest.mark.parametrize(
    ("name", "point", "unit"),
    [
        ("m0.e2", ("expert_out", 0), (slice(None), slice(None), 2)),
        ("m1.shared", ("shared_out", 1), ...),
        ("m0.router", ("router", 0), ...),
    ],
)
def test_a_scaled_part_of_a_mixture_is_scaled_live(name, point, unit):
    model = single("qwen2_moe")
    batch = one_batch(model, make_pairs(padding=(0,)))

    def half(value):
        value = value.clone()
        value[unit] *= 0.5
        return value

    tap, before = Write({point: half}), model.run(batch.clean, batch.mask)
    with editing(model, e.scale(name, 0.5)) as edited:
        found = edited.run(batch.clean, batch.mask)
        assert torch.equal(found, model.run(batch.clean, batch.mask, tap))
        assert not torch.equal(found, before)
        made = edited.generate(batch.clean, batch.mask, 3)
    assert torch.equal(made, generate(model, batch.clean, batch.mask, 3, tap))
    refused = pytest.raises(EditError, match="m1 is no mixture of experts; this model has none")
    with refused, editing(single("llama"), e.scale("m1.e2", 0.5)):
        pass


def test_add_and_project_change_one_value_vector_as_told():
    model = single("gpt2")
    before = value_vectors(model, 1).clone()
    toward = token_direction(model, "raw", {5: -1.0, 7: 0.5})
    with editing(model, e.add("m1.n3", {"#5": -1.0, "#7": 0.5}, 2.0), basis="raw"):
        moved = value_vectors(model, 1) - before
    assert torch.allclose(moved[3], 2.0 * toward, atol=1e-6)
    assert torch.count_nonzero(moved).item() == 32
    with editing(model, e.project("m1.n3", VECTOR)):
        row = value_vectors(model, 1)[3].clone()
    assert abs(float(row @ torch.tensor(VECTOR))) < 1e-4


def test_swapping_attention_exchanges_two_entries_and_keeps_the_sum(batch):
    model, seen = single("llama"), {}
    for name, edits in {"plain": [], "swapped": [EVERY["swap named"]]}.items():
        record = Record(["pattern"])
        with editing(model, edits) as edited:
            edited.run(batch.clean, batch.mask, columns(batch), tap=record)
        seen[name] = record.values["pattern", 1]
    plain, swapped = seen["plain"], seen["swapped"]
    at = columns(batch)
    for row in range(len(batch)):
        one, other = int(at["X"][row]), int(at["END"][row])
        assert swapped[row, 2, -1, one] == plain[row, 2, -1, other]
        assert swapped[row, 2, -1, other] == plain[row, 2, -1, one]
    assert torch.allclose(swapped.sum(-1), plain.sum(-1))
    changed = (swapped != plain).nonzero()
    assert set(changed[:, 1].tolist()) == {2}
    assert set(changed[:, 2].tolist()) == {plain.shape[2] - 1}


def test_clamp_bounds_the_component_and_touches_nothing_across(batch):
    model, record = single("llama"), Record(["resid_pre"])
    plain = Record(["resid_pre"])
    model.run(batch.clean, batch.mask, plain)
    with editing(model, EVERY["clamp"]) as edited:
        edited.run(batch.clean, batch.mask, tap=record)
    unit = torch.tensor(VECTOR) / torch.tensor(VECTOR).norm()
    x, y = plain.values["resid_pre", 1], record.values["resid_pre", 1]
    assert float((y @ unit).abs().max()) <= 0.1 + 1e-4
    across = (y - x) - ((y - x) @ unit)[..., None] * unit
    assert float(across.abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["scale head", "steer", "add"])
def test_edits_hold_while_generating(name, batch):
    model = single("llama")
    with editing(model, EVERY[name]) as edited:
        cached = edited.generate(batch.clean, batch.mask, 6)
        tokens, mask = batch.clean, batch.mask
        for _ in range(6):
            best = edited.run(tokens, mask).argmax(-1)
            tokens = torch.cat([tokens, best[:, None]], dim=1)
            mask = torch.nn.functional.pad(mask, (0, 1), value=True)
    assert cached.tolist() == tokens[:, -6:].tolist()
    assert cached.tolist() != generate(model, batch.clean, batch.mask, 6).tolist()


def test_an_edit_at_a_position_acts_on_the_prompt_alone(batch):
    model, record = single("llama"), []

    def watch(kind, layer, value):
        if (kind, layer) == ("resid_post", 0):
            record.append(value)
        return value

    with editing(model, EVERY["steer there"]) as edited:
        tap = edited.tap(batch.mask, columns(batch))
        edited.model.run(batch.clean, batch.mask, lambda *a: watch(a[0], a[1], tap(*a)))
        edited.model.run(batch.clean, batch.mask, lambda *a: watch(a[0], a[1], tap(*a)))
    moved = (record[0] - record[1]).abs().sum(-1) > 1e-3
    assert moved.nonzero()[:, 1].tolist() == columns(batch)["X"].tolist()


def test_bases_are_what_they_say():
    model = single("gpt2")
    assert default_basis(model) == "folded_centred"
    assert default_basis(single("llama")) == "folded"
    raw, folded, centred = (unembedding(model, basis) for basis in BASES)
    weight = model.hf.lm_head.weight
    assert torch.equal(raw, weight)
    assert torch.allclose(folded, raw * model.final_norm.weight)
    assert float(centred.mean(0).abs().max()) < 1e-5
    assert float(centred.mean(1).abs().max()) < 1e-5
    with pytest.raises(EditError, match="does not remove"):
        unembedding(single("llama"), "folded_centred")


def test_all_faults_come_at_once_and_nothing_is_changed():
    model = single("gpt2")
    before = value_vectors(model, 0).clone()
    with (
        pytest.raises(EditError) as told,
        editing(
            model,
            [
                e.remove("m0.n1"),
                e.add("m0.n1", {"#3": 1.0}),
                e.scale("a7.h0", 1.0),
                e.add("m0.n2", {"#3": float("nan")}),
                e.steer("resid_post.0", [1.0, 2.0]),
                e.add("m0.n4", {" A": 1.0}),
                e.steer("a0.h1", VECTOR),
                e.clamp("m1", VECTOR),
                e.add("m0.n9", {"#99": 1.0}),
            ],
        ),
    ):
        pass
    for part in (
        "edits 0 and 1 conflict: both change m0.n1",
        "layers are 0 to 1",
        "is nan",
        "the place is 32 wide",
        "no tokenizer; write token ' A' as #ID",
        "'a0.h1' is no place for this edit",
        "give low, high or both",
        "#99 is outside the vocabulary of 61",
    ):
        assert part in str(told.value)
    assert torch.equal(value_vectors(model, 0), before)
