"""SmolLM2 and Gemma 3 as their packages hold them: numbers, tokenizers, names."""

import numpy as np
import pytest
import torch

from circuits.models import name_of
from patching.loading import load_tokenizer, load_weights
from patching.sources import gguf_of
from patching.sources.header import read_header
from tests.conftest import needs_package

TEXTS = (
    "When Mary and John went to the store, John gave a drink to",
    " Two  spaces, a tab\tand 1234 = 12 + 34.\nÜmläute, 你好, 🙂",
    "<|im_start|>user\nHello<|im_end|>\n",
    "<start_of_turn>user\nHello<end_of_turn>\n",
    "",
)


@pytest.fixture(autouse=True)
def cache_home(monkeypatch):
    """The user's own cache: a conversion takes most of a minute, and others need it too."""


@pytest.fixture(scope="module", params=["smollm2-135m", "gemma3-270m"])
def real(request):
    """Name, transformers model and tokenizer."""
    needs_package(request.param)
    name = request.param
    return name, load_weights(name, torch.float32), load_tokenizer(name)


@pytest.fixture(scope="module")
def whole(real, tmp_path_factory):
    """The GGUF file of the package, whose parts are joined."""
    gguf = gguf_of(real[0])
    if not gguf.parts:
        pytest.skip(f"{real[0]} is converted, and its package is no longer installed")
    path = tmp_path_factory.mktemp(real[0]) / "model.gguf"
    gguf.join(path)
    return path


def test_the_numbers_are_those_that_the_blocks_stand_for(real, whole):
    """Words of the embedding and one matrix of an MLP, taken from the file block by block."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    header, data = read_header(whole), np.memmap(whole, mode="r")
    tensors, found = {tensor.name: tensor for tensor in header.tensors}, real[1].state_dict()
    for stored, name in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
    ):
        tensor = tensors[stored]
        block, width = gguf.GGML_QUANT_SIZES[tensor.kind]
        start = header.starts + tensor.offset
        length, rows = tensor.shape[0] // block * width, min(tensor.shape[1], 1000)
        blocks = data[start : start + rows * length].reshape(rows, length)
        numbers = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(tensor.kind))
        np.testing.assert_array_equal(found[name][:rows], numbers)


def test_the_tokenizer_encodes_as_the_files_own(real, whole):
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    architecture, words, _ = get_gguf_tokenizer(str(whole))
    own, _ = convert_gguf_tokenizer(architecture, words)
    for text in TEXTS:
        ids = own.encode(text, add_special_tokens=False).ids
        assert real[2](text, add_special_tokens=False)["input_ids"] == ids
    first = real[2]("Hello")["input_ids"][0] == real[2].bos_token_id
    assert first is read_header(whole).facts["tokenizer.ggml.add_bos_token"]


def test_the_model_knows_who_gets_the_drink(real):
    _, hf, tokenizer = real
    with torch.no_grad():
        logits = hf(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0, -1]
    assert tokenizer.decode(logits.argmax()) == " Mary"


def test_it_is_shown_with_its_quantisation(real):
    shown = {
        "smollm2-135m": "SmolLM2-135M-Instruct, Q4_1",
        "gemma3-270m": "Gemma 3 270M, Q4_K_M",
    }
    assert name_of(real[0]) == shown[real[0]]


def test_smollm2_is_taken_apart(smollm2):
    assert smollm2.path == "smollm2-135m"
    assert (smollm2.anatomy.n_layers, smollm2.anatomy.n_heads) == (30, 9)
    assert smollm2.tokenizer.decode(smollm2.tokenizer(" Mary")["input_ids"]) == " Mary"
