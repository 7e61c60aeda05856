"""The embedded model: a small GPT-2 trained here on the tasks' own text, shipped with the package.

`circuits.nano.train` is the recipe, `path()` the directory it wrote.
"""

from pathlib import Path


def path() -> Path:
    """The shipped Hugging Face directory: config, weights, tokenizer and model card."""
    return Path(__file__).parent / "model"
