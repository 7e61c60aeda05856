"""Methods with their options, at every level, kind of site and way of positions, together."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from patching.model import Model
from patching.scoring import prompt_scores, score
from patching.sitesets import kinds_of
from tasks.errors import MethodError, SiteError
from tasks.pairs import PromptPairs
from tests import families

FIRST_ORDER = (
    "attribution",
    "attribution:qk_fix=true+exact_receivers=true",
    "ig:steps=2+qk_fix=true",
    "ig:on=activations+steps=1",
    "ig:on=activations+steps=2+qk_fix=true",
    "relevance:rules=none+qk_fix=true",
    "secant",
    "secant:share=0.4+qk_fix=true+exact_receivers=true",
    "ensemble",
)
"""Methods whose estimate is the exact effect where the two runs hardly differ."""

OTHERS = (
    "activation",
    "attribution:grad_drop=true",
    "relevance:rules=relp,pattern=detach",
    "relevance:rules=gim,cap=ratio+qk_fix=true",
)


def targets(model):
    """Everything that can be scored, at named positions, and edges over all of them."""
    kinds = kinds_of(model.anatomy)
    named = {"positions": "named"}
    yield {"level": "edge"}
    yield {"level": "edge"} | named
    yield {"level": "attention_edge"} | named
    yield from ({"level": "site", "sites": kind} | named for kind in kinds)


def is_void(method, target):
    """Whether the method gives such sites no gradient at all, and says so."""
    return "pattern=detach" in method and target.get("sites") in ("q", "k", "pattern")


HALF = families.VOCABULARY // 2


def near_twins(family, distance):
    """A model in which the embeddings of tokens ``t`` and ``t + HALF`` hardly differ."""
    hf = families.build(family).double()
    embeddings = hf.get_input_embeddings().weight.data
    apart = torch.randn(HALF, embeddings.shape[1], generator=torch.Generator().manual_seed(5))
    embeddings[HALF : 2 * HALF] = embeddings[:HALF] + distance * apart * embeddings.std()
    return Model.open(hf, dtype=torch.float64)


def twin_pairs(differing):
    """Ragged pairs that differ by such twins, with several answers."""
    rng, length = np.random.default_rng(0), 8
    clean, corrupted = rng.integers(0, HALF, (2, 3, length))
    corrupted[:] = clean
    mask = np.arange(length) >= np.array([[0], [2], [1]])
    first = mask.argmax(1)
    columns = first if differing == "first" else np.full(3, differing)
    corrupted[np.arange(3), columns] += HALF
    return PromptPairs(
        clean=clean,
        corrupted=corrupted,
        mask=mask,
        answer=np.array([[1, 2], [3, -1], [4, 5]]),
        counterfactual=np.array([[31], [32], [33]]),
        positions={"FIRST": first, "X": np.array([4, 5, 6]), "END": np.full(3, length - 1)},
    )


@pytest.mark.parametrize(
    ("family", "differing", "direction", "metric"),
    [
        ("gpt2", "first", "noising", "logit_diff"),
        ("gpt_neox", 4, "denoising", "logit_diff"),
        ("gemma2", 5, "noising", "log_prob"),
        ("qwen3", -1, "denoising", "answer_logit"),
    ],
)
def test_where_the_runs_hardly_differ_every_estimate_is_exact(family, differing, direction, metric):
    """On models that are far from linear, prompt by prompt: no factor, mask or sign is lost."""
    model, pairs = near_twins(family, 5e-3), twin_pairs(differing)
    total = score(model, pairs, "activation", "node", direction, metric)["input"]
    assert abs(total) > 1e-4
    for target in targets(model):
        asked = {"direction": direction, "metric": metric, **target}
        _, exact = prompt_scores(model, pairs, "activation", **asked)
        largest = np.abs(exact).max()
        for method in FIRST_ORDER:
            _, found = prompt_scores(model, pairs, method, **asked)
            np.testing.assert_allclose(
                found, exact, rtol=0, atol=0.05 * largest + 1e-6, err_msg=f"{method} {target}"
            )


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_half_precision_models_are_scored_by_every_method(family):
    """As the same model in single precision, but for the rounding of what is measured."""
    hf = copy.deepcopy(families.original(family)).bfloat16()
    half, single = Model.open(hf, dtype=torch.bfloat16), Model.open(hf, dtype=torch.float32)
    pairs = families.make_pairs(n=3)
    for target in targets(half):
        for method in (*FIRST_ORDER, *OTHERS):
            if is_void(method, target):
                continue
            found, expected = (score(m, pairs, method, **target) for m in (half, single))
            largest = max(np.abs(expected.values).max(), 0.5)
            np.testing.assert_allclose(
                found.values,
                expected.values,
                rtol=0,
                atol=0.1 * largest,
                err_msg=f"{method} {target}",
            )


@pytest.mark.parametrize("family", ["gpt_neo", "mistral"])
def test_neither_batches_nor_padding_change_any_score(family):
    model = families.opened(family)
    pairs = families.make_pairs(n=3, padding=(1, 3, 0))
    wider = padded(pairs, 2)
    for target in targets(model):
        for method in (*FIRST_ORDER, *OTHERS):
            if is_void(method, target):
                continue
            scores, whole = prompt_scores(model, pairs, method, **target)
            atol = 1e-5 * max(np.abs(whole).max(), 0.1)
            again, rows = prompt_scores(model, wider, method, batch_size=2, **target)
            assert again.names == scores.names
            np.testing.assert_allclose(rows, whole, rtol=0, atol=atol, err_msg=f"{method} {target}")


def padded(pairs, more):
    """The pairs with more columns of padding, whose tokens differ between the runs."""
    left = np.full((len(pairs), more), 3)
    return dataclasses.replace(
        pairs,
        clean=np.hstack([left, pairs.clean]),
        corrupted=np.hstack([left + 1, pairs.corrupted]),
        mask=np.hstack([left < 0, pairs.mask]),
        positions={name: at + more for name, at in pairs.positions.items()},
    )


@pytest.mark.parametrize("kind", ["q", "k", "pattern"])
def test_sites_that_the_rules_give_no_gradient_are_refused(gpt2, pairs, kind):
    with pytest.raises(MethodError, match=f"kind {kind} no gradient, so all .* would be zero"):
        score(gpt2, pairs, "relevance:rules=relp,pattern=detach", "site", sites=kind)


@pytest.mark.parametrize("level", ["node", "edge", "attention_edge"])
def test_a_kind_of_site_goes_with_its_level(gpt2, pairs, level):
    with pytest.raises(MethodError, match=f"sites='q' goes with level='site', not with '{level}'"):
        score(gpt2, pairs, "secant", level, sites="q", positions="named")


@pytest.mark.parametrize("name", ["", "3", "-1", "A->B", "x<q>"])
def test_positions_whose_sites_could_not_be_read_back_are_refused(gpt2, pairs, name):
    named = dataclasses.replace(pairs, positions={"END": pairs.positions["END"], name: [4] * 5})
    with pytest.raises(SiteError, match=f"position '{name}' cannot be part of a site's name"):
        score(gpt2, named, "attribution", "site", positions="named")
