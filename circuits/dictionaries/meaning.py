"""What a latent means: the contexts in which it fires most, and the words that it brings about.

Contexts are counted at every token but the first of a text. Words: a latent's direction through
the final norm's weight and the unembedding, ``w_j . (weight * W_U[:, v])``, centred over the
vocabulary: what one unit of it adds to each logit directly, up to the norm's scale. Words in: the
same for the encoder's direction and the embedding, of a dictionary of the stream.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.dictionaries.text import TASKS, text_rows
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table
from tasks.errors import SiteError

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from patching.dictionaries.dictionary import Dictionary
    from patching.model import Model

BEFORE, AFTER = 8, 4
_NAME = re.compile(r"(.+)\.f(\d+)")


@dataclass(frozen=True, slots=True)
class Context:
    """A place in a text where a latent fires: the words before, at and after it."""

    amount: float
    before: str
    token: str
    after: str


@dataclass(frozen=True, repr=False)
class Meaning(Reported):
    """Where a latent fires, and what it does.

    fires       at how many of ``tokens`` tokens
    tokens_of   the tokens at which it fires, with the share of its total amount, largest first
    out         words whose logits it raises directly, with the effect of one unit
    """

    name: str
    fires: int
    tokens: int
    mean: float
    tokens_of: tuple[tuple[str, float], ...]
    contexts: tuple[Context, ...]
    out: tuple[tuple[str, float], ...]
    against: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "name": self.name,
            "fires": self.fires,
            "tokens": self.tokens,
            "mean": self.mean,
            "tokens_of": [list(pair) for pair in self.tokens_of],
            "contexts": [asdict(context) for context in self.contexts],
            "out": [list(pair) for pair in self.out],
            "against": [list(pair) for pair in self.against],
        }

    def to_frame(self) -> pd.DataFrame:
        """A row per context, the strongest first."""
        import pandas as pd

        return pd.DataFrame([asdict(context) for context in self.contexts])

    def __repr__(self) -> str:
        return f"Meaning({self.name}: fires at {self.fires} of {self.tokens} tokens)"

    def report(self) -> Report:
        """Everything, for terminal and notebook."""
        share = self.fires / max(self.tokens, 1)
        rows = {
            "latent": self.name,
            "fires at": f"{self.fires:,} of {self.tokens:,} tokens ({share:.2%})",
            "mean amount": f"{self.mean:.3f} where it fires",
            "at the tokens": ", ".join(f"{t!r} {s:.0%}" for t, s in self.tokens_of),
            "makes likely": ", ".join(f"{t!r} {v:+.2f}" for t, v in self.out),
            "makes unlikely": ", ".join(f"{t!r} {v:+.2f}" for t, v in self.against),
        }
        contexts = Table(
            ("amount", "context"),
            [[f"{c.amount:.2f}", f"{c.before}[{c.token}]{c.after}"] for c in self.contexts],
        )
        return Report.of(Rows(rows), contexts)


def latent(
    model: Model,
    dictionaries: Sequence[Dictionary],
    name: str,
    text: str = TASKS,
    tokens: int = 20_000,
    top: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Meaning:
    """Look through text for what a latent answers to.

    `name` says the latent, of one of the `dictionaries`. `tokens` tokens of `text` are read, and
    the `top` places where it is largest are kept.

    >>> made = circuits.train_dictionary(model, latents=64, k=8, steps=40, tokens=2000, n=8)
    >>> circuits.latent(model, [made.dictionary], "resid_post.1.f3", tokens=500, top=2).name
    'resid_post.1.f3'

    Raises:
        SiteError: no dictionary has such a latent, or its dictionary does not fit the model.
        TaskError: no text, or no tokenizer.
    """
    from patching.dictionaries.readings import check_fit

    dictionary, number = latent_of(dictionaries, name)
    check_fit(model, dictionary)
    rows = text_rows(model, text, tokens, seed, progress)
    amounts = _amounts(model, dictionary, number, rows, progress)
    every = np.concatenate(amounts)
    firing = every[every > 0]
    return Meaning(
        name=name,
        fires=len(firing),
        tokens=len(every),
        mean=float(firing.mean()) if len(firing) else 0.0,
        tokens_of=_by_token(model, rows, amounts, top),
        contexts=_contexts(model, rows, amounts, top),
        **_words(model, dictionary, number, top),
    )


def latent_of(dictionaries: Sequence[Dictionary], name: str) -> tuple[Dictionary, int]:
    """The dictionary of a latent by its name, and its number there.

    Raises:
        SiteError: no such latent.
    """
    found = _NAME.fullmatch(name)
    for each in dictionaries:
        if found and each.name == found[1] and int(found[2][:12]) < each.n_latents:
            return each, int(found[2])
    known = ", ".join(f"{e.latent(0)} to {e.latent(e.n_latents - 1)}" for e in dictionaries)
    raise SiteError(f"there is no latent '{name}'; there are {known or 'no dictionaries'}")


def _amounts(
    model: Model,
    dictionary: Dictionary,
    number: int,
    rows: list[list[int]],
    progress: Progress | None,
) -> list[np.ndarray]:
    """How much of the latent every token has, row by row; nothing of the first token."""
    import torch

    from patching.capture import Prompts
    from patching.dictionaries.readings import kinds_of, value_at
    from patching.forward import Record
    from patching.sweep import Sweep

    rows.sort(key=len)
    prompts = Prompts.of(rows)
    moved = dictionary.to(torch.zeros((), device=model.device))

    def work(tokens: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
        record = Record(kinds_of([dictionary]))
        with torch.no_grad():
            model.run(tokens, mask, record)
            x = value_at(model, dictionary.reads, record.values).float()
            found = moved.amounts(x)[..., number].cpu().numpy()
        kept = mask.cpu().numpy()
        return [row[there][1:] for row, there in zip(found, kept, strict=True)]

    options = Sweep(32, progress).counting(len(rows), "reading")
    return [row for part in prompts.sweep(model, work, options) for row in part]


def _by_token(
    model: Model, rows: list[list[int]], amounts: list[np.ndarray], top: int
) -> tuple[tuple[str, float], ...]:
    total: Counter[int] = Counter()
    for row, values in zip(rows, amounts, strict=True):
        for token, value in zip(row[1:], values.tolist(), strict=True):
            if value > 0:
                total[token] += value
    whole = sum(total.values())
    best = total.most_common(top)
    return tuple((model.tokenizer.decode([token]), value / whole) for token, value in best)


def _contexts(
    model: Model, rows: list[list[int]], amounts: list[np.ndarray], top: int
) -> tuple[Context, ...]:
    """The strongest ones, of each text one."""
    peaks = [(float(values.max()), i, int(values.argmax()) + 1) for i, values in enumerate(amounts)]
    best = sorted((peak for peak in peaks if peak[0] > 0), reverse=True)
    decode, found, seen = model.tokenizer.decode, [], set()
    for amount, i, at in best:
        row = rows[i]
        shown = decode(row[max(at - BEFORE, 0) : at]), decode([row[at]])
        if shown in seen:
            continue
        seen.add(shown)
        found.append(Context(amount, *shown, decode(row[at + 1 : at + 1 + AFTER])))
        if len(found) == top:
            break
    return tuple(found)


def _words(model: Model, dictionary: Dictionary, number: int, top: int) -> dict[str, Any]:
    """Words that a unit of the latent makes likely and unlikely, by its direct path."""
    import torch

    if dictionary.writes.kind == "z":
        heads = dictionary.W_dec[number].unflatten(0, (model.anatomy.n_heads, -1))
        block = model.blocks[dictionary.writes.layer]
        direction = torch.einsum("he,hed->d", heads.to(block.W_O), block.W_O)
    else:
        direction = dictionary.W_dec[number].to(model.unembedding)
    norm = model.final_norm
    with torch.no_grad():
        effect = (norm.centre(direction) * norm.weight) @ model.unembedding.float().T
    effect = effect - effect.mean()
    best = {"out": effect.topk(top), "against": (-effect).topk(top)}
    return {
        name: tuple(
            (model.tokenizer.decode([int(token)]), float(effect[token])) for token in found.indices
        )
        for name, found in best.items()
    }
