"""A Llama of two layers, and the GGUF file that llama.cpp's own converter would write of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCABULARY, WIDTH, HEADS, KV_HEADS, HIDDEN, LAYERS = 260, 32, 4, 2, 64, 2
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama(seed: int = 0) -> Any:
    """The model, with weights of its own for the logits."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=256,
        eos_token_id=257,
    )
    return LlamaForCausalLM(config).eval()


def words() -> list[str]:
    """Every byte as GPT-2 spells it, two special tokens, and two merged ones."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*bytes_to_unicode().values(), "<s>", "</s>", "he", "hel"]


def write(path: Path, hf: Any, *, kind: str = "F32", tokenizer: bool = True, **facts: Any) -> Path:
    """The model in a GGUF file, its matrices in a number type such as Q8_0.

    ``facts`` replace or add keys: ``architecture``, ``split_count`` and ``split_no``.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, facts.get("architecture", "llama"))
    writer.add_file_type({"F32": 0, "Q4_1": 3, "Q8_0": 7}[kind])
    for name, value in (
        ("block_count", LAYERS),
        ("context_length", 64),
        ("embedding_length", WIDTH),
        ("feed_forward_length", HIDDEN),
        ("head_count", HEADS),
        ("head_count_kv", KV_HEADS),
        ("vocab_size", VOCABULARY),
        ("rope_dimension_count", WIDTH // HEADS),
        ("layer_norm_rms_eps", 1e-6),
        ("rope_freq_base", 10000.0),
    ):
        getattr(writer, f"add_{name}")(facts.get(name, value))
    if "split_count" in facts:
        writer.add_uint16("split.count", facts["split_count"])
        writer.add_uint16("split.no", facts["split_no"])
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(words())
        writer.add_token_types([1] * 256 + [3, 3] + [1, 1])
        writer.add_token_merges(["h e", "he l"])
        writer.add_bos_token_id(256)
        writer.add_eos_token_id(257)
    for name, value in hf.state_dict().items():
        array = _as_stored(name, value.numpy())
        if array.ndim == 2 and kind != "F32":
            stored = GGMLQuantizationType[kind]
            writer.add_tensor(_name(name), quants.quantize(array, stored), raw_dtype=stored)
        else:
            writer.add_tensor(_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def _as_stored(name: str, value: np.ndarray) -> np.ndarray:
    """llama.cpp keeps the two halves of every query and key head interleaved."""
    for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
        if part in name:
            half = value.shape[0] // heads // 2
            return value.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(value.shape).copy()
    return value
