"""Models on paper: a directory that holds a configuration and no weights.

Such a model has a shape, by which its work can be counted, and nothing can be computed with it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from patching.families.refusals import check_family
from patching.loading import load_tokenizer
from patching.model import Model
from patching.sources.boundary import opening, quiet

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.gguf", "*.pt", "*.pth")


def is_paper(path: str) -> bool:
    """Whether a model is a directory with a configuration and no weights."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        return False
    return not any(found for pattern in WEIGHTS for found in folder.glob(pattern))


def opened_on_paper(path: str) -> Model:
    """The model without weights: its shape, its tokenizer if there is one, on torch's meta device.

    Raises:
        ModelError: the configuration cannot be read, or is of a family that circuits cannot take
            apart.
    """
    with quiet(), opening(f"the configuration in '{path}'", "see whether it is whole"):
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("meta"):
            hf = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation="eager", dtype=torch.float32
            )
    check_family(hf)
    return Model(hf.eval().requires_grad_(False), tokenizer=load_tokenizer(path), path=path)
