"""Emotion circuits: directions, components, influence, control."""

from typing import TYPE_CHECKING

from circuits.lazy import lazily

if TYPE_CHECKING:
    from circuits.studies.emotion.pipeline import study
    from circuits.studies.emotion.prompts import Concept, emotions, read_concept
    from circuits.studies.emotion.settings import Settings

_HOMES = {
    "Concept": ("circuits.studies.emotion.prompts", "Concept"),
    "Settings": ("circuits.studies.emotion.settings", "Settings"),
    "emotions": ("circuits.studies.emotion.prompts", "emotions"),
    "read_concept": ("circuits.studies.emotion.prompts", "read_concept"),
    "study": ("circuits.studies.emotion.pipeline", "study"),
}

__all__ = [
    "Concept",
    "Settings",
    "emotions",
    "read_concept",
    "study",
]

__getattr__ = lazily(__name__, _HOMES)
