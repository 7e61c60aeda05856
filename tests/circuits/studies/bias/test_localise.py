"""Localising a bias: every number restated from its definition, prompt by prompt."""

import numpy as np
import pytest
import torch

from circuits.studies.bias import removal
from circuits.studies.bias.localise import GAP, localise_bias
from patching.forward import Record, Write
from patching.weights import value_vectors
from tasks.errors import TaskError
from tests.families import make_pairs, opened

LETTER = 60
TOP = 4


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def told(request):
    """A model, prompts of several lengths, and what is said of its bias towards a token."""
    model, pairs = opened(request.param), make_pairs(padding=(0, 0, 2, 2, 0))
    return model, pairs, localise_bias(model, pairs, f"#{LETTER}", top=TOP, batch_size=2)


def one_by_one(model, pairs):
    """Every prompt alone and without padding: activations, the right answer, the lead."""
    for row in range(len(pairs)):
        tokens = torch.tensor(pairs.clean[row][pairs.mask[row]])[None]
        mask, right = torch.ones_like(tokens, dtype=torch.bool), int(pairs.answer[row, 0])
        seen = Record(["z", "mlp_out", "mlp_post", "final_in"])
        logits = model.run(tokens, mask, seen)[0]
        yield tokens, mask, right, seen.values, float(logits[LETTER] - logits[right])


def written(model, values, name):
    """What a part writes at the last position, from its own weights."""
    layer = int(name.split(".")[0][1:])
    if ".h" in name:
        unit = int(name.split("h")[1])
        return values["z", layer][0, -1, unit] @ model.blocks[layer].W_O[unit]
    if ".n" in name:
        unit = int(name.split("n")[1])
        return values["mlp_post", layer][0, -1, unit] * value_vectors(model, layer)[unit]
    return values["mlp_out", layer][0, -1]


@torch.no_grad()
def test_gap_and_direct_share_are_as_defined(told):
    model, pairs, bias = told
    gaps, directs, leads = ({p.name: [] for p in bias.parts} for _ in range(3))
    weight = model.hf.lm_head.weight
    norm = model.final_norm
    for _, _, right, values, lead in one_by_one(model, pairs):
        x = values["final_in", model.anatomy.n_layers][0]
        middle = x.mean() if norm.centred else 0.0
        size = ((x - middle).square().mean() + norm.eps).sqrt()
        for part in bias.parts:
            wrote = written(model, values, part.name)
            alone = model.unembed(wrote[None])[0]
            gaps[part.name].append(float(alone[LETTER] - alone[right]))
            scaled = (wrote - (wrote.mean() if norm.centred else 0.0)) / size * norm.weight
            directs[part.name].append(float((weight[LETTER] - weight[right]) @ scaled))
            leads[part.name].append(lead)
    for part in bias.parts:
        assert part.gap == pytest.approx(np.mean(gaps[part.name]), abs=1e-3)
        assert part.direct == pytest.approx(np.mean(directs[part.name]), abs=1e-4)
        if ".n" not in part.name:
            assert part.found == pytest.approx(np.mean(np.array(gaps[part.name]) > GAP))
    assert bias.difference == pytest.approx(np.mean(leads[bias.parts[0].name]), abs=1e-4)


def without(name):
    """The write that takes a part away."""
    layer = int(name.split(".")[0][1:])
    if name == f"m{layer}":
        return Write({("mlp_out", layer): torch.zeros_like})
    unit = int(name.split("h" if ".h" in name else "n")[1])

    def gone(value):
        value = value.clone()
        value[:, :, unit] = 0
        return value

    return Write({("z" if ".h" in name else "mlp_post", layer): gone})


def test_the_effect_is_what_the_lead_loses_without_the_part(told):
    model, pairs, bias = told
    for part in bias.parts:
        lost = []
        for tokens, mask, right, _, lead in one_by_one(model, pairs):
            logits = model.run(tokens, mask, without(part.name))[0]
            lost.append(lead - float(logits[LETTER] - logits[right]))
        assert part.effect == pytest.approx(np.mean(lost), abs=1e-3), part.name
        assert part.error == pytest.approx(np.std(lost, ddof=1) / len(lost) ** 0.5, abs=1e-3)
    effects = [part.effect for part in bias.parts]
    assert effects == sorted(effects, reverse=True)


def test_the_vectors_looked_at_write_most_and_pass_where_they_do(told):
    model, pairs, bias = told
    for layer in range(model.anatomy.n_layers):
        sizes = np.array(
            [
                (values["mlp_post", layer][0, -1].abs() * value_vectors(model, layer).norm(dim=1))
                .detach()
                .numpy()
                for _, _, _, values, _ in one_by_one(model, pairs)
            ]
        )
        kept = [part for part in bias.neurons if part.name.startswith(f"m{layer}.")]
        largest = np.argsort(-sizes.sum(0))[:TOP]
        assert {part.name for part in kept} == {f"m{layer}.n{unit}" for unit in largest}
        for part in kept:
            unit = int(part.name.split("n")[1])
            among = [unit in np.argsort(-row)[:TOP] for row in sizes]
            assert part.found <= np.mean(among)


def test_of_a_single_prompt_there_is_no_error():
    model, pairs = opened("gpt2"), make_pairs()
    assert all(part.error is None for part in localise_bias(model, pairs[:1], f"#{LETTER}").parts)


def test_a_letter_that_is_right_or_no_token_is_refused():
    model, pairs = opened("gpt2"), make_pairs()
    with pytest.raises(TaskError, match="right answer of some prompts"):
        localise_bias(model, pairs, f"#{int(pairs.answer[0, 0])}")
    with pytest.raises(TaskError, match="not one token"):
        localise_bias(model, pairs, "#61")


def kind(name):
    return "head" if ".h" in name else "neuron" if ".n" in name else "mlp"


def scaled(name, factor):
    """The write that makes a part a little smaller."""
    ((point, _),) = without(name).edits.items()

    def smaller(value):
        gone = without(name).edits[point](value)
        return gone + factor * (value - gone)

    return Write({point: smaller})


def test_of_many_parts_those_with_the_largest_estimates_are_removed(told, monkeypatch):
    """The estimate is the slope at which the lead falls when a part shrinks."""
    model, pairs, every = told
    monkeypatch.setattr(removal, "EXACT", 3)
    some = localise_bias(model, pairs, f"#{LETTER}", top=TOP, batch_size=2)
    slopes = dict.fromkeys((part.name for part in every.parts), 0.0)
    for tokens, mask, right, _, lead in one_by_one(model, pairs):
        for name in slopes:
            with torch.no_grad():
                logits = model.run(tokens, mask, scaled(name, 1 - 1e-6))[0]
            slopes[name] += (lead - float(logits[LETTER] - logits[right])) / 1e-6
    removed = {part.name for part in some.parts if part.effect is not None}
    for each in ("head", "mlp", "neuron"):
        ranked = sorted((n for n in slopes if kind(n) == each), key=lambda n: -abs(slopes[n]))
        assert {name for name in removed if kind(name) == each} == set(ranked[:3])
    exact = {part.name: part for part in every.parts}
    for part in some.parts:
        whole = exact[part.name]
        assert (part.gap, part.direct, part.found) == (whole.gap, whole.direct, whole.found)
        if part.name in removed:
            assert part.effect == pytest.approx(whole.effect, abs=1e-9)
        else:
            assert part.error is None
    assert [part.name in removed for part in some.parts] == sorted(
        (part.name in removed for part in some.parts), reverse=True
    )
