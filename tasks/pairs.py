"""Prompt pairs: the clean and the corrupted question, aligned token by token, as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tasks.chat import Message
from tasks.columns import column as column_of
from tasks.digest import digest as digest_of
from tasks.errors import TaskError, all_faults, counted
from tasks.pairs_check import content_faults, read_positions, shape_faults
from tasks.row import NO_ID, Row
from tasks.rows import left_pad, pad_answers, read_ids, read_rows, text_readers
from tasks.spelled import by_prompt, each_token, notes
from tasks.tokenize import Tokenizer, check_tokenizer, pad_id

if TYPE_CHECKING:
    import pandas as pd

HEADLINE = "these prompt pairs cannot be used:"


def _frozen(values: Any, dtype: type[np.generic]) -> np.ndarray:
    """A read-only copy as `dtype`; fractions, and masks that are not 0 or 1, are refused."""
    given = np.asarray(values)
    array = np.array(given, dtype=dtype)
    if given.size and (given.dtype.kind not in "iub" or not np.array_equal(array, given)):
        raise TaskError(f"prompt pairs hold whole numbers and true/false masks, not {given.dtype}")
    array.setflags(write=False)
    return array


def _none() -> Int[np.ndarray, "0"]:
    """Nothing said yet."""
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """`n` questions, each asked twice: clean and corrupted, equally long, with different answers.

    clean, corrupted:        int64 [n, pos], token ids, padded on the left to one length
    mask:                    bool [n, pos], True on real tokens, the same for both runs
    answer, counterfactual:  int64 [n, k], ids right for the clean and for the corrupted prompt;
                             short rows are filled with -1, which is ignored
    positions:               name -> int64 [n], a column of the padded arrays
    texts:                   (clean, corrupted) strings, empty where there is no tokenizer
    task, metric:            names of the task and of its default metric
    shared:                  int64 [n], how many of the prompts' last tokens are the beginning of
                             the answer and of the counterfactual
    rest:                    int64 [n, m], what follows the measured token in the (first) answer;
                             filled with -1
    longer:                  bool [n], whether any answer goes on after the measured token
    remarks:                 what is odd about a pair, one text each, mostly empty
    templates:               what each pair was made from, its words left out; empty for none
    about:                   what to know of all of them, such as what was left out of their file
    prompt:                  int64 [n], whose row each is, where a prompt has several; or empty
    columns:                 name -> what else their file says of each pair
    spans:                   name -> int64 [n, 2], from a column to another, see tasks.spans

    The prediction is read at the last column. Arrays are copied and read-only. Anything that does
    not fit raises one `TaskError` that lists every fault.

    >>> ids = {"clean": [[7, 9]], "corrupted": [[8, 9]], "answer": [[1]], "counterfactual": [[2]]}
    >>> circuits.PromptPairs.from_tokens(**ids)
    PromptPairs(...)
    """

    clean: Int[np.ndarray, "n pos"]
    corrupted: Int[np.ndarray, "n pos"]
    mask: Bool[np.ndarray, "n pos"]
    answer: Int[np.ndarray, "n k"]
    counterfactual: Int[np.ndarray, "n k2"]
    positions: Mapping[str, Int[np.ndarray, " n"]] = field(default_factory=dict)
    texts: tuple[tuple[str, str], ...] = ()
    task: str = ""
    metric: str = "logit_diff"
    shared: Int[np.ndarray, " n"] = field(default_factory=_none)
    rest: Int[np.ndarray, "n m"] = field(default_factory=_none)
    longer: Bool[np.ndarray, " n"] = field(default_factory=_none)
    remarks: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    prompt: Int[np.ndarray, " n"] = field(default_factory=_none)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spans: Mapping[str, Int[np.ndarray, "n 2"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("clean", "corrupted", "answer", "counterfactual", "prompt"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.int64))
        object.__setattr__(self, "mask", _frozen(self.mask, np.bool_))
        for where in ("positions", "spans"):
            named = {str(n): _frozen(at, np.int64) for n, at in getattr(self, where).items()}
            object.__setattr__(self, where, named)
        texts = tuple((str(a), str(b)) for a, b in self.texts) or (("", ""),) * len(self.clean)
        object.__setattr__(self, "texts", texts)
        self._fill_spelling()
        object.__setattr__(self, "templates", tuple(self.templates) or ("",) * len(self.clean))
        if faults := shape_faults(self) or content_faults(self):
            raise TaskError(all_faults(HEADLINE, faults))

    def _fill_spelling(self) -> None:
        """Answers are one token each where nothing else is said."""
        n = len(self.clean)
        shared = self.shared if len(self.shared) else np.zeros(n, dtype=np.int64)
        rest = self.rest if len(self.rest) else np.full((n, 0), NO_ID)
        longer = self.longer if len(self.longer) else (rest >= 0).any(1)
        object.__setattr__(self, "shared", _frozen(shared, np.int64))
        object.__setattr__(self, "rest", _frozen(rest, np.int64))
        object.__setattr__(self, "longer", _frozen(longer, np.bool_))
        object.__setattr__(self, "remarks", tuple(self.remarks) or ("",) * n)

    @classmethod
    def from_tokens(
        cls,
        *,
        clean: Any,
        corrupted: Any,
        answer: Any,
        counterfactual: Any,
        mask: Any = None,
        positions: Mapping[str, Any] | None = None,
        task: str = "",
        metric: str = "logit_diff",
        where: Sequence[str] | None = None,
    ) -> PromptPairs:
        """Pairs from token ids: arrays or tensors [n, pos], or lists of rows of any length.

        Rows of unequal length are padded on the left; arrays that are padded already come with
        their `mask`. `answer` and `counterfactual` hold one id per pair, or several. A position is
        an index into the row as given, negative from its end. `where` names the pairs in messages.
        """
        columns: dict[str, Any] = {"clean": clean, "corrupted": corrupted}
        columns |= {"answer": answer, "counterfactual": counterfactual}
        rows = read_rows(columns, read_ids, where)
        return cls._from_rows(rows, positions, mask, 0, task, metric)

    @classmethod
    def from_texts(
        cls,
        tokenizer: Tokenizer,
        clean: Sequence[str | Sequence[Message]],
        corrupted: Sequence[str | Sequence[Message]],
        answer: Sequence[str | Sequence[str]],
        counterfactual: Sequence[str | Sequence[str]],
        *,
        positions: Mapping[str, Sequence[int]] | None = None,
        bos: bool | None = None,
        task: str = "",
        metric: str = "logit_diff",
        where: Sequence[str] | None = None,
        chat: bool | str = "",
    ) -> PromptPairs:
        """Pairs from strings. An answer is what follows its prompt as written (" Mary").

        Of answers of several tokens, those that right and wrong answers share are added to both
        prompts, and the first at which they differ is measured; `notes` say where that was so.
        `bos` begins the prompts in another way than the tokenizer does by default. A prompt may be
        chat messages, `[{"role": "user", "content": ...}]`, which go through the chat template with
        its generation prompt; with `chat` (True, or "plain") every string is a user's message.

        `positions` are indices into `encode(tokenizer, clean[i], bos)`; negative ones count from
        the end of the prompt as it is run, so -1 is where the prediction is read.
        """
        check_tokenizer(tokenizer)
        columns: dict[str, Any] = {"clean": clean, "corrupted": corrupted}
        columns |= {"answer": answer, "counterfactual": counterfactual}
        rows = read_rows(columns, text_readers(tokenizer, bos, chat), where)
        return cls._from_rows(rows, positions, None, pad_id(tokenizer), task, metric)

    @classmethod
    def _from_rows(
        cls,
        rows: list[Row],
        positions: Mapping[str, Any] | None,
        mask: Any,
        fill: int,
        task: str,
        metric: str,
    ) -> PromptPairs:
        named, faults = read_positions(positions or {}, rows)
        if mask is None:
            faults = [*(fault for row in rows for fault in row.faults()), *faults]
        elif len({len(ids) for row in rows for ids in (row.clean, row.corrupted)}) > 1:
            faults = ["a mask goes with arrays [n, pos]; these rows differ in length", *faults]
        if faults:
            raise TaskError(all_faults(HEADLINE, faults))
        clean = left_pad([row.clean for row in rows], fill)
        shift = clean.shape[1] - np.array([len(row.clean) for row in rows])
        return cls(
            clean=clean,
            corrupted=left_pad([row.corrupted for row in rows], fill),
            mask=np.arange(clean.shape[1]) >= shift[:, None] if mask is None else np.asarray(mask),
            answer=pad_answers([row.answer for row in rows]),
            counterfactual=pad_answers([row.counterfactual for row in rows]),
            positions={name: at + shift for name, at in named.items()},
            texts=tuple(row.texts for row in rows),
            task=task,
            metric=metric,
            shared=np.array([row.shared for row in rows]),
            rest=pad_answers([row.rest for row in rows], least=0),
            longer=np.array([row.longer for row in rows]),
            remarks=tuple(row.remark for row in rows),
        )

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> PromptPairs:
        """The chosen pairs, still padded to the same length, so columns keep their meaning."""
        if isinstance(index, int | np.integer):
            index = [int(index)]
        chosen = np.arange(len(self))[index]
        return replace(
            self,
            clean=self.clean[chosen],
            corrupted=self.corrupted[chosen],
            mask=self.mask[chosen],
            answer=self.answer[chosen],
            counterfactual=self.counterfactual[chosen],
            positions={name: at[chosen] for name, at in self.positions.items()},
            texts=tuple(self.texts[i] for i in chosen),
            shared=self.shared[chosen],
            rest=self.rest[chosen],
            longer=self.longer[chosen],
            remarks=tuple(self.remarks[i] for i in chosen),
            templates=tuple(self.templates[i] for i in chosen),
            prompt=self.prompt[chosen] if len(self.prompt) else self.prompt,
            columns={name: tuple(at[i] for i in chosen) for name, at in self.columns.items()},
            spans={name: at[chosen] for name, at in self.spans.items()},
        )

    def column(self, name: str) -> tuple[str, ...]:
        """What is said of each prompt under a name; see :func:`tasks.columns.column`."""
        return column_of(self, name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of these pairs: what is measured of answers of several tokens, and oddities.

        Empty where every answer is one token and nothing is odd.
        """
        return notes(self)

    @property
    def in_part(self) -> bool:
        """Whether an answer or a counterfactual is several tokens, of which one is measured."""
        return bool(self.longer.any() or self.shared.any())

    def each_token(self) -> PromptPairs:
        """A row for every token of every answer, for the metric `sequence_log_prob`.

        See :func:`tasks.spelled.each_token`.

        Raises:
            TaskError: a pair has several right answers.
        """
        return each_token(self)

    @property
    def prompts(self) -> int:
        """How many prompts there are: the rows, or fewer where several are of one prompt."""
        return len(np.unique(self.prompt)) if len(self.prompt) else len(self)

    def by_prompt(self, values: Float[np.ndarray, "*runs n"]) -> Float[np.ndarray, "*runs m"]:
        """One value a prompt from one a row: sums, scaled so that their mean is that over rows."""
        return by_prompt(values, self.prompt)

    def drawn(self, prompts: Sequence[int] | np.ndarray) -> PromptPairs:
        """All rows of the prompts with these numbers; one that is named twice counts as two."""
        if not len(self.prompt):
            return self[prompts]
        owner = np.unique(self.prompt, return_inverse=True)[1]
        rows = [np.flatnonzero(owner == number) for number in prompts]
        numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return replace(self[np.concatenate(rows)], prompt=numbers)

    def batches(self, size: int) -> Iterator[PromptPairs]:
        """The pairs in order, `size` at a time; the last batch may be smaller."""
        if size < 1:
            raise TaskError(f"a batch of {size} pairs; give at least 1")
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def swapped(self) -> PromptPairs:
        """Clean and corrupted swapped, and their answers with them, up to the measured token."""
        return replace(
            self,
            clean=self.corrupted,
            corrupted=self.clean,
            answer=self.counterfactual,
            counterfactual=self.answer,
            texts=tuple((corrupted, clean) for clean, corrupted in self.texts),
            rest=np.full((len(self), 0), NO_ID),
            longer=self.longer,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the contents, in hex; what is written on padding does not count."""
        return digest_of(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PromptPairs) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_frame(self) -> pd.DataFrame:
        """One row per pair: texts (token ids where there are none) and answer ids."""
        from tasks.pairs_frame import pairs_frame

        return pairs_frame(self)

    def _repr_html_(self) -> str:
        from tasks.pairs_frame import pairs_html

        return pairs_html(self)

    def __repr__(self) -> str:
        n, pos = self.clean.shape
        named = ", ".join(self.positions) or "none"
        size = f"{counted(n, 'pair')}, {counted(pos, 'token')}"
        return f"PromptPairs({self.task or 'no task'}: {size}, positions {named})"
