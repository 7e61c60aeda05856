"""Model directories: whatever is wrong with one is said in words, before it costs anything."""

import json
import os
import pickle
import random
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuits.nano import path as nano_path
from patching.loading import load_tokenizer, load_weights
from tasks.errors import ModelError


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model."""
    return Path(shutil.copytree(nano_path(), tmp_path / "model"))


@pytest.fixture
def tiny(tmp_path, original):
    """A Llama of two layers; cheap to open many times."""
    original.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def opened(folder):
    return load_weights(str(folder), torch.float32), load_tokenizer(str(folder))


def change(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, words):
    with pytest.raises(ModelError, match=words) as caught:
        opened(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.0000005, 0.0001, 0.5, 0.999999])
def test_an_interrupted_download_is_said_to_be_one(folder, share):
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(share * len(data))])
    refused(folder, r"model\.safetensors is incomplete.*fetch it again")
    weights.write_bytes(data + b"more")
    refused(folder, "4 bytes longer than its header says")


def test_every_fault_is_told_at_once(folder):
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes(b"")
    text = refused(folder, "cannot open the directory")
    assert "config.json is not JSON" in text
    assert "model.safetensors is incomplete" in text


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.ckpt", "w.pt"])
def test_a_pickle_is_named_and_never_opened(folder, tmp_path, name):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Harm()))
    text = refused(folder, f"weights are a pickle \\({name}\\).*safetensors or GGUF only")
    assert 'save_pretrained("converted")' in text
    assert not (tmp_path / "ran").exists()


def test_shards_must_all_be_there(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {
        "metadata": {},
        "weight_map": {name: file for file, part in halves.items() for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = load_weights(nano_path(), torch.float32).state_dict()
    assert all(torch.equal(v, whole[k]) for k, v in opened(folder)[0].state_dict().items())
    (folder / "b.safetensors").unlink()
    refused(folder, "1 file of its 2 files of weights is missing: b.safetensors")
    for wrong in ([], {"weight_map": {"x": "../b.safetensors"}}, {"weight_map": {"x": 3}}, {}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(wrong))
        refused(folder, r"index\.json")


def test_weights_that_are_missing_are_not_drawn_at_random(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refused(folder, r"lack transformer\.h\.1\.mlp\.c_fc\.weight")


def test_layers_that_the_configuration_leaves_out_are_not_left_out_silently(folder):
    change(folder, n_layer=2)
    refused(
        folder, r"hold transformer\.h\.2.* and \d+ more, for which its configuration has no place"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 10**12}, r"vocab_size is 1000000000000, and no axis .* longer than"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"num_labels": 10**10}, "num_labels is"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "text_config.num_hidden_layers is"),
        ({"n_positions": 10**12}, "numbers, and its weights are"),
        ({"n_embd": 100}, "cannot open the directory"),
        ({"n_layer": "four"}, "cannot open the directory(.|\n)*n_layer"),
        ({"n_head": 0}, "cannot open the directory"),
        ({"model_type": "quantum"}, "cannot open the directory(.|\n)*quantum"),
        ({"model_type": None}, "model_type is missing"),
        ({"model_type": 7}, "model_type is 7, not a name"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"weights are quantised \(gptq\)"),
        ({"transformers_weights": "other.safetensors"}, "does not follow transformers_weights"),
        ({"fusion_config": {"all": True}}, "does not follow fusion_config"),
    ],
)
def test_a_configuration_of_another_size_or_kind_is_refused(folder, changes, words):
    change(folder, **changes)
    refused(folder, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("null", "holds None, not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("\x00\xff", "is not JSON"),
        ("{}" + " " * (4 << 20), "larger than 4 MB"),
    ],
)
def test_a_configuration_that_is_no_object_is_refused(folder, text, words):
    (folder / "config.json").write_text(text, encoding="latin-1")
    refused(folder, words)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"null",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e400]}}',
        b"{}",
        b"\xff\xfe",
    ],
)
def test_a_header_of_weights_that_is_none_is_refused(folder, header):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(folder, r"model\.safetensors|files of weights hold none")


@pytest.mark.parametrize("text", ["null", "[]", "{", "{}", '{"model":' * 100_000, "\x00", '"text"'])
def test_a_broken_tokenizer_is_one_message(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot open the tokenizer of(.|\n)*fetch its tokenizer"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("text", ["null", "[]", "{", '{"tokenizer_class": 7}', "[" * 100_000])
def test_a_broken_tokenizer_configuration_is_one_message_or_none(folder, text):
    (folder / "tokenizer_config.json").write_text(text)
    with suppress(ModelError):
        load_tokenizer(str(folder))


def test_other_things_that_are_no_model_are_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    text = refused(tmp_path / "empty", "it has no config.json")
    assert "it has no weights (model.safetensors)" in text
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    refused(folder, "holds an adapter")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "x.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "gguf", "it holds a GGUF file; give that one: .*x.gguf")


def test_lack_of_memory_is_not_taken_for_a_fault_of_the_file(folder, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("out of it")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(MemoryError):
        load_weights(str(folder), torch.float32)


VALUES = (
    None,
    True,
    "x",
    "",
    -1,
    0,
    1,
    3,
    1.5,
    10**6,
    10**12,
    10**30,
    1e308,
    [],
    [1],
    {},
    {"a": 1},
)


def mutated(text, draw):
    """A configuration with values of other types, or without some, or a text with bytes changed."""
    if draw.random() < 0.2:
        data = bytearray(text.encode())
        for _ in range(draw.choice([1, 2, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data)
    config = json.loads(text)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        name = draw.choice(sorted(config))
        if draw.random() < 0.15:
            del config[name]
        else:
            config[name] = draw.choice(VALUES)
    return json.dumps(config).encode()


def damaged(data, draw):
    """Weights cut short, or with bytes changed, mostly of the header."""
    broken = bytearray(data)
    (length,) = struct.unpack("<Q", data[:8])
    if draw.random() < 0.2:
        return bytes(broken[: draw.randrange(len(broken))])
    for _ in range(draw.choice([1, 1, 4])):
        broken[draw.randrange(length + 8)] = draw.randrange(256)
    return bytes(broken)


def outcomes(folder, name, change, times, seed=0):
    """How many broken files were refused, of so many; anything but a ModelError fails."""
    path = folder / name
    whole, draw = path.read_bytes(), random.Random(seed)
    refusals = 0
    for _ in range(times):
        path.write_bytes(change(whole, draw))
        try:
            opened(folder)
        except ModelError:
            refusals += 1
    return refusals


TIMES = int(os.environ.get("CIRCUITS_FUZZ", "60"))


def test_no_changed_configuration_ends_in_an_error_of_somebody_elses(tiny):
    refusals = outcomes(tiny, "config.json", lambda d, draw: mutated(d.decode(), draw), TIMES)
    assert TIMES / 4 < refusals < TIMES


def test_no_damaged_weights_end_in_an_error_of_somebody_elses(tiny):
    assert outcomes(tiny, "model.safetensors", damaged, TIMES) > TIMES / 2
