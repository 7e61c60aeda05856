"""Where a bias towards one letter is written: what each part says, and what removing it does.

Li & Gao (arXiv 2405.03205) read the bias off what a part writes at the last position, passed
through the final norm and the unembedding by itself (equations 5 to 7). That says which way a part
points. Whether it matters is another question, answered here beside it by taking the part away;
of many parts only those are taken away that matter most by a first-order estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.arguments import check_kinds
from circuits.studies.bias.removal import Effect, effects_without, lead, strongest
from patching.directions import default_basis, unembedding
from patching.forward import Record
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.progress import Progress
from patching.runs import Batch
from patching.sites import head, mlp
from patching.sweep import Sweep, sweep
from patching.weights import check_neurons, value_vectors
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.tokenize import single_token

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
GAP = 4.0
TOKENS = 8
SHOWN = 12
UNEMBEDDED = 256
"""How many writes are unembedded at a time."""


@dataclass(frozen=True, slots=True)
class BiasedPart:
    """One part and its bias towards the letter, means over prompts, in logits.

    gap        the letter's logit minus the right letter's, from what the part writes alone, passed
               through the final norm by itself (equation 5 for neurons, 6 for layers and heads)
    direct     the part's share of that difference in the run, with the run's own norm scale;
               shares of all parts add up to the difference, less constants
    effect     the difference in the model minus the difference without the part (zeroed): positive
               where the part pushes towards the letter; None where it was not taken away, because
               so many others of its kind have larger estimates of it
    error      the standard error of that effect over prompts; None of a single prompt
    found      share of prompts on which the part passes the published test: for a neuron, among
               the ten largest |k| * ||v|| of its layer (equation 7) and a gap above 4; for others
               a gap above 4
    tokens     what a value vector promotes most, in the basis named
    """

    name: str
    gap: float
    direct: float
    effect: float | None
    error: float | None
    found: float
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bias:
    """All parts looked at, strongest effect first."""

    letter: str
    basis: str
    n: int
    difference: float
    parts: tuple[BiasedPart, ...]

    @property
    def neurons(self) -> tuple[BiasedPart, ...]:
        """The value vectors among the parts."""
        return tuple(part for part in self.parts if ".n" in part.name)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per part."""
        import pandas as pd

        return pd.DataFrame([asdict(part) for part in self.parts]).set_index("name")

    def __repr__(self) -> str:
        lead = f"{self.letter!r} ahead of the right letter by {self.difference:+.3f}"
        return f"Bias({lead} on {self.n} prompts, {len(self.parts)} parts)"

    def _repr_html_(self) -> str:
        from circuits.results.tables import Table

        frame = self.to_frame()
        frame["tokens"] = [" ".join(map(repr, tokens)) for tokens in frame["tokens"]]
        caption = f"{self!r}; effect: what removing the part changes"
        return Table.of(frame, caption, most=SHOWN).html()


@torch.no_grad()
def localise_bias(
    model: Model,
    pairs: PromptPairs,
    letter: str = " A",
    *,
    top: int = TOP,
    basis: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Bias:
    """Layers, heads and value vectors by their bias towards ``letter`` at the last position.

    ``pairs`` are questions whose right answer is another letter (``mcq_bias``, ``gold=never_A``).
    Of each layer's value vectors the ``top`` with the largest mean ``|k| * ||v||`` are kept. The
    gap does not depend on a basis; ``basis`` is that of the tokens shown.

    >>> asked = circuits.load_task("mcq_bias").pairs(model.tokenizer, n=4, seed=0, gold="never_A")
    >>> circuits.localise_bias(model, asked, top=2)
    Bias(' A' ahead of the right letter by ... on 4 prompts, 28 parts)

    Raises:
        TaskError: the letter is not one token, or it is the right answer somewhere.
    """
    check_kinds(model=model, pairs=pairs)
    check_neurons(model, "localising a bias")
    biased = letter_id(model, letter)
    if (pairs.answer[:, 0] == biased).any():
        raise TaskError(f"{letter!r} is the right answer of some prompts; take gold=never_A")
    basis = basis or default_basis(model)
    gaps, directs, passed = (defaultdict[str, float](float) for _ in range(3))
    options = Sweep.of(batch_size, progress)
    kept = _largest(model, pairs, top, options)

    def work(batch: Batch) -> tuple[float, list[tuple[str, list[float]]]]:
        right = torch.tensor(batch.pairs.answer[:, 0], device=model.device)
        seen = Record(["z", "attn_raw", "attn_out", "mlp_out", "mlp_post", "final_in"])
        logits = model.run(batch.clean, batch.mask, seen)
        written, rows = list(_written(model, seen.values, kept, top)), []
        for (name, wrote, passes), gap in zip(
            written, _gaps(model, [wrote for _, wrote, _ in written], biased, right), strict=True
        ):
            direct = _direct(model, wrote, seen.values, biased, right)
            each = gap, (gap > GAP) & passes, direct
            rows.append((name, [float(values.double().sum()) for values in each]))
        return float(lead(logits, biased, right).double().sum()), rows

    total = 0.0
    for ahead, rows in sweep(model, pairs, work, options):
        total += ahead
        for name, (gap, passing, direct) in rows:
            gaps[name] += gap
            passed[name] += passing
            directs[name] += direct
    effects: dict[str, Effect] = dict.fromkeys(gaps, (None, None))
    removed = strongest(model, pairs, list(gaps), biased, options)
    effects.update(effects_without(model, pairs, removed, biased, options))
    n, neurons = len(pairs), [name for name in gaps if ".n" in name]
    tokens = dict(zip(neurons, promoted(model, neurons, basis), strict=True))
    parts = [
        BiasedPart(
            name,
            gaps[name] / n,
            directs[name] / n,
            *effects[name],
            passed[name] / n,
            tokens.get(name, ()),
        )
        for name in gaps
    ]
    parts.sort(key=lambda part: (part.effect is None, -(part.effect or 0.0)))
    return Bias(letter, basis, n, total / n, tuple(parts))


def letter_id(model: Model, letter: str) -> int:
    """The letter's token id; ``#ID`` is one already.

    Raises:
        TaskError: it is not one token of this model.
    """
    if letter[1:].isdecimal() and letter[0] == "#" and int(letter[1:]) < model.vocabulary_size:
        return int(letter[1:])
    token = None if model.tokenizer is None else single_token(model.tokenizer, letter)
    if token is None:
        raise TaskError(f"{letter!r} is not one token of this model")
    return token


def promoted(
    model: Model, names: Sequence[str], basis: str, count: int = TOKENS
) -> list[tuple[str, ...]]:
    """The tokens whose directions each of some value vectors lies along most."""
    places = [[int(part[1:]) for part in name.split(".")] for name in names]
    if not places:
        return []
    vectors = torch.stack([value_vectors(model, layer)[unit] for layer, unit in places]).float()
    along = unembedding(model, basis) @ vectors.T
    ids = along.topk(min(count, len(along)), dim=0).indices.T.tolist()
    if model.tokenizer is None:
        return [tuple(f"#{i}" for i in row) for row in ids]
    return [tuple(model.tokenizer.decode([i]) for i in row) for row in ids]


def _largest(model: Model, pairs: PromptPairs, top: int, options: Sweep) -> Mapping[int, list[int]]:
    """Per layer the neurons with the largest mean size of what they write at the last position."""

    def work(batch: Batch) -> list[Tensor]:
        seen = Record(["mlp_post"])
        model.run(batch.clean, batch.mask, seen)
        return [
            (post[:, -1].abs() * value_vectors(model, layer).norm(dim=1)).sum(0)
            for (_, layer), post in seen.values.items()
        ]

    parts = zip(*sweep(model, pairs, work, options), strict=True)
    sizes = [reduce(torch.add, layer) for layer in parts]
    return {
        layer: size.topk(min(top, len(size))).indices.tolist() for layer, size in enumerate(sizes)
    }


def _written(
    model: Model, values: Mapping[Any, Tensor], kept: Mapping[int, list[int]], top: int
) -> Iterable[tuple[str, Float[Tensor, "b d"], Tensor]]:
    """Every part's name, what it writes at the last position, and whether it passes equation 7."""
    for layer, block in enumerate(model.blocks):
        z, raw = values["z", layer][:, -1:], values["attn_raw", layer][:, -1:]
        always = torch.ones(len(z), dtype=torch.bool, device=z.device)
        for unit, written in enumerate(head_writes(block, z, raw)[:, :, 0].unbind(1)):
            yield head(layer, unit).name, written, always
        yield mlp(layer).name, values["mlp_out", layer][:, -1], always
        post, rows = values["mlp_post", layer][:, -1], value_vectors(model, layer)
        size = post.abs() * rows.norm(dim=1)
        least = size.topk(min(top, size.shape[1])).values[:, -1]
        for neuron in kept[layer]:
            written = post[:, neuron, None] * rows[neuron]
            yield f"m{layer}.n{neuron}", written, size[:, neuron] >= least


def _gaps(
    model: Model, written: Sequence[Float[Tensor, "b d"]], letter: int, right: Tensor
) -> Iterator[Float[Tensor, " b"]]:
    """The letter's lead in what each part writes, unembedded by itself, some parts at a time."""
    size = max(1, UNEMBEDDED // len(right))
    for start in range(0, len(written), size):
        some = torch.stack(list(written[start : start + size]))
        logits = model.unembed(some.flatten(0, 1)).unflatten(0, some.shape[:2])
        yield from (lead(each, letter, right) for each in logits)


def _direct(
    model: Model,
    written: Float[Tensor, "b d"],
    values: Mapping[Any, Tensor],
    letter: int,
    right: Tensor,
) -> Float[Tensor, " b"]:
    norm = model.final_norm
    scale = norm.scale(values["final_in", model.anatomy.n_layers])
    through = norm.centre(written) / scale * norm.weight
    rows = unembedding(model, "raw")
    return ((rows[letter] - rows[right]) * through).sum(-1)
