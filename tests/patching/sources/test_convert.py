"""GGUF files: the numbers and the tokenizer they hold, once converted, and what is refused."""

import json
import os
import random
import resource
import shutil
import threading

import numpy as np
import pytest
import torch

from circuits.models import load_model, name_of
from patching.loading import load_tokenizer, load_weights
from patching.sources import cache, convert, gguf_of
from patching.sources.gguf import Gguf
from tasks.errors import ModelError
from tests import tiny_gguf

SINGLE = torch.float32


def logits(hf):
    tokens = torch.arange(40)[None] * 5 % tiny_gguf.VOCABULARY
    with torch.no_grad():
        return hf(tokens).logits


def left(folder):
    """What is in the cache beside lock files and notes of hashes."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if not name.endswith((".lock", ".stamp"))]


def test_a_gguf_file_opens_as_the_model_it_was_written_from(gguf_file, original):
    found = load_weights(str(gguf_file), SINGLE)
    torch.testing.assert_close(logits(found), logits(original), rtol=1e-5, atol=1e-5)
    assert "quantization_config" not in found.config.to_dict()
    model = load_model(gguf_file)
    assert model.path == str(gguf_file)
    assert model.anatomy.n_kv_heads == tiny_gguf.KV_HEADS


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_quantised_weights_are_kept_exactly(tmp_path, original, kind):
    from gguf import GGMLQuantizationType, quants

    path = tiny_gguf.write(tmp_path / f"tiny.{kind}.gguf", original, kind=kind)
    found = load_weights(str(path), SINGLE).state_dict()
    stored = GGMLQuantizationType[kind]
    for name, value in original.state_dict().items():
        if value.ndim == 2 and "q_proj" not in name and "k_proj" not in name:
            blocks = quants.quantize(value.numpy(), stored)
            np.testing.assert_array_equal(found[name], quants.dequantize(blocks, stored))
    assert name_of(str(path)) == f"tiny, {kind}"


def test_the_tokenizer_encodes_as_the_files_own(gguf_file):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    found = load_tokenizer(str(gguf_file))
    for text in ("hello the world", "<s> héllo 42\n</s>", ""):
        assert found(text)["input_ids"] == own(text)["input_ids"]
        assert found.decode(found(text)["input_ids"]) == own.decode(own(text)["input_ids"])
    assert found("hello")["input_ids"][:1] == [259]


def test_the_second_opening_reads_neither_the_file_nor_its_hash(gguf_file, monkeypatch):
    first = load_weights(str(gguf_file), SINGLE)
    monkeypatch.setattr(Gguf, "_blocks", lambda self: pytest.fail("read again"))
    monkeypatch.setattr(convert, "_convert", lambda *_: pytest.fail("converted again"))
    second = load_weights(str(gguf_file), SINGLE)
    assert torch.equal(logits(first), logits(second))


def test_a_file_that_was_replaced_is_another_model(gguf_file):
    before = load_weights(str(gguf_file), SINGLE)
    tiny_gguf.write(gguf_file, tiny_gguf.llama(seed=1))
    os.utime(gguf_file, ns=(1, 1))
    after = load_weights(str(gguf_file), SINGLE)
    assert not torch.allclose(logits(before), logits(after))


def test_nothing_is_printed(gguf_file, capfd):
    load_weights(str(gguf_file), SINGLE)
    load_tokenizer(str(gguf_file))
    assert capfd.readouterr() == ("", "")


def test_what_lies_beside_the_file_is_not_read(gguf_file):
    (gguf_file.parent / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    (gguf_file.parent / "generation_config.json").write_text("[broken")
    assert load_tokenizer(str(gguf_file))("hello")["input_ids"][:1] == [259]


def test_one_of_two_that_open_a_file_at_once_converts_it(gguf_file, monkeypatch):
    converted, times = convert._convert, []
    monkeypatch.setattr(convert, "_convert", lambda *a: (times.append(1), converted(*a)))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(convert.converted(gguf_of(str(gguf_file)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 1
    assert len(found) == 4
    assert len(set(found)) == 1


def test_what_a_killed_conversion_left_is_cleared_by_the_next(gguf_file, cache_home):
    sha256 = gguf_of(str(gguf_file)).sha256
    remains = cache_home / f".{sha256}.0123.partial"
    remains.mkdir(parents=True)
    (remains / "model.safetensors").write_bytes(b"half")
    load_weights(str(gguf_file), SINGLE)
    assert left(cache_home) == [sha256]


def test_clearing_removes_what_is_ours_and_says_how_much(gguf_file, cache_home):
    load_weights(str(gguf_file), SINGLE)
    (cache_home / "notes.txt").write_text("mine")
    (cache_home / ("a" * 64)).mkdir()
    size = sum(file.stat().st_size for file in cache_home.glob("*/*"))
    assert cache.clear() == size
    assert sorted(left(cache_home)) == ["a" * 64, "notes.txt"]
    assert cache.clear() == 0
    load_weights(str(gguf_file), SINGLE)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_one_message(gguf_file, cache_home, share):
    data = gguf_file.read_bytes()
    gguf_file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"incomplete|not a GGUF file") as caught:
        load_weights(str(gguf_file), SINGLE)
    assert str(gguf_file) in str(caught.value)
    assert left(cache_home) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"architecture": "llamoid"}, "architecture llamoid is not supported"),
        ({"architecture": "t5"}, "cannot open the GGUF file"),
        ({"tokenizer": False}, "holds no tokenizer"),
        ({"block_count": 3}, "says that it has 3 layers, and holds 2"),
        ({"block_count": 1}, "says that it has 1 layers, and holds 2"),
        ({"block_count": 1 << 31}, "block_count is 2147483648"),
        ({"vocab_size": 1 << 31}, "vocab_size is 2147483648"),
        ({"feed_forward_length": 63}, "cannot open the GGUF file"),
        (
            {"split_count": 2, "split_no": 0},
            r"part 1 of 2 of a model(.|\n)*llama-gguf-split --merge",
        ),
    ],
)
def test_files_of_another_kind_are_refused_in_words(tmp_path, original, cache_home, facts, words):
    path = tiny_gguf.write(tmp_path / "odd.gguf", original, **facts)
    with pytest.raises(ModelError, match=words):
        load_weights(str(path), SINGLE)
    assert left(cache_home) == []


def test_parts_that_are_missing_are_named(gguf_file):
    first = gguf_file.with_name("big-00001-of-00003.gguf")
    gguf_file.rename(first)
    with pytest.raises(
        ModelError, match=r"big-00002-of-00003\.gguf, big-00003-of-00003\.gguf are not"
    ):
        load_model(first)
    for number in (2, 3):
        shutil.copy(first, first.with_name(f"big-0000{number}-of-00003.gguf"))
    with pytest.raises(ModelError, match=r"part 1 of 3 of a model\. Join them into one file"):
        load_model(first)


def test_a_missing_file_and_a_missing_package_are_named(tmp_path, gguf_file, monkeypatch):
    with pytest.raises(ModelError, match=r"there is no file '.*gone\.gguf'"):
        load_model(tmp_path / "gone.gguf")
    monkeypatch.setattr("patching.sources.gguf.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install gguf accelerate"):
        load_model(gguf_file)


def test_a_cache_that_cannot_be_written_is_named(gguf_file, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("CIRCUITS_CACHE", str(tmp_path / "taken"))
    with pytest.raises(
        ModelError, match=r"cannot be written: .*; let CIRCUITS_CACHE name a folder"
    ):
        load_model(gguf_file)


def test_a_disk_without_room_is_refused_before_anything_is_written(
    gguf_file, cache_home, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1 << 20))
    with pytest.raises(ModelError, match=r"takes 0\.07 GB, and the disk of .* has 0\.00 GB left"):
        load_model(gguf_file)
    assert left(cache_home) == []


def test_a_disk_that_is_full_half_way_leaves_nothing(gguf_file, cache_home):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    gguf_of(str(gguf_file)).sha256  # noqa: B018 the note of the hash is written before
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError, match="which cannot be written"):
            load_weights(str(gguf_file), SINGLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left(cache_home) == []
    load_weights(str(gguf_file), SINGLE)


def test_no_change_of_a_byte_ends_in_an_error_of_somebody_elses(gguf_file, cache_home):
    data, draw = gguf_file.read_bytes(), random.Random(0)
    header = data.index(b"blk.0") + 2000
    opened = 0
    for _ in range(40):
        broken = bytearray(data)
        for _ in range(draw.choice([1, 1, 4])):
            broken[draw.randrange(header)] = draw.randrange(256)
        gguf_file.write_bytes(broken)
        try:
            load_weights(str(gguf_file), SINGLE)
            load_tokenizer(str(gguf_file))
            opened += 1
        except ModelError:
            continue
    assert opened < 40
    assert all(
        json.loads((cache_home / name / cache.ABOUT).read_text()) for name in left(cache_home)
    )
