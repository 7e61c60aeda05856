"""Mutated files for every reader: bytes and values changed, cut, doubled, and replaced by odd ones.

`python -m tests.fuzz_readers 100000 0 [FOLDER ...]` makes that many mutated files with that seed,
also of the files in the folders, and prints what came of them. A fault is any exception that is not
the project's own, any file that takes over 5 seconds of computing, and memory over 1 GB more than
an empty process with the same libraries has.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from circuits.cli.show import present
from circuits.edits import edit as e
from circuits.edits.latents import latent_edit
from circuits.edits.plan import EditPlan, read_plan
from circuits.folder import EVALUATION, read_held_out
from circuits.held_out.fresh_prompts import config_of
from circuits.results.record import RECORD, read_record
from circuits.studies.emotion.prompts import read_concept
from graphs import CircuitGraph
from graphs.formats import render
from patching.scores import Scores
from patching.sources.directory import CONFIG, INDEX, WEIGHTS, check_directory
from patching.sources.header import read_header
from tasks.errors import CircuitsError
from tasks.files import check_lines, read_file
from tasks.mcq_files import read_question_file
from tests import fuzz_dictionaries
from tests.graphs.strategies import circuit
from tests.tasks.conftest import WordTokenizer

SECONDS, MEGABYTES = 5.0, 1000
OPENED = 20
"""One model directory of so many is opened with transformers; the others are checked alone."""
ODD = (
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\t", b";", b","),
    *(b'"', b'""', b"'", b"\\", b"\\ud83d", b"\\u0000", b"[", b"]", b"{", b"}", b"[[[[[[[[[["),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 5000, b"1" * 25, b"-0.0", b"[]", b"{}"),
    *(b'"clean"', b'"question"', b'"messages": [], ', b'"a": 1, "a": 2, ', b"<", b">", b"&#0;"),
    *(b"correct_idx", b"PAR1", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"(" * 300, b"[" * 3000),
    *(b"a." * 300, b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x08\x00\x00\x00", b"= 1\n[["),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**400, 0.5, -1e-300, 1e308),
    *(float("inf"), float("nan"), "", "x", "a0.h1", "m9999999999", "1.0", "2.0", "\x00", "\ud800"),
    *([], {}, [[]], [1, 2], ["x"], [None], {"x": 1}, {"": {}}, "9" * 5000, "x" * 70000),
    *([0] * 2000, json.loads("[" * 90 + "]" * 90)),
)

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Reader:
    """What reads a file, the name it wants, and the kinds of files it is given."""

    read: Read
    kinds: tuple[str, ...]
    name: str = "file"


TEXT = ("text",)


def readers() -> dict[str, Reader]:
    """Everything that reads what others wrote, by name."""
    found = {
        "pairs": Reader(lambda path: read_file(path, WordTokenizer(), skip_bad=False), TEXT),
        "pairs, bad rows skipped": Reader(
            lambda path: read_file(path, WordTokenizer(), skip_bad=True), TEXT
        ),
        "pairs, no tokenizer": Reader(lambda path: read_file(path, None), TEXT),
        "lines": Reader(check_lines, TEXT),
        "questions": Reader(lambda path: read_question_file(path, skip_bad=False), TEXT),
        "questions, bad rows skipped": Reader(
            lambda path: read_question_file(path, skip_bad=True), TEXT
        ),
        "concept": Reader(read_concept, ("concept", "text")),
        "circuit": Reader(lambda path: CircuitGraph.load(path, "json"), ("circuit", "mib")),
        "graphml": Reader(lambda path: CircuitGraph.load(path, "graphml"), ("graphml",)),
        "plan as JSON": Reader(_plan, ("plan",), "plan.json"),
        "plan as TOML": Reader(_plan, ("toml",), "plan.toml"),
        "scores": Reader(_scores, ("scores",)),
        "means": Reader(_means, ("means",)),
        "record": Reader(_record, ("record",), RECORD),
        "evaluation": Reader(lambda path: read_held_out(path.parent), ("evaluation",), EVALUATION),
        "configuration": Reader(_directory, ("configuration",), f"model/{CONFIG}"),
        "weights": Reader(_directory, ("weights",), f"model/{WEIGHTS}"),
        "tokenizer": Reader(_directory, ("tokenizer",), "model/tokenizer.json"),
        "index": Reader(lambda path: check_directory(path.parent), ("index",), f"parts/{INDEX}"),
    }
    found |= {
        name: Reader(read, (name,), fuzz_dictionaries.FILES[name])
        for name, read in fuzz_dictionaries.reads().items()
    }
    if find_spec("gguf") is not None:
        found["GGUF"] = Reader(_gguf, ("gguf",), "model.gguf")
    return found


def _plan(path: Path) -> None:
    read_plan(path).check()


def _scores(path: Path) -> None:
    scores = Scores.load(path)
    scores.ranked()
    repr((scores, scores.total_effect, scores.standard_error))


def _means(path: Path) -> None:
    from patching.ablation.means import MeanActivations

    repr(MeanActivations.load(path))


def _record(path: Path) -> None:
    config_of(read_record(path))
    with contextlib.redirect_stdout(io.StringIO()):
        present(path.parent, None, None)


def _directory(path: Path) -> None:
    from patching.model import Model

    check_directory(path.parent)
    if crc32(path.read_bytes()) % OPENED == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Model.open(path.parent)


def _gguf(path: Path) -> None:
    from patching.sources.gguf import check_complete

    header = read_header(path)
    check_complete(path, header)
    repr(header.quantisation)


ROW = '{"clean": "A is", "corrupted": "B is", "answer": " x", "counterfactual": " y", "id": 3}\n'
IDS = '{"clean": [1, 2], "corrupted": [3, 2], "answer": 5, "counterfactual": [6, 7]}\n'
ASKED = (
    '{"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}\n'
)
TEXTS = (
    ROW * 2,
    IDS,
    f'{{"prompts": [{ROW.strip()}]}}',
    'clean,corrupted,answer,counterfactual\nA is,B is," x"," y"\n',
    "clean,corrupted,correct_idx\nfrom 1741 to 17,from 1701 to 17,41\n",
    ",clean,corrupted,correct_idx,incorrect_idx\n0,A is,B is,3,4\n",
    ASKED,
    '"What, then?",1,2,3,"4, or so",D\n',
)


def concept() -> dict[str, Any]:
    """A small concept of two labels."""
    prompts = [
        {"text": f"I {label}", "group": str(group), "label": label, "split": split}
        for group, split in enumerate(("discovery", "test"))
        for label in ("joy", "fear", None)
    ]
    return {"labels": {"joy": ["glad"], "fear": ["afraid"]}, "prompts": prompts}


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Real files of every kind; ``folder`` then also holds a directory of a model."""
    graph = circuit(("input->a0.h1<q>", 0.5), ("a0.h1->logits", -2.0), task="ioi")
    found = {"text": [text.encode() for text in TEXTS]}
    found["concept"] = [json.dumps(concept()).encode()]
    found |= {kind: [render(graph, form)] for kind, form in FORMS.items()}
    edits = (
        e.add("m0.n1", {" A": -1.0}),
        e.scale("a0.h0", 0.5),
        e.RankOne(site="m0", keys=(1.0, 0.0), direction=e.as_direction({" A": 1.0})),
        e.swap_attention("a0.h1", "S1", "S2"),
        e.steer("resid_post.0", [1.0, 0.0]),
        e.clamp("resid_pre.1", {" A": 1.0}, low=-1.0),
        latent_edit("m1.f7@END", "resid_post.1=sae", factor=0, low=-1.0),
    )
    plans = [EditPlan(model="0" * 64, basis="raw", edits=part) for part in (edits, e.keep(graph))]
    found["plan"] = [plan.to_json().encode() for plan in plans]
    found["toml"] = [plan.to_toml().encode() for plan in plans]
    found |= {"record": [record().encode()], "evaluation": [EVALUATED.encode()]}
    return found | tensors(folder, graph) | model(folder) | fuzz_dictionaries.write(folder)


FORMS = {"circuit": "json", "mib": "mib", "graphml": "graphml"}
EVALUATED = '{"kind": "x", "faithfulness": 0.8, "interval": [0.7, 0.9], "n": 4, "ablation": "mean"}'


def record() -> str:
    """A run record with everything in it."""
    from circuits.config import Config

    value = {
        "created": "2026",
        "program": {"version": "0"},
        "argv": ["x"],
        "platform": "x",
        "config": Config("ioi", "nano", n=3).to_json(),
        "config_sha256": "0",
        "threads": 1,
        "versions": {"torch": "2"},
        "seconds": {"scoring": 1.0},
        "model": {"name": "nano", "path": "nano", "hash": "0" * 64},
        "prompts": {
            "task": "ioi",
            "n": 3,
            "sha256": "0",
            "notes": ["rows of x"],
            "known": {"pairs": 2, "of": 3, "by_template": {"a": [1, 2], "b": [1, 1]}},
        },
        "evaluation": {
            "metric": "logit_diff",
            "full": 4.0,
            "empty": -4.0,
            "circuit": 3.0,
            "n": 3,
            "per_prompt": [1.0, 2.0],
            "interval": [0.8, 0.9],
            "faithfulness": 0.8,
        },
        "circuit": {
            "nodes": 3,
            "edges": 2,
            "selection": "top 2",
            "strongest": [{"name": "input->a0.h0<v>", "score": 1.5}],
        },
        "experts": {"tokens": 5, "everywhere": 0.5, "by_layer": {"m0": 0.5}, "told": "half"},
    }
    return json.dumps(value)


def tensors(folder: Path, graph: CircuitGraph) -> dict[str, list[bytes]]:
    """A file of scores and one of means."""
    import torch

    from patching.ablation.means import MeanActivations, Origin

    names = tuple(graph.edges)
    scores = Scores(
        names=names,
        totals=np.arange(len(names)) + 0.5,
        squares=np.ones(len(names)),
        count=4,
        level="edge",
        method="ig",
        direction="noising",
        metric="logit_diff",
        anatomy=graph.info.anatomy,
        clean=1.0,
        corrupted=-1.0,
        options={"steps": 2},
    )
    keys = np.array([[4, 0, -1], [4, 1, -1]])
    values = {("input", 0): torch.ones(2, 3), ("z", 1): torch.ones(2, 2, 2)}
    origin = Origin("0" * 64, "ioi", "1" * 64, 4, (4,))
    means = MeanActivations("position", keys, np.array([4, 4]), values, origin)
    found = {}
    for kind, value in (("scores", scores), ("means", means)):
        value.save(folder / kind)  # type: ignore[attr-defined]
        found[kind] = [(folder / kind).read_bytes()]
    return found


def model(folder: Path) -> dict[str, list[bytes]]:
    """The files of a small model's directory, of one in parts, and of its GGUF."""
    from circuits.nano.words import build_tokenizer
    from tests import families, tiny_gguf

    (folder / "parts").mkdir()
    hf = families.build("llama")
    hf.save_pretrained(folder / "model")
    build_tokenizer(["Mary", " John", " gave"], 16).save_pretrained(folder / "model")
    hf.save_pretrained(folder / "parts", max_shard_size="20KB")
    files = {"configuration": CONFIG, "weights": WEIGHTS, "tokenizer": "tokenizer.json"}
    found = {kind: [(folder / "model" / name).read_bytes()] for kind, name in files.items()}
    found["index"] = [(folder / "parts" / INDEX).read_bytes()]
    if find_spec("gguf") is not None:
        tiny_gguf.write(folder / "tiny.gguf", tiny_gguf.llama())
        found["gguf"] = [(folder / "tiny.gguf").read_bytes()]
    return found


def mutated(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """The bytes with one to four changes, most of them near the start, where headers are."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        near = len(found) if rng.integers(2) else min(len(found), 600)
        at, end = sorted(rng.integers(0, near + 1, size=2).tolist())
        kind = rng.integers(7)
        if kind == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            found[at:at] = ODD[rng.integers(len(ODD))]
        elif kind == 2:
            found[at : min(end, at + 12)] = ODD[rng.integers(len(ODD))]
        elif kind == 3:
            del found[at : min(end, at + 40)]
        elif kind == 4:
            found[at:at] = found[at : min(end, at + 2000)]
        elif kind == 5 and rng.integers(6) == 0:
            del found[at:]
        elif kind == 6 and rng.integers(4) == 0:
            other = others[rng.integers(len(others))]
            found[at:at] = other[: int(rng.integers(1, 400))]
    return bytes(found)


def with_odd_values(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value in which one to three values are replaced, left out or doubled."""
    for _ in range(int(rng.integers(1, 4))):
        place, steps = value, int(rng.integers(1, 7))
        for step in range(steps):
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = keys[rng.integers(len(keys))]
            inner = place[key]
            deeper = isinstance(inner, dict | list) and inner and step + 1 < steps
            if deeper:
                place = inner
                continue
            if rng.integers(4) == 0:
                del place[key]
            elif rng.integers(6) == 0 and isinstance(place, dict):
                place[f"{key}x"] = inner
            else:
                place[key] = deepcopy(ODD_VALUES[rng.integers(len(ODD_VALUES))])
            break
    return value


def odd_json(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON whose values are odd; a text that is JSON itself is changed inside as well."""
    value = json.loads(data)
    if not isinstance(value, dict | list):
        return data
    return json.dumps(with_odd_values(value, rng)).encode()


def odd_header(data: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file with odd values in its header, or in the JSON inside that."""
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    texts = header.get("__metadata__", {})
    inner = [name for name, text in texts.items() if text.startswith("{")]
    if inner and rng.integers(2):
        texts[inner[0]] = odd_json(texts[inner[0]].encode(), rng).decode()
    else:
        header = with_odd_values(header, rng)
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + rest


OF_VALUES = {
    **dict.fromkeys(("concept", "circuit", "mib", "plan", "record", "evaluation"), odd_json),
    **dict.fromkeys(("configuration", "tokenizer", "index"), odd_json),
    **dict.fromkeys(("scores", "means", "weights"), odd_header),
    **dict.fromkeys(fuzz_dictionaries.JSON, odd_json),
    **dict.fromkeys(fuzz_dictionaries.TENSORS, odd_header),
}


def attacks(
    found: Mapping[str, Sequence[bytes]], n: int, seed: int = 0, only: Sequence[str] = ()
) -> Iterator[tuple[str, bytes]]:
    """`n` mutated files, for each reader in turn."""
    rng = np.random.default_rng(seed)
    known = readers()
    names = list(only or known)
    every = [data for kind in found.values() for data in kind]
    for i in range(n):
        reader = known[names[i % len(names)]]
        kind = reader.kinds[rng.integers(len(reader.kinds))]
        data = found[kind][rng.integers(len(found[kind]))]
        change = OF_VALUES.get(kind)
        odd = change is not None and bool(rng.integers(2))
        yield (
            names[i % len(names)],
            change(data, rng) if odd and change else mutated(data, every, rng),
        )


def outcome(reader: Reader, folder: Path, data: bytes) -> str:
    """`read`, `refused`, or the traceback of what is neither; what was there is put back."""
    path = folder / reader.name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        reader.read(path)
    except CircuitsError:
        return "refused"
    except Exception:
        return traceback.format_exc()
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    return "read"


def main(n: int, seed: int, *folders: str) -> int:
    """Read `n` mutated files and print what came of them."""
    counts, faults, slowest = Counter[str](), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = seeds(folder)
        files = [file for place in folders for file in Path(place).rglob("*") if file.is_file()]
        found["text"] += [file.read_bytes()[:20_000] for file in files]
        every = readers()
        for reader, data in attacks({k: v * 2 for k, v in found.items()}, len(every)):
            outcome(every[reader], folder, data)
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for done, (reader, data) in enumerate(attacks(found, n, seed)):
            if done and done % 10_000 == 0:
                _say(f"{done} files: {dict(counts)}, faults: {dict(faults)}")
            began = time.process_time()
            came = outcome(every[reader], folder, data)
            took = time.process_time() - began
            slowest = max(slowest, took)
            if came in ("read", "refused") and took < SECONDS:
                counts[came] += 1
                continue
            faults[came.strip().splitlines()[-1][:160]] += 1
            if sum(faults.values()) <= 5:
                _say(f"{reader}, {took:.1f} s: {data[:3000]!r}\n{came}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - start
    _say(f"{n} files: {dict(counts)}, slowest {slowest:.2f} s, at most {memory:.0f} MB more")
    _say(f"faults: {dict(faults)}")
    return 1 if faults or memory > MEGABYTES else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
