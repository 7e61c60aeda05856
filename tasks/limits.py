"""How large a file that others wrote may be, in one place; all are checked before the work.

They bound memory to about 1 GB and a refusal to about 5 seconds. Real sets of prompts and
questions are far below: the largest of MIB holds 40,000 rows in 12 MB.
"""

from __future__ import annotations

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of a file."""

MAX_ROWS = 100_000
"""Lines of a file, rows of a table, or entries of a list."""

MAX_CELLS = 4_000_000
"""Cells of a table; lists, objects and their members in JSON."""

MAX_DEPTH = 100
"""Lists and objects inside one another in JSON."""

MAX_CHARACTERS = 1_000_000
"""Characters of one prompt: about 250,000 tokens."""

MAX_TOKENS = 20_000_000
"""Prompt pairs times the tokens of the longest, since all are padded to its length."""

MAX_ID = 2**31 - 1
"""The largest token id."""

MAX_HEADS = 100_000
"""Attention heads that a circuit's file may claim for its model, over all layers."""

MAX_EDGES = 5_000_000
"""Edges of a model that a format can list which lists all of them; an 8B model has 1.6 million."""
