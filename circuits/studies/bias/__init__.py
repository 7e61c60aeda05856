"""The bias of multiple-choice answers: found, edited out, measured."""

from typing import TYPE_CHECKING

from circuits.lazy import lazily

if TYPE_CHECKING:
    from circuits.studies.bias.answers import answer
    from circuits.studies.bias.items import draw_questions, in_all_orders, make_items
    from circuits.studies.bias.mitigate import find_mitigation
    from circuits.studies.bias.report import report_card as measured_card
    from circuits.studies.bias.settings import Settings
    from tasks.bias_measures import letter_prior, without_prior

_HOMES = {
    "Settings": ("circuits.studies.bias.settings", "Settings"),
    "answer": ("circuits.studies.bias.answers", "answer"),
    "draw_questions": ("circuits.studies.bias.items", "draw_questions"),
    "find_mitigation": ("circuits.studies.bias.mitigate", "find_mitigation"),
    "in_all_orders": ("circuits.studies.bias.items", "in_all_orders"),
    "letter_prior": ("tasks.bias_measures", "letter_prior"),
    "make_items": ("circuits.studies.bias.items", "make_items"),
    "measured_card": ("circuits.studies.bias.report", "report_card"),
    "without_prior": ("tasks.bias_measures", "without_prior"),
}

__all__ = [
    "Settings",
    "answer",
    "draw_questions",
    "find_mitigation",
    "in_all_orders",
    "letter_prior",
    "make_items",
    "measured_card",
    "without_prior",
]

__getattr__ = lazily(__name__, _HOMES)
