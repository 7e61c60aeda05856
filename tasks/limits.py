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
"""Lists and objects inside one another in JSON and TOML."""

MAX_PARTS = 20
"""Parts of a dotted key in TOML."""

MAX_VALUES = 8_000_000
"""Lists, objects and commas of a JSON text: of a circuit that lists every edge of an 8B model."""

MAX_CIRCUIT = 256 * 1024 * 1024
"""Bytes of a circuit's file."""

MAX_PLAN = 64 * 1024 * 1024
"""Bytes of an edit plan in JSON, or of a record."""

MAX_TOML = 1024 * 1024
"""Bytes of an edit plan in TOML, which is slower to read."""

MAX_HEADER = 64 * 1024 * 1024
"""Bytes of the header of a file of scores or means, which names every edge."""

MAX_CHARACTERS = 1_000_000
"""Characters of one prompt: about 250,000 tokens."""

MAX_TOKENS = 20_000_000
"""Prompt pairs times the tokens of the longest, since all are padded to its length."""

MAX_ID = 2**31 - 1
"""The largest token id."""

MAX_HEADS = 100_000
"""Attention heads, or experts, that a file may claim for its model, over all layers."""

MAX_NEURONS = 100_000_000
"""Neurons that a file may claim for its model, over all layers; an 8B model has half a million."""

MAX_EDGES = 5_000_000
"""Edges of a model that a format can list which lists all of them; an 8B model has 1.6 million."""
