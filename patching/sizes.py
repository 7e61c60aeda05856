"""Sizes of memory as people write them. Does not import torch."""

from __future__ import annotations

import re

from tasks.errors import MethodError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"([\d.]+)\s*(|k|m|g|ki|mi|gi)b?", re.IGNORECASE)


def bytes_of(memory: str | int) -> int:
    """A size such as ``20GB``, ``800 MB`` or ``1.5GiB`` in bytes.

    Raises:
        MethodError: it is no size, or nothing.
    """
    text = str(memory).strip()
    match = _SIZE.fullmatch(text)
    try:
        size = int(float(match[1]) * UNITS[match[2].lower()]) if match else 0
    except ValueError:
        size = 0
    if size < 1:
        raise MethodError(f"memory is '{memory}'; write a size such as 20GB, 800MB or 1.5GiB")
    return size
