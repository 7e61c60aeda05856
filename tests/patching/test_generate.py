"""Generation: the cache changes nothing, taps act at every step, rows end where they should."""

import pytest
import torch

from patching.generate import Choosing, Decoding, generate
from tasks.errors import TaskError
from tests.families import FAMILIES, VOCABULARY, make_pairs, opened, original

NEW = 8


@pytest.fixture(scope="module")
def prompts():
    pairs = make_pairs()
    return torch.tensor(pairs.clean), torch.tensor(pairs.mask)


def recomputed(model, tokens, mask, new, tap=None):
    """Tokens and logits of every step, each from a whole forward pass."""
    logits = []
    for _ in range(new):
        here = model.run(tokens, mask) if tap is None else model.run(tokens, mask, tap)
        logits.append(here)
        tokens = torch.cat([tokens, here.argmax(-1)[:, None]], dim=1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=True)
    return tokens[:, -new:], logits


def double_head(kind, layer, value):
    """An edit that acts alike at every position."""
    return value * 2.0 if (kind, layer) == ("z", 0) else value


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tap", [None, double_head])
def test_cached_steps_equal_whole_forward_passes(family, tap, prompts):
    model = opened(family)
    tokens, logits = recomputed(model, *prompts, NEW, tap)
    found = generate(model, *prompts, NEW, **({} if tap is None else {"tap": tap}))
    assert found.tolist() == tokens.tolist()
    steps = Decoding(model, *prompts, NEW, **({} if tap is None else {"tap": tap}))
    for column, wanted in enumerate(logits):
        got = steps.prompt() if column == 0 else steps.step(tokens[:, column - 1])
        assert torch.allclose(got, wanted, atol=1e-5 * float(wanted.abs().max() + 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_generation_is_that_of_transformers(family, prompts):
    tokens, mask = prompts
    model, hf = opened(family), original(family)
    wanted = []
    for row, real in zip(tokens, mask, strict=True):
        prompt = row[real][None]
        with torch.no_grad():
            out = hf.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                eos_token_id=VOCABULARY + 1,
                pad_token_id=0,
            )
        wanted.append(out[0, prompt.shape[1] :].tolist())
    assert generate(model, tokens, mask, NEW).tolist() == wanted


def test_a_tap_sees_the_prompt_and_then_one_position_at_a_time(prompts):
    seen = []

    def watch(kind, layer, value):
        if (kind, layer) == ("pattern", 1):
            seen.append(tuple(value.shape[2:]))
        return value

    generate(opened("llama"), *prompts, 3, tap=watch)
    length = prompts[0].shape[1]
    assert seen == [(length, length), (1, length + 1), (1, length + 2)]


def test_a_row_ends_with_a_stop_token_and_repeats_it(prompts):
    model = opened("gpt2")
    free = generate(model, *prompts, NEW)
    end = int(free[0, 2])
    stopped = generate(model, *prompts, NEW, stop=end)
    for row, before in zip(stopped.tolist(), free.tolist(), strict=True):
        at = before.index(end) if end in before else NEW
        assert row == (before[: at + 1] + [end] * NEW)[: len(row)]
    one = (prompts[0][:1], prompts[1][:1])
    assert generate(model, *one, NEW, stop=[end, 60]).shape[1] <= 3


def test_all_faults_are_told_at_once(prompts):
    model = opened("gpt2")
    tokens, mask = prompts
    with pytest.raises(TaskError) as told:
        generate(model, tokens + VOCABULARY, mask.flip(1), 0)
    for part in ("max_new_tokens is 0", "padded on the left", "outside the vocabulary"):
        assert part in str(told.value)
    with pytest.raises(TaskError, match="129 positions are needed and this model has 128"):
        generate(model, tokens, mask, 121)
    with pytest.raises(TaskError, match="give \\[b, s\\] both"):
        generate(model, tokens, mask[:, 1:], 1)
    assert generate(model, tokens, mask, 120).shape == (len(tokens), 120)


def test_no_temperature_is_the_most_likely_token(prompts):
    model = opened("gpt2")
    greedy = generate(model, *prompts, NEW)
    assert generate(model, *prompts, NEW, temperature=0.0, top_p=0.5, seed=3).equal(greedy)
    assert generate(model, *prompts, NEW, temperature=1.0, top_p=1e-9, seed=3).equal(greedy)
    assert generate(model, *prompts, NEW, temperature=1e-6, seed=3).equal(greedy)


def test_a_seed_gives_the_same_text_and_another_seed_another(prompts):
    model = opened("gpt2")
    one, again, other = (
        generate(model, *prompts, NEW, temperature=1.0, seed=seed) for seed in (0, 0, 1)
    )
    assert one.equal(again)
    assert not one.equal(other)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8), (2.0, 0.5)])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature, top_p):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    probs = (logits[0] / temperature).softmax(-1)
    kept, total = [], 0.0
    for token in probs.argsort(descending=True).tolist():
        if total < top_p:
            kept.append(token)
        total += float(probs[token])
    expected = torch.zeros(4)
    expected[kept] = probs[kept] / probs[kept].sum()
    choose = Choosing(temperature, top_p)
    torch.testing.assert_close(choose.distribution(logits)[0], expected)
    drawn = choose(logits.expand(20_000, 4), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    assert torch.allclose(shares, expected, atol=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0, give 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"top_p": 0.0}, "top_p is 0.0, give more than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"seed": -1}, "seed is -1; give at least 0"),
    ],
)
def test_what_cannot_be_sampled_by_is_refused(prompts, wrong, message):
    with pytest.raises(TaskError, match=message):
        generate(opened("gpt2"), *prompts, NEW, **({"temperature": 1.0} | wrong))
