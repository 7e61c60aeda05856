"""The shipped model: plain transformers opens it, and it does what its card says."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

import tasks
from circuits import nano
from circuits.nano.measure import Share, top_tokens
from circuits.nano.sources import sources
from circuits.nano.sources_ioi import IOIText
from tasks.tokenize import encode

LARGEST = 16_000_000


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(nano.path()).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(nano.path())


@pytest.fixture(scope="module")
def record():
    return json.loads((nano.path() / "recipe.json").read_text())


def test_the_directory_is_an_ordinary_gpt2_of_at_most_16_mb(model):
    assert type(model) is GPT2LMHeadModel
    assert sum(file.stat().st_size for file in nano.path().iterdir()) <= LARGEST
    with safe_open(nano.path() / "model.safetensors", "np") as weights:
        assert all(np.isfinite(weights.get_tensor(name)).all() for name in weights.keys())  # noqa: SIM118


def test_the_tokenizer_gives_every_text_back(tokenizer, record):
    for source in sources(record["recipe"]["tasks"]):
        for prompt, answer in source.sample(np.random.default_rng(5), 100):
            ids = tokenizer.encode(prompt + answer, add_special_tokens=False)
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == prompt + answer


def test_a_word_with_its_space_is_one_token(tokenizer):
    assert tokenizer.tokenize("the park, Mary") == ["the", " park", ",", " Mary"]
    assert encode(tokenizer, " Mary")[0] == tokenizer.bos_token_id
    assert len(encode(tokenizer, " Mary")) == 2


def test_held_out_prompts_are_answered_with_the_indirect_object(model, tokenizer):
    pairs = tasks.get("ioi").pairs(tokenizer, n=200, seed=11)
    best = top_tokens(model, tokenizer, [clean for clean, _ in pairs.texts])
    assert Share.of(np.array(best) == pairs.answer[:, 0]).value >= 0.98


def test_the_corrupted_prompt_turns_the_answer_around(model, tokenizer):
    pairs = tasks.get("ioi").pairs(tokenizer, n=200, seed=12)
    best = top_tokens(model, tokenizer, [corrupted for _, corrupted in pairs.texts])
    assert Share.of(np.array(best) == pairs.counterfactual[:, 0]).value >= 0.98


def test_the_card_and_the_record_state_what_is_measured_now(model, tokenizer, record):
    now = IOIText().measure(model, tokenizer)
    stated = record["measured"]["ioi"]
    assert {what: (share.right, share.n) for what, share in now.items()} == {
        what: (value["right"], value["n"]) for what, value in stated.items()
    }
    card = (nano.path() / "README.md").read_text()
    for what, share in now.items():
        assert share.value >= 0.98, what
        assert f"| {what} | {share.value:.2%} |" in card


def test_the_tied_weights_are_tied(model):
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)


def test_asking_for_the_directory_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from circuits import nano; nano.path(); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
