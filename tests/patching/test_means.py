"""Means: what is counted, what they are of, and where they are refused."""

import dataclasses

import numpy as np
import pytest
import torch

from patching.ablation.estimates import conditional_means, estimate_means
from patching.ablation.means import MeanActivations
from patching.ablation.run import run_ablated
from patching.runs import Batch
from tasks.errors import FormatError, MethodError
from tests.definitions import values
from tests.families import FAMILIES, make_pairs, opened

POINTS = [("input", 0), ("z", 0), ("z", 1), ("mlp_out", 1), ("mlp_post", 0), ("resid_post", 1)]


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(n=9, padding=(0, 2, 0, 3, 1))


def each_alone(model, pairs):
    """Every prompt's own tokens and values, run by itself and without padding."""
    found = []
    for i in range(len(pairs)):
        batch = Batch.of(model, pairs[[i]])
        found.append((pairs.clean[i][pairs.mask[i]], values(model, batch, "clean")))
    return found


def by_hand(runs, point, wanted):
    """The mean over tokens for which `wanted(length, position, token)` holds, in float64."""
    found = [
        known[point][0][t].double()
        for ids, known in runs
        for t in range(len(ids))
        if wanted(len(ids), t, int(ids[t]))
    ]
    return torch.stack(found).mean(0), len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_is_the_mean(family, pairs):
    """Ragged prompts, in batches that do not divide them: padding is never counted."""
    model = opened(family)
    runs = each_alone(model, pairs)
    for by in ("all", "position", "token"):
        means = estimate_means(model, pairs, POINTS, by, batch_size=4)
        for row in range(0, len(means.keys), 5):
            length, at, token = means.keys[row]

            def alike(n, t, ids, length=length, at=at, token=token):
                return length in (n, -1) and at in (t, -1) and token in (ids, -1)

            for point in POINTS:
                exact, n = by_hand(runs, point, alike)
                assert means.counts[row] == n
                scale = max(1.0, float(exact.abs().max()))
                assert float((means.values[point][row] - exact).abs().max()) <= 1e-6 * scale


def test_means_are_the_same_for_every_batch_size(pairs):
    model = opened("gpt2")
    whole = estimate_means(model, pairs, POINTS, "position", batch_size=9)
    for size in (1, 4):
        part = estimate_means(model, pairs, POINTS, "position", batch_size=size)
        np.testing.assert_array_equal(part.counts, whole.counts)
        for point in POINTS:
            assert torch.allclose(part.values[point], whole.values[point], rtol=0, atol=1e-6)


def test_weighted_means_by_token_average_to_the_mean(pairs):
    model = opened("gpt2")
    by_token = estimate_means(model, pairs, POINTS, "token")
    mean = estimate_means(model, pairs, POINTS, "all")
    weights = torch.as_tensor(by_token.counts).double() / by_token.counts.sum()
    for point in POINTS:
        averaged = torch.einsum("k,k...->...", weights, by_token.values[point].double())
        assert torch.allclose(averaged, mean.values[point][0].double(), atol=1e-6)


def test_conditional_means_run_every_beginning_once_and_weigh_it():
    """Samples that repeat count as often as they are there; what comes after does not count."""
    model, rng = opened("llama"), np.random.default_rng(0)
    rows = rng.integers(1, 60, (6, 5))
    rows[:, 2] = 7
    rows[3:5] = rows[0]
    means = conditional_means(model, {(2, 7): rows}, [("resid_post", 0)], batch_size=2)
    with torch.no_grad():
        tokens = torch.tensor(rows)
        kept = {}

        def tap(kind, layer, value):
            kept[kind, layer] = value
            return value

        model.run(tokens, torch.ones_like(tokens, dtype=torch.bool), tap)
    exact = kept["resid_post", 0][:, 2].double().mean(0)
    assert means.counts.tolist() == [6]
    assert means.thin(6) == 0
    assert means.thin(7) == 1
    assert torch.allclose(means.values["resid_post", 0][0].double(), exact, atol=1e-6)
    assert means.origin.source == "conditional"


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        ({}, "no samples"),
        ({(1, 5): np.array([[1, 5, 2], [1, 6, 2]])}, "drawn for token 5 has another"),
        ({(3, 5): np.array([[1, 5, 2]])}, "no prompts that reach it"),
        ({(1, 5): np.zeros((0, 3), dtype=int)}, "no prompts that reach it"),
        ({(0, 1): np.array([[1, 5]]), (1, 5): np.array([[1, 5, 2]])}, "prompts of 2, 3 tokens"),
    ],
)
def test_samples_that_are_refused(samples, says):
    with pytest.raises(MethodError, match=says):
        conditional_means(opened("gpt2"), samples, [("resid_post", 0)])


def test_a_file_of_means_reads_back(pairs, tmp_path):
    model = opened("gpt2")
    for by in ("all", "position", "token"):
        means = estimate_means(model, pairs, POINTS, by)
        means.save(tmp_path / "means.safetensors")
        again = MeanActivations.load(tmp_path / "means.safetensors")
        assert again.origin == means.origin
        assert again.origin.prompts == pairs.digest
        assert again.origin.model_hash == model.hash
        assert again.origin.n == len(pairs)
        np.testing.assert_array_equal(again.keys, means.keys)
        np.testing.assert_array_equal(again.counts, means.counts)
        for point in POINTS:
            assert torch.equal(again.values[point], means.values[point])
    assert [file.name for file in tmp_path.iterdir()] == ["means.safetensors"]


def test_files_that_are_no_means(pairs, tmp_path):
    path = tmp_path / "means.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="not a file of means"):
        MeanActivations.load(path)
    means = estimate_means(opened("gpt2"), pairs, POINTS[:1])
    dataclasses.replace(means, counts=np.array([1, 2])).save(path)
    with pytest.raises(FormatError, match="its counts are I64 of shape"):
        MeanActivations.load(path)


def test_means_of_something_else_are_refused(pairs):
    model = opened("gpt2")
    means = estimate_means(model, pairs, [("mlp_out", 0)])
    other = dataclasses.replace(pairs, task="another")
    with pytest.raises(MethodError, match="of task 'random', these prompts of 'another'"):
        run_ablated(model, other, ["m0"], "mean", means=means)
    longer = make_pairs(n=3, length=12, padding=(0,))
    with pytest.raises(MethodError, match="prompts of 6, 7, 8, 9 tokens, these have 12"):
        run_ablated(model, longer, ["m0"], "mean", means=means)
    with pytest.raises(MethodError, match="of another model"):
        run_ablated(opened("llama"), pairs, ["m0"], "mean", means=means)
    with pytest.raises(MethodError, match=r"they hold no mlp_out\.1"):
        run_ablated(model, pairs, ["m1"], "mean", means=means)


def test_tokens_without_a_mean_are_named(pairs):
    model = opened("gpt2")
    means = estimate_means(model, pairs, [("resid_post", 0)], "token")
    with pytest.raises(MethodError, match=r"token \d+ at position \d+ of prompts of 9 tokens"):
        run_ablated(model, make_pairs(n=4, padding=(0,), seed=9), [], "cama:0", means=means)


def test_memory_is_that_of_the_means_alone(pairs):
    """More prompts give more counts, not more rows."""
    model = opened("gpt2")
    many = make_pairs(n=40, padding=(0, 2, 0, 3, 1))
    few, more = (estimate_means(model, p, POINTS, "position") for p in (pairs, many))
    assert [v.shape for v in few.values.values()] == [v.shape for v in more.values.values()]
    assert more.counts.sum() > few.counts.sum()
