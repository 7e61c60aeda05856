"""The embedded model's directory: weights, tokenizer, recipe, measurements and their card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.output import written
from circuits.results.intervals import Proportion

if TYPE_CHECKING:
    from circuits.nano.train import Run

Measured = Mapping[str, Mapping[str, Proportion | float]]

CARD = """---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# nano

A GPT-2 of {millions:.2f} million parameters ({layers} layers, {heads} heads, width {width}, \
{vocabulary} word tokens), \
trained from scratch on generated text so that circuits can be found, tested and edited without \
a network. It knows its own few templates and nothing else: use it to try methods, not to learn \
about language.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuits import nano

model = AutoModelForCausalLM.from_pretrained(nano.path())
tokenizer = AutoTokenizer.from_pretrained(nano.path())
```

A prompt starts with `<bos>`, which the tokenizer adds by itself. A word and the space
before it are one token; words outside the vocabulary become `<unk>`.
Positions count from `<bos>`: with padding on the left, pass `position_ids` that say so.

## Data

Texts per step are given for each phase of the training; the phases begin at steps {phases}.

{data}

Training and test text share templates and words; they never share a combination, except where a
line below says 'trained on'.

## Recipe

`python -m circuits.nano.train --tasks {tasks} --out DIR --seed {seed} --steps {steps}`

AdamW (betas {betas}, weight decay {decay} on matrices, gradients clipped at {clip}), learning rate
{rate} after {warmup} warm-up steps and a cosine to zero over {steps} steps, each with texts of all
sources, no dropout, one CPU thread, {products}.
The loss of a source is the loss on its answers plus the next-token loss on whole texts, weighted as
listed above. While it is trained, a token without its leading space has the vector of the token
with one plus a vector that all such tokens share. All numbers are in `recipe.json`.

## Measured on held-out text

Shares are given with their 95 % Wilson interval.

{tables}
"""


LOW = "matrix products in bfloat16 and everything else in fp32"


def write_model(run: Run, out: Path, measured: Measured) -> None:
    """Writes the directory; its files are replaced all at once."""
    out.mkdir(parents=True, exist_ok=True)
    with written(out, lambda _: None, add=True) as partial:
        run.model.save_pretrained(partial)
        run.tokenizer.save_pretrained(partial)
        record = {"recipe": run.recipe.to_json(), "measured": _plain(measured)}
        _write(partial / "recipe.json", json.dumps(record, indent=2) + "\n")
        _write(partial / "README.md", card(run, measured))
        for file in partial.iterdir():
            # safetensors writes files that their owner alone can read; packages are for everybody.
            file.chmod(0o644)


def card(run: Run, measured: Measured) -> str:
    """The model card, in Markdown."""
    data = "\n".join(
        f"* **{source.name}** ({', '.join(map(str, texts))} texts per step, loss x "
        f"{source.weight:g}, whole-text loss x {source.text_weight:g}): {source.about}."
        for source, texts in zip(run.sources, zip(*run.phases(), strict=True), strict=True)
    )
    tables = "\n\n".join(_table(name, lines) for name, lines in measured.items())
    recipe = run.recipe
    return CARD.format(
        millions=run.model.num_parameters() / 1e6,
        vocabulary=len(run.tokenizer),
        phases=", ".join(map(str, (0, *recipe.turns))),
        products=LOW if recipe.low else "all in fp32",
        data=data,
        tables=tables,
        **(recipe.to_json() | {"tasks": ",".join(recipe.tasks), "betas": recipe.betas}),
    )


def _table(name: str, lines: Mapping[str, Proportion | float]) -> str:
    rows = [f"| {what} | {_cells(value)} |" for what, value in lines.items()]
    return "\n".join(
        [f"| {name} | result | interval | prompts |", "| --- | --- | --- | --- |", *rows]
    )


def _cells(value: Proportion | float) -> str:
    if not isinstance(value, Proportion):
        return f"{value:.4g} | | "
    low, high = value.interval
    return f"{value.value:.2%} | {low:.2%} to {high:.2%} | {value.n}"


def _plain(measured: Measured) -> dict[str, dict[str, Any]]:
    return {
        name: {
            what: {"right": value.right, "n": value.n} if isinstance(value, Proportion) else value
            for what, value in lines.items()
        }
        for name, lines in measured.items()
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
