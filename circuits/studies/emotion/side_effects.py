"""What driving a model changes besides: plain text, and other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from circuits.results.intervals import Estimate, MeanProportion, Proportion
from circuits.studies.emotion.control import perplexity
from circuits.studies.emotion.trial import Harness, Make, untouched
from patching.forward import Tap
from patching.metrics import check_metric
from patching.progress import Tell, nobody
from patching.runs import Batch, check_tokens
from patching.sweep import Sweep, sweep
from tasks.errors import TaskError
from tasks.pairs import PromptPairs

OTHERS = ("ioi", "mental_math", "mcq_bias")


def perplexities(
    harness: Harness,
    texts: Sequence[str],
    makes: Mapping[str, Sequence[Make]],
    tell: Tell = nobody,
) -> dict[str, float]:
    """Perplexity of plain text, mean over labels and draws; taps are to be for all positions."""
    means = {}
    for name, drawn in makes.items():
        values = [
            perplexity(harness.model, texts, tap, harness.batch_size, harness.bos)
            for tap in _taps(harness, drawn)
        ]
        means[name] = sum(values) / len(values)
        tell()
    return means


def other_tasks(
    harness: Harness,
    makes: Mapping[str, Sequence[Make]],
    n: int,
    seed: int,
    tell: Tell = nobody,
) -> dict[str, Any]:
    """Share of pairs whose clean answer beats the other, mean over labels and draws, by task.

    Intervals are those of :class:`circuits.results.intervals.MeanProportion`, labels counting as
    draws. A task that the model's tokenizer cannot write is left out.
    """
    import tasks

    shares: dict[str, Any] = {}
    for task in OTHERS:
        try:
            source, tokenizer = tasks.get(task), harness.model.tokenizer
            pairs = source.pairs(tokenizer, n=n, seed=seed, bos=harness.bos)
            check_tokens(harness.model, pairs)
        except TaskError:
            continue
        shares[task] = {}
        for name, drawn in makes.items():
            # All taps share the pairs, so more of them say no more about other pairs.
            share = MeanProportion(
                tuple(Proportion.of(_right(harness, pairs, tap)) for tap in _taps(harness, drawn))
            )
            shares[task][name] = Estimate(share.value, share.interval, share.n).to_json()
            tell()
    return shares


def _taps(harness: Harness, makes: Sequence[Make]) -> list[Tap]:
    """One for every label and draw; a single one where nothing is changed."""
    if all(make is untouched for make in makes):
        return [untouched(0)]
    return [make(label) for make in makes for label in range(len(harness.concept.labels))]


@torch.no_grad()
def _right(harness: Harness, pairs: PromptPairs, tap: Tap) -> list[bool]:
    metric = check_metric("logit_diff")

    def work(batch: Batch) -> list[bool]:
        logits = harness.model.run(batch.clean, batch.mask, tap)
        return (metric(logits, batch.pairs) > 0).tolist()

    return [*chain.from_iterable(sweep(harness.model, pairs, work, Sweep(harness.batch_size)))]
