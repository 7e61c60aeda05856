"""Anchored bias: multiple-choice questions whose right letter is known and 'A' said instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import perm
from typing import Any, ClassVar

import numpy as np

from tasks.answers import Ids, answer_tokens, begin_alike, size_of
from tasks.base import Option, Task
from tasks.chat import Asked, ChatForm
from tasks.errors import TaskError
from tasks.files import left_out_lines
from tasks.mcq_files import QuestionFile, read_question_file
from tasks.pairs import PromptPairs
from tasks.questions import LAYOUTS, LETTERS, SYMBOLS, Entry, Question, bank
from tasks.registry import register
from tasks.tokenize import Tokenizer, encode, token_index, unknown_words

SPLITS = ("test", "train", "all")
TRIES = 100
MOVED = ("to_A", "cycle")
"""Corruptions that move options, or where that would move the letters' tokens, letters alone."""
RELABELLED = "options of unequal length: only their letters moved, not the options themselves"


@register
class MCQBias(Task):
    """ "Question: ... Answer Choices: A: ... B: ... Answer:" -> " B", where models tend to " A".

    Positions: `option_A` to `option_E` (the letters, counted by place), `gold` (the right option's
    letter), END. The default split is the one that the embedded model was not trained on; to other
    models, and for questions from a file, the splits are the same.
    """

    name = "mcq_bias"
    chat = ChatForm(before="Answer with the letter of the right option only.\n\n")
    claim = "say the letter of the right option; the corruption moves it to A, or elsewhere"
    reference = (
        "Li & Gao 2025, arXiv 2405.03205 (prompt, scoring); symbol counterfactuals as in MIB, "
        "arXiv 2504.13151"
    )
    options: ClassVar[Mapping[str, Option]] = {
        "n_options": Option(
            4, "options per question, 2 to 5; a file's own number is kept", (2, 3, 4, 5)
        ),
        "layout": Option("line", "the paper's one line, or one line per option", LAYOUTS),
        "gold": Option(
            "never_A",
            "where the right option stands: not first, everywhere equally often, or at one place",
            ("never_A", "balanced", *"ABCD"),
        ),
        "corruption": Option(
            "to_A",
            "to_A: the right option changes places with the first one (when first, with another), "
            "or, where the two are not equally many tokens, only their letters do; "
            "letters: only the letters change places; "
            "cycle: all options move by the same number of places, or, of unequal length, only "
            "their letters; "
            "symbols: the letters are replaced by others, the options stay",
            ("to_A", "letters", "cycle", "symbols"),
        ),
        "against": Option(
            "corrupted",
            "counterfactual answer: the corrupted prompt's letter, A, or all the other letters",
            ("corrupted", "A", "others"),
        ),
        "file": Option("", "questions to use (tasks/mcq_files.py) instead of the built-in ones"),
        "skip_bad": Option(False, "leave out questions of the file that have a fault"),
        "split": Option("test", "question and options: held out from nano, or not", SPLITS),
    }

    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """`n` distinct questions of the split, each with its corrupted prompt."""
        asked, layout = self.asked(tokenizer, settings), settings["layout"]
        _check(asked, settings)
        rng = np.random.default_rng(seed)
        dropped, file = 0, _file(settings)
        pairs: list[tuple[Question, Question]] = []
        for question in _questions(tokenizer, rng, n, settings, file):
            if len(pairs) == n:
                break
            other = _corrupt(question, settings["corruption"], rng)
            if settings["corruption"] in MOVED and not _aligned(tokenizer, question, other, layout):
                other = _letters_moved(question, other)
            if _aligned(tokenizer, question, other, layout):
                pairs.append((question, other))
            else:
                dropped += 1
        if len(pairs) < n:
            raise TaskError(
                f"task mcq_bias: n={n}, but there are {len(pairs)} distinct prompts in split "
                f"'{settings['split']}' ({dropped} more are cut differently once corrupted); ask "
                "for fewer, or take corruption letters or symbols, which keep the options where "
                "they are"
            )
        made = PromptPairs.from_texts(
            tokenizer,
            clean=[asked.text(question.text(layout)) for question, _ in pairs],
            corrupted=[asked.text(other.text(layout)) for _, other in pairs],
            answer=[asked.answer(question.letter, question.text(layout)) for question, _ in pairs],
            counterfactual=[
                [asked.answer(letter, other.text(layout)) for letter in letters]
                for letters, (_, other) in zip(
                    (_against(*pair, settings["against"]) for pair in pairs), pairs, strict=True
                )
            ],
            positions=_positions(asked, [question for question, _ in pairs], layout),
            task=self.name,
            metric=self.metric,
        )
        moved = settings["corruption"] in MOVED
        remarks = (RELABELLED if moved and q.letters != o.letters else "" for q, o in pairs)
        return replace(
            made, remarks=tuple(remarks), about=tuple(left_out_lines(file.left_out)) if file else ()
        )


def cyclic_orders(question: Question) -> list[Question]:
    """The question once for every number of places its options can be moved by, unmoved first.

    Predictions over them, [items, orders], are what `bias_measures.chosen_options` takes.
    """
    return [question.turned(by) for by in range(len(question.options))]


def _check(asked: Asked, settings: Mapping[str, Any]) -> None:
    """Refuses letters that cannot be distinguished, and settings that contradict each other."""
    every = [letter_tokens(asked, letter, settings["layout"]) for letter in LETTERS]
    shared = begin_alike(every)
    apart = len({ids[shared] for ids in every if len(ids) > shared})
    if apart < len(LETTERS):
        raise TaskError(
            f"task mcq_bias: {apart} of {len(LETTERS)} letters ({', '.join(LETTERS)}) are one "
            "token of their own after a question for this tokenizer; all are needed"
        )
    if settings["against"] == "A" and settings["gold"] in ("balanced", "A"):
        raise TaskError(
            f"task mcq_bias: against=A needs right letters other than A, not "
            f"gold={settings['gold']}; take gold=never_A"
        )
    place = LETTERS.find(settings["gold"])
    if not settings["file"] and place >= settings["n_options"]:
        raise TaskError(
            f"task mcq_bias: gold={settings['gold']} with {settings['n_options']} options; "
            f"give at least {place + 1}"
        )


def letter_tokens(asked: Asked, letter: str, layout: str) -> Ids:
    """The tokens of a letter after a question; none where it has none of its own there."""
    question = Question("", ("", ""), 0).text(layout)
    try:
        prompt, answer = asked.text(question), asked.answer(letter, question)
        return answer_tokens(asked.tokenizer, [prompt], answer)
    except ValueError:
        return ()


def _file(settings: Mapping[str, Any]) -> QuestionFile | None:
    """The file of questions, read; None where none is named."""
    if not settings["file"]:
        return None
    return read_question_file(settings["file"], skip_bad=settings["skip_bad"])


def _questions(
    tokenizer: Tokenizer,
    rng: np.random.Generator,
    n: int,
    settings: Mapping[str, Any],
    file: QuestionFile | None,
) -> Iterator[Question]:
    """Distinct questions of the split in random order, the right option where it is wanted."""
    if file is not None:
        yield from _from_file(rng, settings, file)
        return
    entries = _entries(tokenizer, settings["n_options"])
    total = sum(perm(len(entry.wrong), settings["n_options"] - 1) for entry in entries)
    places = _places(settings["gold"], settings["n_options"])
    if n > total * len(places):
        raise TaskError(
            f"task mcq_bias: n={n}, but there are at most {total * len(places)} distinct prompts "
            f"of {len(entries)} questions for this tokenizer; ask for fewer"
        )
    seen: set[Question] = set()
    missed = 0
    while missed < TRIES * len(entries):
        place = places[len(seen) % len(places)]
        entry = entries[rng.integers(len(entries))]
        question = entry.ask(rng, settings["n_options"], place)
        if question in seen or not _in_split(question, settings["split"]):
            missed += 1
            continue
        seen.add(question)
        missed = 0
        yield question


def _from_file(
    rng: np.random.Generator, settings: Mapping[str, Any], file: QuestionFile
) -> Iterator[Question]:
    questions = list(dict.fromkeys(file.questions))
    for i, row in enumerate(rng.permutation(len(questions))):
        question = questions[row]
        places = _places(settings["gold"], len(question.options))
        if places:
            yield question.with_gold(places[i % len(places)])


def _entries(tokenizer: Tokenizer, n_options: int) -> list[Entry]:
    """The bank's entries with wrong answers of as many tokens as the right one."""
    kept = []
    for entry in bank():
        size = size_of(tokenizer, f" {entry.answer}")
        wrong = tuple(word for word in entry.wrong if size_of(tokenizer, f" {word}") == size)
        if size and len(wrong) >= n_options - 1 and not unknown_words(tokenizer, entry.stem):
            kept.append(replace(entry, wrong=wrong))
    if not kept:
        raise TaskError(
            f"task mcq_bias: 0 of {len(bank())} questions have words that this tokenizer knows, "
            f"and an answer with {n_options - 1} wrong answers of as many tokens"
        )
    return kept


def _in_split(question: Question, split: str) -> bool:
    return split == "all" or question.held_out() == (split == "test")


def _places(gold: str, n_options: int) -> list[int]:
    """Places the right option may take, none where the question has too few options."""
    if gold == "balanced":
        return list(range(n_options))
    if gold == "never_A":
        return list(range(1, n_options))
    place = LETTERS.index(gold)
    return [place] if place < n_options else []


def _corrupt(question: Question, corruption: str, rng: np.random.Generator) -> Question:
    n = len(question.options)
    if corruption == "symbols":
        drawn = rng.permutation(len(SYMBOLS))[: len(LETTERS)].tolist()
        return replace(question, letters="".join(SYMBOLS[i] for i in drawn))
    if corruption == "letters":
        return question.relabelled(int(rng.integers(1, n)) if question.gold == 0 else 0)
    if corruption == "cycle":
        return question.turned(int(rng.integers(1, n)))
    return question.with_gold(int(rng.integers(1, n)) if question.gold == 0 else 0)


def _aligned(tokenizer: Tokenizer, question: Question, other: Question, layout: str) -> bool:
    """Whether the letters stand at the same tokens in both prompts, which have the same end."""
    return _letter_indices(tokenizer, question, layout) == _letter_indices(tokenizer, other, layout)


def _letter_indices(tokenizer: Tokenizer, question: Question, layout: str) -> list[int]:
    text, ends = question.text(layout), question.ends(layout)
    indices = [token_index(tokenizer, text, ends[f"option_{place}"]) for place in _named(question)]
    return [*indices, len(encode(tokenizer, text))]


def _letters_moved(question: Question, other: Question) -> Question:
    """The question with every letter where `other` has its option, and the options where they are.

    A letter at another token would be patched with a part of an option.
    """
    places = map(other.options.index, question.options)
    return replace(question, letters="".join(question.letters[place] for place in places))


def _named(question: Question) -> str:
    return LETTERS[: len(question.options)]


def _against(question: Question, other: Question, against: str) -> list[str]:
    if against == "A":
        return [question.letters[0]]
    if against == "corrupted":
        return [other.letter]
    return [letter for letter in question.symbols if letter != question.letter]


def _positions(asked: Asked, questions: Sequence[Question], layout: str) -> dict[str, list[int]]:
    """Positions that every question has: letters up to the smallest number of options."""
    fewest = min(len(question.options) for question in questions)
    positions: dict[str, list[int]] = {f"option_{place}": [] for place in LETTERS[:fewest]}
    positions["gold"] = []
    for question in questions:
        ends = question.ends(layout)
        named = {name: ends[name] for name in positions}
        for name, index in asked.indices(question.text(layout), named).items():
            positions[name].append(index)
    return positions | {"END": [-1] * len(questions)}
