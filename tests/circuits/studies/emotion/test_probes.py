"""The label that is asked for is read from discovery prompts to test prompts, and in conditions."""

import numpy as np
import pytest

from circuits.studies.emotion.probes import CONDITIONS, PLAIN, read_labels
from patching.model import Model
from tests import families, tiny_emotion


@pytest.fixture(scope="module")
def found():
    return read_labels(tiny_emotion.opened(), tiny_emotion.concept(), 6, 4, 0, 64)


def test_probes_are_fitted_on_one_split_and_tested_on_the_other(found):
    assert (found.positions.fitted, found.positions.tested) == (12, 8)
    assert list(found.conditions) == [PLAIN, *CONDITIONS]
    # The last letter is the label that is asked for.
    assert found.conditions[PLAIN].accuracy[0, 0] == 1
    assert found.conditions[PLAIN] is found.positions


def test_only_tokens_that_all_prompts_have_are_read(found):
    assert found.positions.positions == ("-1", "-2", "-4")
    assert found.positions.accuracy[0, 1] < 1


def test_vectors_are_by_label_and_layer_as_steering_needs_them(found):
    vectors = found.vectors(tiny_emotion.LABELS)
    assert vectors.shape == (2, 2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1)
    np.testing.assert_allclose(vectors[0], -vectors[1])
    saved = found.tensors(tiny_emotion.LABELS)
    assert {name: array.dtype for name, array in saved.items()} == {
        "probe_weights": np.float32,
        "probe_biases": np.float32,
    }
    weights = saved["probe_weights"][0, 1::2]
    np.testing.assert_allclose(
        weights / np.linalg.norm(weights, axis=-1, keepdims=True), vectors[0], rtol=1e-5, atol=1e-6
    )


def test_conditions_that_do_not_fit_the_model_are_left_out():
    small = families.build("gpt2", n_positions=8)
    model = Model.open(small, tokenizer=tiny_emotion.Letters())
    found = read_labels(model, tiny_emotion.concept(), 3, 2, 0, 64)
    assert not any("random tokens" in name for name in found.conditions)
    assert len(found.conditions) == len(CONDITIONS)
