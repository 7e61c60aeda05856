"""Opening models: ours computes what theirs computes, and theirs is left as it was."""

import copy

import pytest
import torch

from patching.forward import Record, Write
from patching.model import Model
from patching.nodes.layout import senders
from patching.norms import rounding
from patching.scoring import score
from tasks.errors import ModelError
from tests import definitions, families

BRIDGE_NAMES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
    "mlp_post": "mlp.hook_post",
}


@pytest.fixture
def model(family):
    """In float32, as transformers computes."""
    return families.single(family)


def tokens(length=14, n=3):
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, families.VOCABULARY, (n, length), generator=generator)
    return ids, torch.ones_like(ids, dtype=torch.bool)


def snapshot(module):
    """Everything about a module that analysis could leave changed."""
    return {
        "weights": {name: value.clone() for name, value in module.state_dict().items()},
        "grads": {name: (p.requires_grad, p.grad) for name, p in module.named_parameters()},
        "modules": {name: (type(m), m.training) for name, m in module.named_modules()},
        "hooks": [
            (name, hooks)
            for name, m in module.named_modules()
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
            if len(hooks)
        ],
    }


def assert_same(before, after):
    weights = before.pop("weights"), after.pop("weights")
    assert before == after
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_logits_are_those_of_the_hugging_face_model(family, model):
    ids, mask = tokens()
    with torch.no_grad():
        theirs = families.original(family)(ids).logits[:, -1]
        torch.testing.assert_close(model.run(ids, mask), theirs, rtol=1e-5, atol=1e-5)


def test_padding_on_the_left_changes_nothing(family, model):
    ids, mask = tokens()
    mask[1, :3] = False
    mask[2, :9] = False
    with torch.no_grad():
        ours = model.run(ids, mask)
        for row, used, logits in zip(ids, mask, ours, strict=True):
            theirs = families.original(family)(row[used][None]).logits[0, -1]
            torch.testing.assert_close(logits, theirs, rtol=1e-5, atol=1e-5)
        ids[1, :3] = 0
        assert torch.equal(model.run(ids, mask), ours)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gpt_neo"])
def test_the_window_hides_what_is_behind_it(family):
    """In one windowed layer the last token does not see tokens further back than the window."""
    model = families.single(family)
    layer = 1 if family == "gpt_neo" else 0
    window = model.blocks[layer].window
    assert window == 4
    ids, mask = tokens(length=10)
    pattern = Record(["pattern"])
    with torch.no_grad():
        model.run(ids, mask, pattern)
    seen = pattern.values["pattern", layer][:, :, -1] > 0
    assert seen[..., -window:].all()
    assert not seen[..., :-window].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types(family, dtype):
    model = Model.open(copy.deepcopy(families.original(family)), dtype=dtype)
    assert model.dtype == dtype
    ids, mask = tokens()
    with torch.no_grad():
        single = families.single(family).run(ids, mask)
        torch.testing.assert_close(
            model.run(ids, mask).float(), single, rtol=0, atol=10 * rounding(dtype)
        )


def test_scores_opened_precision_are_complete_to_far_more_digits(family, pairs):
    model = families.opened(family)
    scores = score(model, pairs, "secant", "edge")
    for end in ("input->", "->logits"):
        cut = sum(scores[name] for name in scores if end in name)
        assert cut == pytest.approx(scores.total_effect, abs=1e-8)


def test_scores_of_a_half_precision_model_are_close(family, pairs):
    model = Model.open(copy.deepcopy(families.original(family)), dtype=torch.bfloat16)
    for method in ("activation", "relevance", "secant"):
        scores = score(model, pairs, method, "node")
        single = score(families.single(family), pairs, method, "node")
        # In bfloat16 a logit of 1 is itself known to about .004 only.
        scale = max(1, abs(single.values).max())
        assert abs(scores.values - single.values).max() < 0.05 * scale


def test_values_are_those_of_the_bridge(model):
    ids, mask = tokens()
    # Where all heads share a norm, a query is what stands behind it; the bridge shows it before.
    ahead = {f"{port}_raw": port for port in model.blocks[0].whole_norms}
    names = {k: n for k, n in BRIDGE_NAMES.items() if k not in ahead.values()}
    names |= {raw: BRIDGE_NAMES[port] for raw, port in ahead.items()}
    ours = Record(names)
    with torch.no_grad():
        model.run(ids, mask, ours)
        _, cache = model.bridge.run_with_cache(ids)
    found = 0
    for (kind, layer), value in ours.values.items():
        theirs = cache[f"blocks.{layer}.{names[kind]}"]
        torch.testing.assert_close(value, theirs.reshape(value.shape), rtol=1e-5, atol=1e-5)
        found += 1
    kinds = len(BRIDGE_NAMES) - model.anatomy.parallel
    assert found == kinds * model.anatomy.n_layers


def test_what_the_senders_write_adds_up_to_the_residual_stream(model, pairs):
    batch = families.one_batch(model, pairs)
    found = definitions.values(model, batch, "clean")
    total = sum(definitions.sender_write(model, found, site) for site in senders(model.anatomy))
    zero = torch.zeros(1, 1, model.anatomy.n_heads, model.anatomy.d_head)
    for block in model.blocks:
        constant = block.attention_output(zero)
        assert block.ln1_post is None or not constant.any()
        total = total + constant
    last = found["resid_post", model.anatomy.n_layers - 1]
    torch.testing.assert_close(total, last, rtol=1e-5, atol=1e-5)


def test_every_tapped_value_is_alive(model):
    """Replacing any value on its way moves the logits of the same forward pass."""
    ids, mask = tokens(length=6)
    everything = definitions.Everything()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        base = model.run(ids, mask, everything)
        for point, value in everything.values.items():
            factor = 1 + torch.rand(value.shape, generator=generator)
            edited = model.run(ids, mask, Write({point: lambda v, f=factor: v * f}))
            assert (edited - base).abs().max() > 1e-4, f"{point} is dead"


def test_writing_the_stream_between_attention_and_mlp_reaches_both_its_readers():
    """Unlike hook_resid_mid of the bridge, a write there also goes on in the stream itself."""
    model = families.single("llama")
    ids, mask = tokens()
    shift = torch.ones(model.anatomy.d_model)
    with torch.no_grad():
        at_mid = model.run(ids, mask, Write({("resid_mid", 0): lambda v: v + shift}))
        at_out = model.run(ids, mask, Write({("attn_out", 0): lambda v: v + shift}))
        mlp_only = model.run(ids, mask, Write({("mlp_in", 0): lambda v: v + shift}))
    torch.testing.assert_close(at_mid, at_out)
    assert (at_mid - mlp_only).abs().max() > 1e-2


@pytest.mark.parametrize("method", ["activation", "attribution", "ig", "relevance", "secant"])
def test_nothing_is_left_on_any_model(family, model, pairs, method):
    hf = families.original(family)
    before = snapshot(hf), snapshot(model.hf)
    ids, mask = tokens()
    with torch.no_grad():
        logits = hf(ids).logits, model.run(ids, mask)
    for level in ("node", "edge"):
        score(model, pairs, method, level)
    with torch.no_grad():
        assert torch.equal(hf(ids).logits, logits[0])
        assert torch.equal(model.run(ids, mask), logits[1])
    assert_same(before[0], snapshot(hf))
    assert_same(before[1], snapshot(model.hf))
    assert all(p.grad is None for p in model.hf.parameters())


def test_opening_leaves_a_model_in_memory_as_it_was(family):
    hf = families.build(family, seed=3).train()
    before = snapshot(hf)
    Model.open(hf)
    assert_same(before, snapshot(hf))
    assert all(p.requires_grad for p in hf.parameters())


def test_edits_of_the_live_weights_are_seen():
    model = Model.open(families.build("llama"))
    ids, mask = tokens()
    with torch.no_grad():
        without = model.run(
            ids, mask, Write({("z", 1): lambda z: z.index_fill(2, torch.tensor(2), 0)})
        )
        model.bridge.blocks[1].attn.W_O[2].zero_()
        torch.testing.assert_close(model.run(ids, mask), without)


def test_the_hash_is_that_of_the_contents(tmp_path):
    hf = families.build("gpt2")
    in_memory = Model.open(hf)
    hf.save_pretrained(tmp_path)
    from_disk = Model.open(tmp_path)
    assert from_disk.hash == in_memory.hash == families.single("gpt2").hash
    assert from_disk.tokenizer is None
    assert from_disk.path == str(tmp_path)
    assert "gpt2, 2 layers, 4 heads, d_model 32" in repr(from_disk)
    hf.transformer.h[0].mlp.c_fc.bias.data[0] += 1
    assert Model.open(hf).hash != in_memory.hash


def test_anatomy_says_what_the_family_is_made_of(family, model):
    a = model.anatomy
    assert (a.n_layers, a.n_heads, a.d_model) == (2, 4, 32)
    assert a.n_kv_heads == (2 if family in families.GROUPED else 4)
    assert a.d_head == (16 if family in ("gemma2", "gemma3", "qwen3") else 8)
    assert a.d_mlp == (128 if family in ("gpt2", "gpt_neo", "bloom") else 48)
    assert a.parallel == (family in ("gpt_neox", "cohere"))
    assert a.family == families.CONFIGS[family][0]
    assert model.vocabulary_size == families.VOCABULARY


def test_an_id_that_is_not_cached_names_the_offline_ways():
    with pytest.raises(ModelError, match=r"model id 'nobody/nothing'(.|\n)*offline, use 'nano'"):
        Model.open("nobody/nothing")


def test_a_directory_without_weights_or_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot open the directory"):
        Model.open(tmp_path)
    families.build("gpt2").config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot open the directory(.|\n)*model\.safetensors"):
        Model.open(tmp_path)


def test_what_is_no_transformers_model_is_refused():
    with pytest.raises(ModelError, match="a Linear is not a transformers model"):
        Model.open(torch.nn.Linear(3, 3))


def test_a_block_that_does_more_than_its_parts_say_is_refused():
    hf = families.build("llama")
    mlp = hf.model.layers[1].mlp
    kind = type(mlp)
    mlp.__class__ = type(
        "Louder", (kind,), {"forward": lambda self, x: 1.5 * kind.forward(self, x)}
    )
    with pytest.raises(ModelError, match="computes something circuits does not know"):
        Model.open(hf)


def test_a_norm_of_another_kind_is_refused():
    hf = families.build("llama")
    norm = hf.model.layers[0].input_layernorm
    kind = type(norm)
    norm.__class__ = type("Odd", (kind,), {"forward": lambda self, x: kind.forward(self, x).abs()})
    with pytest.raises(ModelError, match="neither LayerNorm nor RMSNorm"):
        Model.open(hf)


def test_opening_a_directory_prints_nothing(tmp_path, capfd):
    from transformers.utils import logging

    families.build("gpt2").save_pretrained(tmp_path)
    capfd.readouterr()
    shown = logging.is_progress_bar_enabled()
    Model.open(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled() == shown
