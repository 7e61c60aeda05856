"""Measures of a bias towards a letter, from predictions and logits over the option letters.

A prediction is the index of a letter (0 is A), or -1 for any other token; `gold` is the index of
the right letter. Everything here is a plain function of arrays.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from tasks.errors import TaskError

NO_LETTER = -1


def letter_predictions(
    logits: Float[np.ndarray, "n vocab"], letters: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " n"]:
    """Index of the letter that is the most likely token of the whole vocabulary, -1 for none.

    `letters` holds the letters' token ids. Li & Gao, arXiv 2405.03205, score so; the most likely
    letter, whatever other tokens do, is `logits[:, letters].argmax(axis=1)`.
    """
    top = np.asarray(logits).argmax(axis=1)
    hits = top[:, None] == np.asarray(letters)[None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), NO_LETTER)


def accuracy(predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"]) -> float:
    """Share of predictions that are the right letter."""
    predicted, gold = _checked(predicted, gold)
    return float((predicted == gold).mean())


def anchored_share(
    predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], letter: int = 0
) -> float:
    """Share of the questions whose right letter is another one for which `letter` is predicted.

    The anchored-bias frequency of Li & Gao, table 2, with letter A.
    """
    predicted, gold = _checked(predicted, gold)
    others = gold != letter
    if not others.any():
        raise TaskError(f"every right letter is number {letter}; the share needs others")
    return float((predicted[others] == letter).mean())


def recalls(
    predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], n_letters: int
) -> Float[np.ndarray, " n_letters"]:
    """For each letter the share of its questions that are answered rightly; nan without any."""
    predicted, gold = _checked(predicted, gold, n_letters)
    shares = np.full(n_letters, np.nan)
    for letter in range(n_letters):
        mine = gold == letter
        if mine.any():
            shares[letter] = (predicted[mine] == letter).mean()
    return shares


def rstd(predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], n_letters: int) -> float:
    """Standard deviation (of the population) of the recalls, in percentage points; 0 is unbiased.

    Zheng et al. 2024, arXiv 2309.03882. Letters that are never right do not count.
    """
    return float(100 * np.nanstd(recalls(predicted, gold, n_letters)))


def ckld(predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], n_letters: int) -> float:
    """sum_i p_i log(p_i / q_i), in nats: p the letters' shares of `gold`, q of the predictions.

    Choi et al. 2025, arXiv 2409.18857; 0 is best. Predictions that are no letter are left out of q.
    A letter that is right somewhere and never predicted makes it infinite. It punishes a random
    guesser where `gold` is skewed, so balance the right letters.
    """
    predicted, gold = _checked(predicted, gold, n_letters)
    letters = predicted[predicted != NO_LETTER]
    if not letters.size:
        return float("inf")
    p = np.bincount(gold, minlength=n_letters) / gold.size
    q = np.bincount(letters, minlength=n_letters) / letters.size
    used = p > 0
    if (q[used] == 0).any():
        return float("inf")
    return float((p[used] * np.log(p[used] / q[used])).sum())


def consistency(chosen: Int[np.ndarray, "items orders"]) -> float:
    """Share of items for which the same option is chosen in every order of the options.

    `chosen` counts options by their place in one fixed order, not by the letter they carried, with
    -1 for no option; an item answered with no option is not consistent.
    """
    chosen = np.asarray(chosen)
    if chosen.ndim != 2 or 0 in chosen.shape:
        raise TaskError(f"chosen has shape {chosen.shape}; give [items, orders]")
    same = (chosen == chosen[:, :1]).all(axis=1) & (chosen[:, 0] != NO_LETTER)
    return float(same.mean())


def chosen_options(
    predicted: Int[np.ndarray, "*draws items orders"], n_options: int
) -> Int[np.ndarray, "*draws items orders"]:
    """Which option was meant when order `j` moves the options `j` places down, for `consistency`.

    Option `i` of the first order then carries letter `(i + j) mod n_options`.
    """
    predicted = np.asarray(predicted)
    options = (predicted - np.arange(predicted.shape[-1])) % n_options
    return np.where(predicted == NO_LETTER, NO_LETTER, options)


def letter_prior(logits: Float[np.ndarray, "n letters"]) -> Float[np.ndarray, " letters"]:
    """Mean log-probability of each letter among the letters, over questions with balanced gold.

    Where every question is asked in all cyclic orders of its options this is the prior of PriDe
    (Zheng et al. 2024) before it is normalised.
    """
    mean: Float[np.ndarray, " letters"] = _log_softmax(logits).mean(axis=0)
    return mean


def without_prior(
    logits: Float[np.ndarray, "n letters"], prior: Float[np.ndarray, " letters"] | None = None
) -> Float[np.ndarray, "n letters"]:
    """Log-probabilities among the letters minus the prior, by default that of these questions."""
    logs = _log_softmax(logits)
    shifted: Float[np.ndarray, "n letters"] = logs - (logs.mean(axis=0) if prior is None else prior)
    return shifted


def _log_softmax(logits: Float[np.ndarray, "n letters"]) -> Float[np.ndarray, "n letters"]:
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or 0 in logits.shape:
        raise TaskError(f"logits have shape {logits.shape}; give [n, letters]")
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Float[np.ndarray, "n letters"] = shifted - np.log(
        np.exp(shifted).sum(axis=1, keepdims=True)
    )
    return logs


def _checked(
    predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], n_letters: int | None = None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    predicted, gold = np.asarray(predicted), np.asarray(gold)
    if predicted.shape != gold.shape or gold.ndim != 1 or not gold.size:
        raise TaskError(
            f"predictions have shape {predicted.shape}, right letters {gold.shape}; "
            "give one of each per question, and at least one question"
        )
    largest = max(int(predicted.max()), int(gold.max()))
    if gold.min() < 0 or predicted.min() < NO_LETTER or largest >= (n_letters or largest + 1):
        raise TaskError(
            f"letters are counted from 0 (A) to {n_letters - 1 if n_letters else 'the last'}, "
            f"predictions may be {NO_LETTER} for no letter; right letters span {gold.min()} to "
            f"{gold.max()}, predictions {predicted.min()} to {predicted.max()}"
        )
    return predicted, gold
