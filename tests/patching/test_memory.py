"""What a limit of memory picks, and that it changes no score."""

import numpy as np
import pytest

from patching.memory import Fit, fit, taken
from patching.scoring import score
from patching.sizes import bytes_of
from tasks.errors import MethodError


def test_sizes_are_read_as_people_write_them():
    given = {"20GB": 20 * 10**9, "800 mb": 8 * 10**8, "1.5GiB": 3 * 2**29, "7": 7, 12: 12}
    assert {text: bytes_of(text) for text in given} == given


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "0", "20 apples", "1.2.3GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MethodError, match="write a size such as 20GB"):
        bytes_of(text)


def test_blocks_run_twice_before_batches_are_halved(gpt2):
    length = 4000
    whole, again = (taken(gpt2, 8, length, twice) for twice in (False, True))
    assert again < whole
    assert fit(gpt2, length, 8, whole) == Fit(8, False)
    assert fit(gpt2, length, 8, whole - 1) == Fit(8, True)
    smaller = fit(gpt2, length, 8, again - 1)
    assert smaller.batch_size == 4
    assert str(smaller).startswith("4 prompts at a time")


def test_what_cannot_fit_is_refused_with_what_it_takes(gpt2):
    with pytest.raises(MethodError, match="one prompt of 4000 tokens takes about"):
        fit(gpt2, 4000, 8, 1000)


def test_a_limit_changes_no_score_and_is_said(gpt2, pairs):
    said = []
    length = pairs.clean.shape[1]
    limit = taken(gpt2, 2, length, False)
    plain = score(gpt2, pairs, "secant")
    limited = score(
        gpt2, pairs, "secant", memory=limit, progress=lambda done, total, what: said.append(what)
    )
    np.testing.assert_allclose(limited.values, plain.values, rtol=0, atol=1e-6)
    assert "prompts at a time" in said[0]
