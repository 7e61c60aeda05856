"""Models on paper: a directory that holds a configuration and no weights.

Such a model has a shape, by which its work can be counted, and nothing can be computed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patching.anatomy import Anatomy
from patching.families import known
from patching.families.refusals import check_family
from patching.families.take_apart import shape_of
from patching.loading import load_tokenizer
from patching.sources.boundary import opening, quiet

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.gguf", "*.pt", "*.pth")


def is_paper(path: str) -> bool:
    """Whether a model is a directory with a configuration and no weights."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        return False
    return not any(found for pattern in WEIGHTS for found in folder.glob(pattern))


@dataclass(frozen=True)
class Paper:
    """What is known of a model without its weights; ``dtype`` is what it would compute in."""

    path: str
    anatomy: Anatomy
    gated: bool
    vocabulary_size: int
    parameters: int
    tokenizer: Any
    dtype: torch.dtype = torch.float32


def opened_on_paper(path: str) -> Paper:
    """The shape of a model, and its tokenizer if there is one.

    Raises:
        ModelError: the configuration cannot be read, or is of a family that circuits cannot take
            apart.
    """
    with quiet(), opening(f"the configuration in '{path}'", "see whether it is whole"):
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("meta"):
            hf = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    check_family(hf)
    anatomy, gated = shape_of(hf, known()[hf.config.model_type](hf.config))
    return Paper(
        path,
        anatomy,
        gated,
        vocabulary_size=int(hf.get_output_embeddings().weight.shape[0]),
        parameters=sum(weight.numel() for weight in hf.parameters()),
        tokenizer=load_tokenizer(path),
    )
