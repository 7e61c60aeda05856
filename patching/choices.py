"""The choices that public functions take, as types: editors complete them, help lists them.

A test compares each with the table that it names. No torch here.
"""

from __future__ import annotations

from typing import Literal

Level = Literal["edge", "node"]
ScoreLevel = Literal["edge", "node", "site", "attention_edge", "placed"]
Direction = Literal["noising", "denoising"]
Nodes = Literal["heads", "neurons"]
Positions = Literal["all", "token", "named"]
MetricName = Literal["logit_diff", "prob_diff", "log_prob", "answer_logit", "sequence_log_prob"]
MethodName = Literal[
    "auto", "activation", "attribution", "ig", "relevance", "secant", "ensemble", "learned"
]
AblationName = Literal[
    "corrupted", "zero", "mean", "mean-by-position", "mean-by-token", "resample", "cama"
]
