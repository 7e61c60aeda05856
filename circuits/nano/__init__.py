"""The embedded model: a small GPT-2 trained here on the tasks' own text, shipped with the package.

`circuits.nano.train` is the recipe, `path()` the directory it wrote.
"""

from circuits.models import nano_path as path

__all__ = ["path"]
