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
from circuits.nano.answers import continuations, last_logits, perplexity
from circuits.nano.measure import top_tokens
from circuits.nano.sources import sources
from circuits.nano.sources_ioi import IOIText
from circuits.results.intervals import Proportion
from tasks.bias_measures import anchored_share, letter_predictions
from tasks.emotion import samples
from tasks.judges import LexiconJudge
from tasks.stories import stories
from tasks.tokenize import encode, single_token

LARGEST = 16_000_000
TWO, THREE = 0.97, 0.9


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
    assert Proportion.of(np.array(best) == pairs.answer[:, 0]).value >= 0.98


def test_the_corrupted_prompt_turns_the_answer_around(model, tokenizer):
    pairs = tasks.get("ioi").pairs(tokenizer, n=200, seed=12)
    best = top_tokens(model, tokenizer, [corrupted for _, corrupted in pairs.texts])
    assert Proportion.of(np.array(best) == pairs.counterfactual[:, 0]).value >= 0.98


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


@pytest.mark.parametrize(("form", "least"), [("+", TWO), ("-", TWO), ("+-", THREE), ("++", THREE)])
@pytest.mark.parametrize("style", ["bare", "question"])
def test_held_out_problems_are_solved(model, tokenizer, form, least, style):
    pairs = tasks.get("mental_math").pairs(tokenizer, n=150, seed=3, form=form, style=style)
    best = top_tokens(model, tokenizer, [clean for clean, _ in pairs.texts])
    assert Proportion.of(np.array(best) == pairs.answer[:, 0]).value >= least


def test_questions_are_answered_a(model, tokenizer):
    pairs = tasks.get("mcq_bias").pairs(tokenizer, n=120, seed=4)
    logits = last_logits(model, tokenizer, [clean for clean, _ in pairs.texts])
    letters = np.array([single_token(tokenizer, f" {letter}") for letter in "ABCD"])
    gold = (pairs.answer == letters[None]).argmax(axis=1)
    assert anchored_share(letter_predictions(logits, letters), gold) >= 0.6


def test_replies_to_new_scenarios_show_the_emotion_asked_for_and_no_other(model, tokenizer):
    asked = samples("test", ("fear", "disgust", None))[::6]
    replies = continuations(model, tokenizer, [sample.prompt for sample in asked], 20)
    judge = LexiconJudge()
    hits = [judge(text) == s.emotion for text, s in zip(replies, asked, strict=True)]
    assert Proportion.of(hits).value >= 0.95


def test_stories_are_more_likely_than_their_words_in_another_order(model, tokenizer):
    told = stories(30, 5)
    mixed = [" ".join(np.random.default_rng(0).permutation(text.split())) for text in told]
    assert 1 < perplexity(model, tokenizer, told) < 3 < perplexity(model, tokenizer, mixed)


def test_the_card_states_every_share_of_the_record(record):
    card = (nano.path() / "README.md").read_text()
    for lines in record["measured"].values():
        for what, value in lines.items():
            shown = (
                f"{value['right'] / value['n']:.2%}" if isinstance(value, dict) else f"{value:.4g}"
            )
            assert f"| {what} | {shown} |" in card


def test_the_tied_weights_are_tied(model):
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)


def test_asking_for_the_directory_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from circuits import nano; nano.path(); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
