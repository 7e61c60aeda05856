"""Answers that a model gives practically no probability, and the spelling it would use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from patching.model import Model
    from patching.runs import Batch
    from patching.sweep import Sweep
    from tasks import PromptPairs

PRACTICALLY_NONE = 1e-3
MOST_PAIRS = 64
"""So many pairs are looked at: the question is whether answers are spelled as the model does."""
END = 20
LOOKED_AT = 50
"""Another spelling is sought among so many of the most likely tokens."""


def unlikely(model: Model, pairs: PromptPairs, batch_size: int | Sweep = 32) -> tuple[str, ...]:
    """What to say where most right answers have a probability below .001 after their prompts.

    Empty otherwise. The usual reason is a spelling: a space too many or too few, a capital letter,
    a line that should end first. The spelling that the model would use is named where there is one
    among its 50 most likely tokens, else its most likely token.
    """
    import numpy as np

    from patching.sweep import Sweep, sweep

    def probabilities(batch: Batch) -> Float[np.ndarray, "b v"]:
        return model.run(batch.clean, batch.mask).double().softmax(-1).cpu().numpy()

    shown, options = pairs[:MOST_PAIRS], Sweep.of(batch_size).afresh(journal=None)
    probs = np.concatenate([*sweep(model, shown, probabilities, options)])
    used = shown.answer >= 0
    given = (np.take_along_axis(probs, np.maximum(shown.answer, 0), axis=1) * used).sum(axis=1)
    low = np.flatnonzero(given < PRACTICALLY_NONE)
    if 2 * len(low) <= len(shown):
        return ()
    warning = (
        f"in {len(low)} of {len(shown)} pairs the model gives the right answer a probability below "
        f"{PRACTICALLY_NONE:g} (median {np.median(given):.1g})"
    )
    return (f"{warning}{_example(model.tokenizer, shown, probs, low)}",)


def _example(
    tokenizer: Any, pairs: PromptPairs, probs: Float[np.ndarray, "n v"], low: np.ndarray
) -> str:
    """The first pair for which the model has another spelling, or just its first choice."""
    import numpy as np

    if tokenizer is None:
        return ""
    ends = {i: _end(tokenizer, pairs, i) for i in low}
    for i in low:
        answer = tokenizer.decode([int(pairs.answer[i][0])])
        ranked = np.argsort(-probs[i])[:LOOKED_AT]
        words = {int(token): tokenizer.decode([int(token)]) for token in ranked}
        alike = [token for token, word in words.items() if _same_word(word, answer)]
        if alike and probs[i][alike[0]] >= PRACTICALLY_NONE:
            best = alike[0]
            return (
                f": after {ends[i]!r} it would write {words[best]!r} "
                f"({probs[i][best]:.2g}) and not {answer!r} ({probs[i][pairs.answer[i][0]]:.1g})"
            )
    first = int(probs[low[0]].argmax())
    return (
        f"; after {ends[low[0]]!r} its first choice is "
        f"{tokenizer.decode([first])!r} ({probs[low[0]][first]:.2g})"
    )


def _end(tokenizer: Any, pairs: PromptPairs, i: int) -> str:
    """The last words of a clean prompt."""
    text = pairs.texts[i][0] or tokenizer.decode(pairs.clean[i][pairs.mask[i]].tolist())
    return str(text)[-END:]


def _same_word(token: str, answer: str) -> bool:
    """Whether a token is the answer in another spelling, or the beginning of it."""
    mine, wanted = token.strip().casefold(), answer.strip().casefold()
    if not mine or not wanted or token == answer:
        return False
    return mine == wanted or (len(mine) > 1 and wanted.startswith(mine))
