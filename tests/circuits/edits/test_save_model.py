"""Saved models: transformers opens them alone, with the live edit's logits."""

import json
import subprocess
import sys

import pytest
import torch

from circuits.edits import edit as e
from circuits.edits.plan import plan_for
from circuits.edits.save_model import PLAN, save_edited
from patching.model import Model
from tasks.errors import EditError
from tests.families import build, opened

OPEN = """
import sys, json, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokens = torch.tensor(json.loads(sys.argv[2]))
with torch.no_grad():
    print(json.dumps(model(tokens).logits[:, -1].tolist()))
assert not {"circuits", "patching", "transformer_lens"} & set(sys.modules)
"""
EDITS = (
    e.add("m1.n3", {"#5": -1.0, "#7": 0.5}, 0.7),
    e.scale("a0.h1", 0.0),
    e.RankOne(
        site="m0",
        keys=tuple([0.05] * 48),
        direction=e.Direction(vector=tuple([0.1] * 32)),
    ),
)


def edits(model):
    long = tuple([0.05] * model.anatomy.d_mlp)
    return (*EDITS[:2], EDITS[2].model_copy(update={"keys": long}))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2", "olmo2", "phi3"])
def test_saved_logits_are_those_of_the_live_edit(family, tmp_path):
    model = opened(family)
    plan = plan_for(model, edits(model))
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    out = save_edited(model, plan, tmp_path / "model")
    tokens = torch.arange(12).reshape(2, 6)
    with plan.applied(model):
        wanted = model.run(tokens, torch.ones_like(tokens, dtype=torch.bool))
    from transformers import AutoModelForCausalLM

    saved = AutoModelForCausalLM.from_pretrained(out).eval()
    found = saved(tokens).logits[:, -1]
    assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max() + 1))
    assert json.loads((out / PLAN).read_text())["model"] == model.hash
    state = model.hf.state_dict()
    assert all(torch.equal(state[k], value) for k, value in before.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_saved_in_the_number_type_they_came_in(tmp_path, dtype):
    """Opened in float32 all the same, and the edited matrix is rounded before it is compared."""
    build("llama").to(dtype).save_pretrained(tmp_path / "original")
    model = Model.open(tmp_path / "original")
    assert (model.dtype, model.source_dtype) == (torch.float32, dtype)
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    out = save_edited(model, plan_for(model, edits(model)), tmp_path / "edited")
    from safetensors.torch import load_file

    new, old = (load_file(f / "model.safetensors") for f in (out, tmp_path / "original"))
    assert {w.dtype for w in new.values()} == {dtype}
    assert {k for k in old if not torch.equal(old[k], new[k])} == {
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    }
    sizes = [(f / "model.safetensors").stat().st_size for f in (out, tmp_path / "original")]
    assert sizes[0] == sizes[1]
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).split(".")[1]
    assert all(torch.equal(model.hf.state_dict()[k], v) for k, v in before.items())


def test_a_process_without_circuits_opens_it(tmp_path):
    hf = build("gpt2", tie_word_embeddings=True)
    hf.save_pretrained(tmp_path / "original")
    model = Model.open(tmp_path / "original")
    plan = plan_for(model, edits(model))
    out = save_edited(model, plan, tmp_path / "model")
    tokens = torch.arange(12).reshape(2, 6)
    with plan.applied(model):
        wanted = model.run(tokens, torch.ones_like(tokens, dtype=torch.bool))
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(out), json.dumps(tokens.tolist())],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = torch.tensor(json.loads(done.stdout))
    assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max() + 1))
    names = {entry.name for entry in out.iterdir()}
    assert {"config.json", "model.safetensors", PLAN} <= names
    from safetensors import safe_open

    with safe_open(out / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in set(file.keys())
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path):
    model = opened("gpt2")
    with pytest.raises(EditError, match="no saved model can hold"):
        save_edited(model, plan_for(model, (e.scale("m0", 0.5),)), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_match_is_not_kept(tmp_path, monkeypatch):
    from circuits.edits import save_model

    model = opened("gpt2")
    plan = plan_for(model, (e.scale("a0.h1", 0.5),))
    monkeypatch.setattr(save_model, "load_weights", lambda *_: build("gpt2", seed=3))
    with pytest.raises(EditError, match="differ by"):
        save_edited(model, plan, tmp_path / "model")
    assert not list(tmp_path.iterdir())
