"""What a discovery takes, before it is begun: by a trial, and on paper."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.models import nano_path
from circuits.planning import planned
from patching import paper
from patching.memory import peak
from tasks.errors import MethodError, ModelError

LLAMA_8B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


@pytest.fixture
def large(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    return str(tmp_path)


@pytest.fixture(scope="module")
def plan():
    return circuits.plan("ioi", n=8, batch_size=4, method="attribution", top=30)


def test_a_trial_says_what_there_is_to_do(plan):
    assert (plan.units, plan.unit, plan.prompts, plan.batch_size) == (479, "edge", 8, 4)
    assert plan.weights == 4 * plan.parameters
    assert not plan.paper
    assert plan.passes["scoring"] == 5.0
    assert plan.total_seconds == sum(plan.seconds.values()) > 0
    assert plan.measured > 0
    assert list(plan.seconds) == [
        "opening the model",
        "making the prompts",
        "scoring",
        "testing the circuit",
        "looking inside",
        "testing on new prompts",
    ]


def test_it_can_be_read_and_written(plan):
    text = str(plan)
    assert "8 pairs of up to" in text
    assert "in batches of 4" in text
    assert "479" in text
    data = json.loads(json.dumps(plan.to_json()))
    assert data["total_seconds"] == plan.total_seconds


def test_what_cannot_fit_is_refused_with_what_does():
    config = Config("ioi", n=4, memory="1MB").settled()
    with pytest.raises(
        MethodError, match=r"takes about \d+ MB beside the model, and memory is 1 MB"
    ):
        planned(config)


def test_the_setting_that_fits_is_named():
    whole = circuits.plan("ioi", n=8, batch_size=8, method="attribution")
    limit = f"{(whole.formula - 1) // 1000}kB"
    less = circuits.plan("ioi", n=8, batch_size=8, method="attribution", memory=limit)
    assert (less.batch_size, less.twice) != (8, False)
    assert less.formula <= less.limit < whole.formula
    assert "every block twice" in str(less) or less.batch_size < 8


def test_a_model_on_paper_needs_no_weights(large):
    found = circuits.plan("ioi", large, n=16, batch_size=16)
    vocabulary = 2 * 128256 * 4096
    layer = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert found.parameters == vocabulary + 32 * layer + 4096
    assert (found.paper, found.tokens, found.total_seconds) == (True, 64, None)
    assert found.measured is None
    # Every head has three ports; senders are the input, and heads and MLPs of earlier layers.
    receivers = sum((1 + 33 * at) * 3 * 32 + (1 + 33 * at + 32) for at in range(32))
    assert found.units == receivers + 1 + 33 * 32
    # In half precision it fits one GPU of 80 GB.
    assert (found.weights + found.formula) / 2 < 80e9
    assert "unknown: there are no weights here" in str(found)
    assert "in bfloat16 or float16 16.1 GB of weights" in str(found)


def test_prompts_on_paper_are_those_of_the_tokenizer(tmp_path, plan):
    for file in nano_path().iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    options = {"n": 8, "batch_size": 4, "method": "attribution", "top": 30}
    found = circuits.plan("ioi:split=test", str(tmp_path), **options)
    assert (found.units, found.tokens, found.prompts) == (plan.units, plan.tokens, plan.prompts)
    assert (found.parameters, found.formula) == (plan.parameters, plan.formula)
    assert found.passes == plan.passes


def test_the_command_prints_it_and_writes_nothing(large, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["discover", "ioi", "--model", large, "--plan"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert "32 layers, 8,030.3 million weights" in done.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told["paper"]
    refused = CliRunner().invoke(app, [*words, "--memory", "500MB"])
    assert refused.exit_code == 2
    assert "give it more" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_broken_configuration_on_paper_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"')
    assert paper.is_paper(str(tmp_path))
    with pytest.raises(ModelError):
        paper.opened_on_paper(str(tmp_path))


def test_a_directory_with_weights_is_not_paper(tmp_path):
    assert not paper.is_paper(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    assert not paper.is_paper(str(tmp_path))


def test_the_most_memory_taken_in_a_block_is_seen():
    with peak(circuits.load_model("nano")) as most:
        kept = torch.ones(2**25)
        assert kept.sum()
        del kept
        torch.ones(2**10)
    assert 2**27 * 0.9 < most() < 2**27 * 2
