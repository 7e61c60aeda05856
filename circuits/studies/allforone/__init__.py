"""All-for-One: in how few blocks the operands of a sum reach the last token."""

from typing import TYPE_CHECKING

from circuits.lazy import lazily

if TYPE_CHECKING:
    from circuits.studies.allforone.stages import MAIN, best, closest

_HOMES = {
    "MAIN": ("circuits.studies.allforone.stages", "MAIN"),
    "best": ("circuits.studies.allforone.stages", "best"),
    "closest": ("circuits.studies.allforone.stages", "closest"),
}

__all__ = [
    "MAIN",
    "best",
    "closest",
]

__getattr__ = lazily(__name__, _HOMES)
