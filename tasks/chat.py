"""Questions as chat turns: a user's message, and the place where the reply begins.

`template` is the form that the model's own tokenizer writes; `plain` writes `User:` and
`Assistant:`, which every model reads, so that a base and an instruct model can be asked
in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import TaskError, unknown
from tasks.tokenize import token_index, with_start

TEMPLATE, PLAIN = "template", "plain"
FORMS = (TEMPLATE, PLAIN)
ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}
MARK = "x"
NO_TEMPLATE = (
    "this model's tokenizer has no chat template, so it is no chat model; ask it without chat, or "
    "with plain turns (chat='plain', on the command line --chat-plain)"
)

Message = Mapping[str, str]


def chat_text(tokenizer: Any, messages: Sequence[Message], form: str = TEMPLATE) -> str:
    """The turns as one text that ends where the reply goes on.

    A last message of the role `assistant` is the beginning of the reply.

    Raises:
        TaskError: the tokenizer has no chat template, or an unknown form.
        ValueError: these are no messages, or the template does not allow them.
    """
    check_form(tokenizer, form)
    _check(messages)
    if form == PLAIN:
        return _plain(messages)
    return _rendered(tokenizer, messages, reply=messages[-1]["role"] != "assistant")


def form_of(chat: bool | str) -> str:
    """The form that was asked for: True is the template, False and an empty text are no chat.

    Raises:
        TaskError: there is no such form.
    """
    form = (TEMPLATE if chat else "") if isinstance(chat, bool) else chat
    if form and form not in FORMS:
        raise TaskError(unknown("chat form", form, FORMS))
    return str(form)


def check_form(tokenizer: Any, form: str) -> None:
    """Refuse a form that there is not, or not for this tokenizer.

    Raises:
        TaskError: see above.
    """
    if form_of(form) == TEMPLATE and not getattr(tokenizer, "chat_template", None):
        raise TaskError(NO_TEMPLATE)


def begun(tokenizer: Any, bos: bool | None, form: str) -> Any:
    """The tokenizer with texts begun as asked; a chat template writes their beginning itself."""
    return with_start(tokenizer, False if bos is None and form == TEMPLATE else bos)


def is_messages(given: object) -> bool:
    """Whether it is a list of messages rather than a text or token ids."""
    return isinstance(given, list | tuple) and bool(given) and isinstance(given[0], Mapping)


@dataclass(frozen=True, slots=True)
class ChatForm:
    """How a task's question becomes a user's message, and how the reply begins, if it is begun.

    With `again` the reply begins with the question itself, for a model to go on with.
    """

    before: str = ""
    reply: str = ""
    again: bool = False

    def begins(self, question: str) -> str:
        """The beginning of the reply; empty where the model begins it."""
        return question if self.again else self.reply


@dataclass(frozen=True, slots=True)
class Asked:
    """A way of putting questions to a model: as plain text, or as a turn of a chat.

    `form` is empty for text. `gap` is what stands between the place where a reply begins and its
    first word.
    """

    tokenizer: Any
    form: str = ""
    chat: ChatForm = ChatForm()

    def text(self, question: str) -> str:
        """The whole prompt."""
        if not self.form:
            return question
        head = chat_text(self.tokenizer, self._turn(question), self.form)
        reply = self.chat.begins(question)
        return f"{head}{self._gap(question)}{reply}" if reply else head

    def shift(self, question: str) -> int:
        """Where in the prompt the question begins (the last time), in characters; 0 of plain text.

        Raises:
            TaskError: the template changes the question.
        """
        at = self.text(question).rfind(question)
        if at < 0:
            raise TaskError(
                "this model's chat template changes the text of a message, so no place in it can "
                "be named; ask without chat, or with plain turns"
            )
        return at

    def indices(self, question: str, ends: Mapping[str, int]) -> dict[str, int]:
        """Indices of the prompt's tokens that end at these characters of the question."""
        text, shift = self.text(question), self.shift(question)
        return {name: token_index(self.tokenizer, text, shift + end) for name, end in ends.items()}

    def answer(self, word: str, question: str) -> str:
        """An answer, given without a space, as it follows the prompt."""
        if self.form and not self.chat.begins(question):
            return f"{self._gap(question)}{word}"
        return f" {word}"

    def _turn(self, question: str) -> list[Message]:
        return [{"role": "user", "content": f"{self.chat.before}{question}"}]

    def _gap(self, question: str) -> str:
        """What the form writes between a turn's head and its first word."""
        turn = self._turn(question)
        head = chat_text(self.tokenizer, turn, self.form)
        whole = chat_text(
            self.tokenizer, [*turn, {"role": "assistant", "content": MARK}], self.form
        )
        rest = whole.removeprefix(head)
        return rest.partition(MARK)[0] if whole != rest and MARK in rest else ""


def _rendered(tokenizer: Any, messages: Sequence[Message], reply: bool) -> str:
    from jinja2 import TemplateError

    turns = [dict(message) for message in messages]
    ending = {"add_generation_prompt": True} if reply else {"continue_final_message": True}
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, **ending)
    except (TemplateError, ValueError, TypeError, KeyError) as cause:
        raise ValueError(f"this model's chat template refuses these messages: {cause}") from None
    return text


def _plain(messages: Sequence[Message]) -> str:
    turns = [f"{ROLES[message['role']]}: {message['content']}" for message in messages]
    if messages[-1]["role"] != "assistant":
        turns.append(f"{ROLES['assistant']}:")
    return "\n".join(turns)


def _check(messages: object) -> None:
    """ValueError where these are no messages."""
    if not is_messages(messages):
        raise ValueError("no messages; give a list of objects with role and content")
    assert isinstance(messages, list | tuple)
    for message in messages:
        fits = isinstance(message, Mapping) and message.get("role") in ROLES
        if not fits or not isinstance(message.get("content"), str):
            raise ValueError(
                f"{message!r} is no message; give role ({', '.join(ROLES)}) and content, a text"
            )
