"""One row of every value, equal to what the whole forward pass holds there."""

import numpy as np
import pytest
import torch

from patching.capture import KINDS, Capture, Prompts, capture, captures, streams
from patching.forward import Record
from tasks.errors import MethodError, TaskError
from tests import families


@pytest.fixture
def prompts(pairs):
    return Prompts(pairs.clean, pairs.mask)


def whole(model, prompts):
    tap = Record({*KINDS, "resid_pre", "attn_out"})
    with torch.no_grad():
        model.run(torch.tensor(prompts.tokens), torch.tensor(prompts.mask), tap)
    return tap.values


def test_every_kind_is_the_row_of_the_last_token(model, prompts):
    found, values = capture(model, prompts, batch_size=2), whole(model, prompts)
    for layer in range(model.anatomy.n_layers):
        mid = values["resid_pre", layer] + values["attn_out", layer]
        torch.testing.assert_close(found.resid_mid[:, layer], mid[:, -1])
        for kind in ("resid_post", "mlp_post", "z"):
            torch.testing.assert_close(getattr(found, kind)[:, layer], values[kind, layer][:, -1])


def test_columns_choose_the_token(gpt2, prompts):
    columns = np.array([3, 4, 5, 6, 8])
    found = capture(gpt2, prompts, columns=columns, batch_size=2)
    values = whole(gpt2, prompts)["resid_post", 1][torch.arange(5), torch.tensor(columns)]
    torch.testing.assert_close(found.resid_post[:, 1], values)


def test_batches_are_streamed_and_keep_no_other_position(gpt2, prompts):
    stream = captures(gpt2, prompts, batch_size=2)
    first = next(stream)
    assert len(first) == 2
    layers, width = gpt2.anatomy.n_layers, gpt2.anatomy.d_model
    assert first.resid_mid.untyped_storage().nbytes() == 2 * layers * width * gpt2.dtype.itemsize
    assert [len(part) for part in stream] == [2, 1]


def test_a_tap_changes_the_run_that_is_read(gpt2, prompts):
    def silent(kind, layer, value):
        return torch.zeros_like(value) if kind == "z" else value

    assert not capture(gpt2, prompts, tap=silent).z.any()


def test_parts_of_a_capture(gpt2, prompts):
    found = capture(gpt2, prompts)
    again = Capture.joined([found[:2], found[np.array([2, 3, 4])]])
    for kind in KINDS:
        assert torch.equal(getattr(found, kind), getattr(again, kind))


def test_rows_are_padded_on_the_left():
    prompts = Prompts.of([[5], [1, 2, 3]], pad=9)
    assert prompts.tokens.tolist() == [[9, 9, 5], [1, 2, 3]]
    assert prompts.mask.tolist() == [[False, False, True], [True] * 3]
    assert prompts[:1].tokens.tolist() == [[5]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no prompts"),
        ([[1], []], "prompts 1 are empty"),
        ([[families.VOCABULARY]], "outside this model's vocabulary"),
        ([[1] * 140], "does not fit 128 positions"),
    ],
)
def test_prompts_that_cannot_be_read(gpt2, rows, told):
    with pytest.raises(TaskError, match=told):
        capture(gpt2, Prompts.of(rows))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (np.array([0, 8]), "one column for each of 5"),
        (np.array([0, 1, 0, 0, 0]), "3 columns are padding or outside the 9"),
        (np.full(5, 9), "5 columns"),
    ],
)
def test_columns_that_are_no_token(gpt2, prompts, columns, told):
    with pytest.raises(MethodError, match=told):
        capture(gpt2, prompts, columns=columns)


def test_several_columns_of_the_stream_are_read_in_one_pass(model, prompts):
    columns = np.array([[8, 3], [8, 4], [7, 5], [8, 6], [6, 8]])
    found, values = streams(model, prompts, columns, batch_size=2), whole(model, prompts)
    rows, at = torch.arange(5)[:, None], torch.tensor(columns)
    for layer in range(model.anatomy.n_layers):
        mid = values["resid_pre", layer] + values["attn_out", layer]
        torch.testing.assert_close(found[:, :, 2 * layer], mid[rows, at])
        torch.testing.assert_close(
            found[:, :, 2 * layer + 1], values["resid_post", layer][rows, at]
        )


@pytest.mark.parametrize(
    ("columns", "told"),
    [(np.full(5, 8), "give a row of columns for each of 5"), (np.full((5, 2), 9), "10 columns")],
)
def test_several_columns_that_are_no_token(gpt2, prompts, columns, told):
    with pytest.raises(MethodError, match=told):
        streams(gpt2, prompts, columns)
