"""The embedded model's tokenizer: one token per word, with its leading space."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Words, whole numbers and single signs, each with the space before it; other whitespace alone.
PIECE = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Every piece of the texts, sorted; words, numbers and signs with and without their space."""
    words: set[str] = set()
    for text in texts:
        for piece in re.findall(PIECE, text):
            bare = piece.strip() or piece
            words |= {bare, f" {bare}"} if bare.strip() else {bare}
    return sorted(words | {" "})


def build_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """A fast tokenizer that knows the words of `texts` and gives every such text back unchanged.

    It begins every text with `<bos>`, unless it is asked for no special tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = [*SPECIAL.values(), *vocabulary(texts)]
    ids = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    core.decoder = decoders.Fuse()
    start = SPECIAL["bos_token"]
    core.post_processor = processors.TemplateProcessing(
        single=f"{start} $A",
        pair=f"{start} $A {start} $B",
        special_tokens=[(start, ids[start])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **SPECIAL,
    )
