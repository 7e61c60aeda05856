"""The page of all families, from the table that the tests run over: ``make families``."""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from patching.families import MODULES
from patching.families.refusals import REASONS
from tests.families import ARCHITECTURES

HEAD = """# Which models open

circuits takes decoder-only transformers apart into attention heads, MLPs and the residual stream.
Each row below is a model type, as `config.json` names it. Every form in the last column is tested
with random weights: logits equal to those of transformers to 1e-5 of the largest at 12, 40 and 100
tokens, exact patches that restore the run, secants that sum to the total, and greedy generation
that is the same. At opening your own model is compared with transformers once more, in float32; a
model that computes anything else is refused.

A family is taught in one small module of `patching/families/`. This page is made from the tests'
table by `make families`.

| model type | models | taught in | forms under test |
| --- | --- | --- | --- |
"""

REFUSED = """
## What does not open, and why

| model type | the model |
| --- | --- |
"""

END = """
Quantised weights are refused as well, apart from GGUF files, which are dequantised. A model whose
attention sees later tokens, or that reads images or sound beside text, is refused.
"""


def page() -> str:
    """The whole page."""
    forms = defaultdict(list)
    for label, (kind, _) in ARCHITECTURES.items():
        forms[kind].append(label.partition(", ")[2] or "as it is")
    rows = []
    for module in MODULES:
        for kind, describe in import_module(f"patching.families.{module}").FAMILIES.items():
            models = (describe.__doc__ or "").splitlines()[0].rstrip(".")
            tested = "; ".join(forms[kind])
            rows.append(f"| `{kind}` | {models} | `{module}.py` | {tested} |")
    refused = [f"| `{kind}` | {reason} |" for kind, reason in sorted(REASONS.items())]
    return HEAD + "\n".join(rows) + "\n" + REFUSED + "\n".join(refused) + "\n" + END


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
