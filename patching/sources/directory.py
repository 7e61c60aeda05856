"""A model directory, checked before anything of it is opened: no torch, no code, little memory.

What is checked is what goes wrong: an interrupted download, weights that only pickle can read, a
config.json that is broken or asks for another size than the weights have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from patching.tensors import TensorFileError, read_header
from tasks.errors import ModelError, all_faults, counted

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
OF_TRAINING = (
    "training_args.bin",
    "optimizer.bin",
    "scheduler.bin",
    "optimizer.pt",
    "scheduler.pt",
)
REFUSED = ("transformers_weights", "fusion_config")
"""Settings with which transformers would read other files, or change its classes for good."""
COUNTS = re.compile(r"layer|head|expert|hidden|vocab|embd|d_model|ffn|intermediate|inner|label")
LEAST_LIMIT = 256
PART_NAME = re.compile(r"\w[\w.+-]{0,200}")
MOST_BYTES = 4 << 20
MOST_HEADER = 16 << 20
CONVERT = (
    "circuits opens weights from safetensors or GGUF only, since a pickle can run code. Where you "
    "trust it, convert it once, in Python:\n"
    "    from transformers import AutoModelForCausalLM\n"
    '    AutoModelForCausalLM.from_pretrained("{path}").save_pretrained("converted")\n'
    "  and copy its tokenizer files there"
)


@dataclass(frozen=True, slots=True)
class Weights:
    """What the headers of the safetensors files say: numbers, tensors, the longest axis."""

    elements: int
    tensors: int
    longest: int

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]]) -> Weights:
        """What tensors of these shapes amount to."""
        return cls(
            elements=sum(prod(shape) for shape in shapes),
            tensors=len(shapes),
            longest=max((max(shape, default=1) for shape in shapes), default=0),
        )

    @property
    def limit(self) -> int:
        """No count of layers, heads, words or neurons can be larger."""
        return max(self.longest, self.tensors, LEAST_LIMIT)


def check_directory(folder: Path) -> Weights:
    """Refuse a directory that cannot be opened, with all that is wrong.

    Raises:
        ModelError: see above.
    """
    faults: list[str] = []
    config = _config(folder, faults)
    if (folder / "adapter_config.json").exists():
        faults.append(
            "it holds an adapter (adapter_config.json): merge it into its model and save that"
        )
    if config.get("quantization_config"):
        faults.append(
            f"its weights are quantised ({_method(config)}): take the original, or a GGUF file"
        )
    faults += [f"{CONFIG}: circuits does not follow {name}" for name in REFUSED if config.get(name)]
    weights = _weights(folder, faults)
    if not faults:
        faults += _too_large(config, weights.limit)
    if faults:
        raise ModelError(all_faults(f"cannot open the directory '{folder}':", faults))
    return weights


def _method(config: Mapping[str, Any]) -> str:
    method = config["quantization_config"]
    return str(method.get("quant_method", "?")) if isinstance(method, dict) else str(method)


def _config(folder: Path, faults: list[str]) -> dict[str, Any]:
    config = _object(folder / CONFIG, faults)
    if config is None:
        return {}
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        given = "is missing" if kind is None else f"is {shortened(kind)}, not a name"
        faults.append(f"{CONFIG}: model_type {given}, so nobody knows what kind of model it is")
    return config


def _too_large(config: Mapping[str, Any], limit: int, where: str = "") -> Iterator[str]:
    """Counts and widths that no weight has, before anything is built of them."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _too_large(value, limit, f"{where}{name}.")
        elif isinstance(value, int) and value > limit and COUNTS.search(name):
            yield (
                f"{CONFIG}: {where}{name} is {shortened(value, 40)}, and no axis of the weights is "
                f"longer than {limit:,}"
            )


def _object(path: Path, faults: list[str]) -> dict[str, Any] | None:
    """The JSON object of a small file; None, and a fault, where it holds none."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"is larger than {MOST_BYTES >> 20} MB")
        value = json.loads(data)
    except FileNotFoundError:
        faults.append(f"it has no {path.name}")
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
    except RecursionError:
        faults.append(f"{path.name} is nested too deeply")
    except ValueError as error:
        faults.append(f"{path.name} is not JSON: {shortened(error)}")
    else:
        if isinstance(value, dict):
            return value
        faults.append(f"{path.name} holds {shortened(value)}, not a JSON object")
    return None


def _weights(folder: Path, faults: list[str]) -> Weights:
    shapes: list[tuple[int, ...]] = []
    for path in _files(folder, faults):
        try:
            header = read_header(path, MOST_HEADER)
            shapes += [tensor.shape for tensor in header.tensors.values()]
        except TensorFileError as fault:
            faults.append(f"{path.name} {fault}")
    if not shapes and not faults:
        faults.append("its files of weights hold none")
    return Weights.of(shapes)


def _files(folder: Path, faults: list[str]) -> list[Path]:
    """The safetensors files that transformers will read."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        faults.append(_no_weights(folder))
        return []
    index = _object(folder / INDEX, faults)
    if index is None:
        return []
    named = index.get("weight_map")
    listed = list(named.values()) if isinstance(named, dict) else []
    if not listed or not all(
        isinstance(name, str) and PART_NAME.fullmatch(name) for name in listed
    ):
        faults.append(f"{INDEX} does not say which files hold the weights")
        return []
    names = set(listed)
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        faults.append(
            f"{counted(len(missing), 'file')} of its {len(names)} files of weights is missing: "
            f"{shown}; fetch it again"
        )
    return [folder / name for name in sorted(names - set(missing))]


def _no_weights(folder: Path) -> str:
    if files := sorted(file.name for file in folder.glob("*.gguf")):
        return f"it holds a GGUF file; give that one: {folder / files[0]}"
    pickles = {file.name for kind in PICKLES for file in folder.glob(kind)} - set(OF_TRAINING)
    if pickles:
        shown = ", ".join(sorted(pickles)[:3])
        return f"its weights are a pickle ({shown}). {CONVERT.format(path=folder)}"
    return f"it has no weights ({WEIGHTS})"


def shortened(value: object, most: int = 200) -> str:
    """What a library or a file says, in one line of bounded length."""
    text = " ".join(str(value)[: 4 * most].split())
    return text if len(text) <= most else f"{text[:most]}..."
