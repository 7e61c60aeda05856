"""Words that must agree: subject and verb, a profession and its pronoun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tasks.base import Option
from tasks.pair_forms import verbs
from tasks.registry import register
from tasks.standard import Axes, Prompt, Standard, words

NUMBERS = (0, 1)


@register
class Agreement(Standard):
    """ "The farmer near the cars" -> " is", among verbs in both numbers.

    The corruption gives the noun that the verb agrees with the other number. Positions: subject,
    END. Probabilities of all verbs in the right number are compared with those in the wrong one.
    """

    name = "sva"
    claim = "give the verb its subject's number; the corruption changes that number"
    reference = (
        "Linzen et al. 2016, arXiv 1611.01368 (nouns between); Marks et al. 2024, arXiv "
        "2403.19647 (structures); Hanna et al. 2024, arXiv 2403.17806 (metric)"
    )
    metric = "prob_diff"
    options: ClassVar[Mapping[str, Option]] = {
        "structure": Option(
            "simple",
            "what stands between subject and verb: nothing; noun, as in 'near the cars'; across, a "
            "relative clause; within, the verb is the relative clause's own",
            ("simple", "noun", "across", "within"),
        ),
    }

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Opening, noun, its number; and what stands between, in either number."""
        axes: list[Sequence[Any]] = [words("openings"), words("nouns"), NUMBERS]
        if settings["structure"] == "noun":
            return [*axes, words("prepositions"), words("things"), NUMBERS]
        return axes if settings["structure"] == "simple" else [*axes, words("nouns"), NUMBERS]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """See :class:`Standard`."""
        start, noun, number, *between = choice
        structure, before, after = settings["structure"], f"{start} ", ""
        if structure == "noun":
            preposition, thing, many = between
            after = f" {preposition} the {thing[many]}"
        elif structure != "simple":
            guest, many = between
            if guest == noun:
                return None
            # Within the clause it is the guest that the verb agrees with.
            if structure == "within":
                before = f"{start} {guest[many]} that the "
            else:
                after = f" that the {guest[many]} {('likes', 'like')[many]}"
        right, wrong = ([f" {verb[i]}" for verb in verbs()] for i in (number, 1 - number))
        subject = f"{before}{noun[number]}"
        return Prompt(
            f"{subject}{after}",
            f"{before}{noun[1 - number]}{after}",
            right,
            wrong,
            {"subject": len(subject)},
        )


@register
class GenderBias(Standard):
    """ "The nurse paused because" -> " she", against " he".

    The corruption puts in "man" where the profession is thought a woman's, "woman" where a man's.
    Positions: profession, END.
    """

    name = "gender_bias"
    claim = "take up a profession with a pronoun; the corruption names a man or a woman instead"
    reference = "Vig et al. 2020, arXiv 2004.12265; pairs as in Hanna et al. 2024, arXiv 2403.17806"
    options: ClassVar[Mapping[str, Option]] = {
        "professions": Option(
            "both", "thought a woman's, a man's, or both", ("both", "women", "men")
        ),
    }

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Profession with whose it is thought, and what was done."""
        sides = {"women": (" she", " he", "man"), "men": (" he", " she", "woman")}
        kinds = sides if settings["professions"] == "both" else [settings["professions"]]
        return [[(word, *sides[kind]) for kind in kinds for word in words(kind)], words("did")]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt:
        """See :class:`Standard`."""
        (profession, answer, counterfactual, person), did = choice
        start = f"The {profession}"
        return Prompt(
            f"{start} {did} because",
            f"The {person} {did} because",
            [answer],
            [counterfactual],
            {"profession": len(start)},
        )
