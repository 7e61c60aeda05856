"""Finite doses equal whole runs with the dose added; the limit equals vanishing doses."""

import numpy as np
import pytest
import torch

from circuits.directions import Groups, find_directions, find_reference
from circuits.studies.emotion.influence import find_influence
from patching.capture import Prompts, capture
from tasks.errors import MethodError
from tests import families


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox", "gemma2"])
def case(request):
    model = families.opened(request.param) if request.param == "gpt2" else None
    model = model or families.opened(request.param)
    pairs = families.make_pairs(n=6)
    prompts = Prompts(pairs.clean, pairs.mask)
    captured = capture(model, prompts)
    directions = find_directions(captured, Groups.of(list("aabbcc"), list("xyxyxy")))
    return model, prompts, captured, directions, find_reference(directions)


def test_a_dose_is_what_a_whole_run_makes_of_it(case):
    model, prompts, captured, directions, reference = case
    found = find_influence(model, prompts, directions, reference, doses=(0.5,), batch_size=4)
    last = model.anatomy.n_layers - 1
    for point in range(len(directions.rms)):
        v = directions.vectors[1, point]
        v = v if v @ reference.vectors[1] >= 0 else -v
        dose = 0.5 * directions.rms[point]
        delta = torch.tensor(dose * v)

        def add(kind, layer, value, point=point, delta=delta):
            if (kind, layer) == (("attn_out", "mlp_out")[point % 2], point // 2):
                value = value.clone()
                value[:, -1] += delta.to(value.dtype)
            return value

        moved = capture(model, prompts, tap=add).resid_post - captured.resid_post
        change = (moved[:, last].double().numpy() @ reference.vectors[1]).mean() / dose
        assert found.finite[1, 0, point] == pytest.approx(change, rel=2e-3, abs=2e-3)


def test_the_limit_is_approached_by_small_doses(case):
    model, prompts, _, directions, reference = case
    found = find_influence(model, prompts, directions, reference, doses=(0.3, 0.003))
    assert found.disagreement.max() < 0.05
    np.testing.assert_allclose(found.mean, found.finite.mean(1))


def test_the_last_sublayer_moves_the_end_by_its_own_cosine(case):
    model, prompts, _, directions, reference = case
    found = find_influence(model, prompts, directions, reference, doses=(0.1,))
    cosine = np.abs(np.einsum("ed,ed->e", directions.vectors[:, -1], reference.vectors))
    np.testing.assert_allclose(found.gradient[:, -1], cosine, atol=1e-4)


@pytest.mark.parametrize("doses", [(), (0.0,), (float("nan"),)])
def test_doses_that_are_none(case, doses):
    model, prompts, _, directions, reference = case
    with pytest.raises(MethodError, match="doses are numbers other than zero"):
        find_influence(model, prompts, directions, reference, doses=doses)
