"""A random model with a letter bias put into it, small enough for whole mitigations."""

import pytest
import torch

from circuits.studies.bias import items as mcq_items
from circuits.studies.bias import mitigate, recipes
from circuits.studies.bias.answers import answer
from circuits.studies.bias.other_tasks import Stops
from patching.model import Model

SETTINGS = mitigate.Settings(train=16, test=16, others=9)


@pytest.fixture
def _few_candidates(monkeypatch):
    monkeypatch.setattr(recipes, "COUNTS", (1,))
    monkeypatch.setattr(recipes, "STRENGTHS", (1.0,))


@pytest.fixture(scope="package")
def biased(tmp_path_factory):
    """A random GPT-2 with the embedded model's tokenizer, whose last MLP says A when asked."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from circuits.nano.sources_mcq import MCQText
    from circuits.nano.sources_story import StoryText
    from circuits.nano.words import build_tokenizer

    texts = [*MCQText().vocabulary(), *StoryText().vocabulary()]
    tokenizer = build_tokenizer(texts, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        hf = GPT2LMHeadModel(config).eval()
    folder = tmp_path_factory.mktemp("biased")
    with torch.no_grad():
        letters = mcq_items.letter_ids(tokenizer, 5)
        rows = hf.transformer.wte.weight
        rows[letters] *= 4
        hf.transformer.h[1].mlp.c_proj.weight[7] += 6 * rows[letters[0]]
        hf.transformer.h[1].mlp.c_fc.bias[7] += 2.0
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Model.open(folder)


@pytest.fixture(scope="package")
def material(biased):
    return mitigate.prepare(biased, SETTINGS)


@pytest.fixture(scope="package")
def evidence(biased, material):
    stops = Stops.of(biased, material.train_others)
    return recipes.gather(biased, material.train, answer(biased, material.train), stops)
