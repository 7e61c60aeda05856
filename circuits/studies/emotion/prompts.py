"""Groups of prompts that differ in a label, in text, and the judge that reads replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.chat import TEMPLATE, Asked, ChatForm, check_form
from tasks.errors import FormatError, TaskError, all_faults
from tasks.files import read_text
from tasks.json_text import parse_json
from tasks.judges import Judge, LexiconJudge
from tasks.scenarios import CUE
from tasks.tokenize import encode

SPLITS = ("discovery", "test")


@dataclass(frozen=True, slots=True)
class EmotionPrompt:
    """A prompt of a group. `label` is what it asks for, None for nothing; `kind` is its valence.

    `opening` is the end of the text that is the reply's beginning. `bos` says how the text begins:
    see :func:`tasks.tokenize.encode`.
    """

    text: str
    group: str
    label: str | None
    kind: str = ""
    opening: str = ""
    bos: bool | None = None

    def ids(self, tokenizer: Any) -> list[int]:
        """The prompt's tokens."""
        return encode(tokenizer, self.text, self.bos)

    def put(self, tokenizer: Any, bos: bool | None, form: str) -> EmotionPrompt:
        """The prompt begun as asked, and in a chat turn where a form of it is named."""
        if not form:
            return replace(self, bos=bos)
        asked = self.text.removesuffix(self.opening).removesuffix(CUE)
        turn = Asked(tokenizer, form, ChatForm(reply=self.opening.strip()))
        begun = False if bos is None and form == TEMPLATE else bos
        return replace(self, text=turn.text(asked), bos=begun)


@dataclass(frozen=True)
class Concept:
    """Labels, the prompts that ask for each and for none, and the judge that reads replies.

    Components are found on `discovery` prompts and tried on `test` prompts.
    """

    name: str
    labels: tuple[str, ...]
    discovery: tuple[EmotionPrompt, ...]
    test: tuple[EmotionPrompt, ...]
    judge: Judge

    def __post_init__(self) -> None:
        faults = []
        if len(self.labels) < 2:
            faults.append(f"{len(self.labels)} labels; directions are differences between labels")
        for split, prompts in zip(SPLITS, (self.discovery, self.test), strict=True):
            groups: dict[str, list[str | None]] = {}
            for prompt in prompts:
                groups.setdefault(prompt.group, []).append(prompt.label)
            if not groups:
                faults.append(f"no prompts in the {split} split")
            for group, asked_for in groups.items():
                for label in (*self.labels, None):
                    if (count := asked_for.count(label)) != 1:
                        what = f"for '{label}'" if label else "that asks for no label"
                        faults.append(f"{split} group '{group}': {count} prompts {what}, needs 1")
                if unknown := sorted({str(x) for x in asked_for} - {*self.labels, "None"}):
                    faults.append(f"{split} group '{group}': unknown labels {', '.join(unknown)}")
        both = {p.group for p in self.discovery} & {p.group for p in self.test}
        if both:
            shown = ", ".join(sorted(both)[:5])
            faults.append(f"groups of both splits, so nothing would be held out: {shown}")
        if faults:
            raise TaskError(all_faults(f"'{self.name}' cannot be studied:", faults))
        for text in [*self.labels, self.test[0].text]:
            self.judged(text)

    def judged(self, text: str) -> str | None:
        """What the judge says; `TaskError` if that is neither a label nor None."""
        label = self.judge(text)
        if label is not None and label not in self.labels:
            raise TaskError(
                f"the judge answered {label!r}; it must answer one of {', '.join(self.labels)}, "
                f"or None for none of them"
            )
        return label

    def put(self, tokenizer: Any, bos: bool | None, form: str) -> Concept:
        """The concept with all prompts put to a model in this way: see :class:`Settings`.

        Raises:
            TaskError: the tokenizer has no chat template.
        """
        check_form(tokenizer, form)

        def put(prompts: Sequence[EmotionPrompt]) -> tuple[EmotionPrompt, ...]:
            return tuple(prompt.put(tokenizer, bos, form) for prompt in prompts)

        return replace(self, discovery=put(self.discovery), test=put(self.test))

    def take(self, split: str, groups: int) -> tuple[EmotionPrompt, ...]:
        """The prompts of at most so many groups, always the same ones for the same number."""
        prompts = self.discovery if split == "discovery" else self.test
        names = list(dict.fromkeys(prompt.group for prompt in prompts))
        count = min(max(groups, 1), len(names))
        # Not every k-th group: kinds alternate, and a stride would pick one of them alone.
        order = np.random.default_rng(0).permutation(len(names))
        kept = {names[i] for i in order[:count]}
        return tuple(prompt for prompt in prompts if prompt.group in kept)


def emotions(opening: str | None = None) -> Concept:
    """The task `emotion`. The reply is begun with `opening`, by default the task's " I feel"."""
    from tasks.emotion import samples
    from tasks.scenarios import EMOTIONS, SHOWN

    start = SHOWN if opening is None else opening
    prompts = {
        split: tuple(
            EmotionPrompt(
                sample.prompt + start, sample.group, sample.emotion, sample.valence, start
            )
            for sample in samples(split, (*EMOTIONS, None))
        )
        for split in SPLITS
    }
    discovery, test = prompts.values()
    return Concept("emotion", EMOTIONS, discovery, test, LexiconJudge())


def read_concept(path: Path) -> Concept:
    """A concept from a JSON file: `labels` (label -> words that show it) and `prompts`.

    Each prompt has `text`, `group`, `label` (null where it asks for none), `split` (discovery or
    test) and, if wanted, `kind`.

    Raises:
        FormatError: not such a file. TaskError: no text file, groups that lack a prompt, or shared
            words.
    """
    try:
        data = parse_json(read_text(path))
    except ValueError as error:
        raise FormatError(f"{path} is not valid JSON: {error}") from None
    faults = list(_faults(data))
    if faults:
        raise FormatError(all_faults(f"{path} describes no concept:", faults))
    rows: Sequence[Mapping[str, Any]] = data["prompts"]
    prompts = {
        split: tuple(
            EmotionPrompt(row["text"], row["group"], row["label"], row.get("kind", ""))
            for row in rows
            if row["split"] == split
        )
        for split in SPLITS
    }
    words = {
        label: frozenset(word.lower() for word in words) for label, words in data["labels"].items()
    }
    discovery, test = prompts.values()
    return Concept(path.stem, tuple(words), discovery, test, LexiconJudge(words))


def _faults(data: Any) -> list[str]:
    if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
        return ["it needs an object with 'labels' (label: list of words) and 'prompts'"]
    faults = [
        f"label '{label}': give a list of words"
        for label, words in data["labels"].items()
        if not (isinstance(words, list) and words and all(isinstance(w, str) for w in words))
    ]
    if not isinstance(data.get("prompts"), list):
        return [*faults, "'prompts' must be a list"]
    for number, row in enumerate(data["prompts"]):
        if not isinstance(row, dict):
            faults.append(f"prompts[{number}]: not an object")
            continue
        for name in ("text", "group"):
            if not (isinstance(row.get(name), str) and row[name]):
                faults.append(f"prompts[{number}]: '{name}' must be a text")
        if row.get("split") not in SPLITS:
            faults.append(f"prompts[{number}]: 'split' must be discovery or test")
        if "label" not in row or not (row["label"] is None or isinstance(row["label"], str)):
            faults.append(f"prompts[{number}]: 'label' must be a label, or null for none")
    return faults
