"""Directions restated from their definition, and groups that give none."""

import numpy as np
import pytest
import torch

from circuits.directions import Directions, Groups, find_directions, find_reference
from patching.capture import Capture
from tasks.errors import MethodError, TaskError

LABELS = ("calm", "loud", "odd")


def made_up(n=12, layers=3, seed=0):
    rng = np.random.default_rng(seed)

    def values(*shape):
        return torch.tensor(rng.normal(size=(n, layers, *shape)))

    return Capture(values(8), values(8), values(5), values(2, 4))


@pytest.fixture
def groups():
    names = [f"g{number}" for number in range(4) for _ in LABELS]
    return Groups.of(names, LABELS * 4)


def test_vectors_are_the_definition_in_loops(groups):
    captured = made_up()
    found = find_directions(captured, groups)
    for point, name in enumerate(found.points):
        kind, layer = name.split(".")
        h = getattr(captured, kind)[:, int(layer)].numpy()
        for e in range(3):
            centroid = np.zeros(8)
            for g in range(4):
                centroid += (h[3 * g + e] - h[3 * g : 3 * g + 3].mean(0)) / 4
            np.testing.assert_allclose(found.sizes[e, point], np.linalg.norm(centroid))
            unit = centroid / np.linalg.norm(centroid)
            np.testing.assert_allclose(found.vectors[e, point], unit, atol=1e-12)


def test_differences_of_components_are_not_normalised(groups):
    captured = made_up()
    found = find_directions(captured, groups)
    z = captured.z.numpy()
    expected = z[1::3].mean(0) - z.mean(0)
    np.testing.assert_allclose(found.heads[1], expected, atol=1e-12)
    np.testing.assert_allclose(found.neurons.sum(0), 0, atol=1e-12)


def test_what_a_group_has_in_common_does_not_count(groups):
    captured = made_up()
    shift = torch.arange(4).repeat_interleave(3)[:, None, None] * 100.0
    moved = Capture(captured.resid_mid + shift, captured.resid_post, captured.mlp_post, captured.z)
    np.testing.assert_allclose(
        find_directions(moved, groups).vectors, find_directions(captured, groups).vectors, atol=1e-9
    )


def test_order_of_prompts_does_not_count(groups):
    captured, order = made_up(), np.random.default_rng(1).permutation(12)
    names = [f"g{i // 3}" for i in order]
    shuffled = Groups.of(names, [LABELS[i % 3] for i in order], order=LABELS)
    np.testing.assert_allclose(
        find_directions(captured[order], shuffled).vectors,
        find_directions(captured, groups).vectors,
        atol=1e-12,
    )


def test_only_whole_groups_are_used(groups):
    kept = np.ones(12, dtype=bool)
    kept[4] = False
    left = groups.where(kept)
    assert left.names == ("g0", "g2", "g3")
    assert left.rows.tolist() == [[0, 1, 2], [6, 7, 8], [9, 10, 11]]
    with pytest.raises(TaskError, match=r"all of its 3 prompts accepted \(\d of 12 prompts are\)"):
        groups.where(np.arange(12) % 3 == 0)


@pytest.mark.parametrize(
    ("names", "labels", "told"),
    [
        (["a", "a", "b"], ["x", "y", "x"], "group 'b' has no prompt of label y"),
        (["a", "b"], ["x", "x"], "difference between labels, and there is only 'x'"),
        (["a", "a", "a"], ["x", "y", "y"], "group 'a' has 2 prompts of label 'y'"),
        (["a"], [], "1 groups for 0 labels"),
        ([], [], "give no directions"),
    ],
)
def test_groups_that_give_no_directions(names, labels, told):
    with pytest.raises(TaskError, match=told):
        Groups.of(names, labels)


def test_labels_that_do_not_differ(groups):
    captured = made_up()
    captured.resid_mid[:, 1] = 1.0
    with pytest.raises(
        MethodError, match=r"at resid_mid\.1 the prompts of 'calm' differ in nothing"
    ):
        find_directions(captured, groups)


def turning(angles):
    """Directions of two opposite labels that turn by the given angles from point to point."""
    at = np.cumsum([0.0, *angles])
    one = np.stack([np.cos(at), np.sin(at)], axis=-1)
    vectors = np.stack([one, -one])
    points = len(at)
    return Directions(
        labels=("a", "b"),
        groups=1,
        vectors=vectors,
        sizes=np.ones((2, points)),
        rms=np.ones(points),
        neurons=np.zeros((2, points // 2, 1)),
        heads=np.zeros((2, points // 2, 1, 1)),
    )


def test_the_reference_is_the_mean_over_the_longest_stable_run():
    found = find_reference(turning([0.1, 1.2, 0.1, 0.1, 1.0]), threshold=0.9)
    assert (found.first, found.last, found.threshold, found.reached) == (2, 4, 0.9, True)
    # Three directions, a tenth of a radian apart: their mean is the middle one.
    np.testing.assert_allclose(found.vectors[0], [np.cos(1.4), np.sin(1.4)], atol=1e-12)
    np.testing.assert_allclose(found.vectors[1], -found.vectors[0])


def test_signs_are_aligned_with_the_first_of_the_window():
    found = find_reference(turning([np.pi, 0.0, 1.5]), threshold=-1.0)
    assert (found.first, found.last) == (0, 3)
    assert found.vectors[0][0] > 0.7


def test_without_a_stable_run_the_best_pair_is_told_as_such():
    found = find_reference(turning([1.2, 0.8, 1.0]), threshold=0.95)
    assert (found.first, found.last, found.reached) == (1, 2, False)
    assert found.threshold == pytest.approx(np.cos(0.8))


def test_a_threshold_that_is_no_cosine():
    with pytest.raises(MethodError, match="cosine from -1 to 1, given 2"):
        find_reference(turning([0.1]), threshold=2)
