"""Questions as chat turns: by the model's template, or in plain turns that every model reads."""

import pytest

import tasks
from tasks import PromptPairs, TaskError
from tasks.chat import Asked, ChatForm, chat_text, form_of

TURN = [{"role": "user", "content": "Which town is it?"}]
OTHER = [{"role": "user", "content": "Which land is it?"}]
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }}{% else %}"
    "{{ raise_exception('no system turns') }}{% endif %}{% endfor %}"
)

each_task = pytest.mark.parametrize(
    "name", [name for name in tasks.names() if tasks.get(name).chat]
)


def test_messages_are_what_the_template_makes_of_them(smollm2_tokenizer):
    pairs = PromptPairs.from_texts(smollm2_tokenizer, [TURN], [OTHER], ["Rome"], ["Italy"])
    expected = smollm2_tokenizer.apply_chat_template(TURN, add_generation_prompt=True)
    ids = expected if isinstance(expected, list) else expected["input_ids"]
    assert pairs.clean[0].tolist() == ids
    assert pairs.texts[0][0].endswith("assistant\n")
    assert pairs.clean[0].tolist().count(ids[0]) == 3


def test_strings_become_messages_where_chat_is_asked_for(smollm2_tokenizer):
    strings = [TURN[0]["content"]], [OTHER[0]["content"]], ["Rome"], ["Italy"]
    made = PromptPairs.from_texts(smollm2_tokenizer, *strings, chat=True)
    assert made == PromptPairs.from_texts(
        smollm2_tokenizer, [TURN], [OTHER], ["Rome"], ["Italy"], chat="template"
    )
    plain = PromptPairs.from_texts(smollm2_tokenizer, *strings, chat="plain")
    assert plain.texts[0][0] == "User: Which town is it?\nAssistant:"


def test_a_template_begins_its_text_itself(gemma3_tokenizer):
    """With the template's own beginning, or with none; never with two."""
    gemma3_tokenizer.chat_template = MISTRAL
    try:
        pairs = PromptPairs.from_texts(gemma3_tokenizer, [TURN], [OTHER], [" Rome"], [" Italy"])
        assert pairs.clean[0].tolist().count(gemma3_tokenizer.bos_token_id) == 1
        gemma3_tokenizer.chat_template = MISTRAL.removeprefix("{{ bos_token }}")
        bare = PromptPairs.from_texts(gemma3_tokenizer, [TURN], [OTHER], [" Rome"], [" Italy"])
        assert gemma3_tokenizer.bos_token_id not in bare.clean[0]
        begun = PromptPairs.from_texts(
            gemma3_tokenizer, [TURN], [OTHER], [" Rome"], [" Italy"], bos=True
        )
        assert begun.clean.tolist() == pairs.clean.tolist()
    finally:
        gemma3_tokenizer.chat_template = None


def test_the_last_message_may_begin_the_reply(smollm2_tokenizer):
    begun = [*TURN, {"role": "assistant", "content": "It is"}]
    assert chat_text(smollm2_tokenizer, begun).endswith("assistant\nIt is")
    assert chat_text(smollm2_tokenizer, begun, "plain").endswith("\nAssistant: It is")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user"}], "is no message; give role"),
        ([{"role": "nobody", "content": "a"}], "is no message; give role"),
        ([{"role": "user", "content": 3}], "is no message; give role"),
        ([], "no messages"),
        ("text", "no messages"),
    ],
)
def test_what_is_no_message_is_refused(smollm2_tokenizer, messages, message):
    with pytest.raises(ValueError, match=message):
        chat_text(smollm2_tokenizer, messages)


def test_what_a_template_refuses_is_a_fault_of_its_row(smollm2_tokenizer):
    begun = smollm2_tokenizer.chat_template
    smollm2_tokenizer.chat_template = MISTRAL
    try:
        system = [{"role": "system", "content": "Be brief."}, *TURN]
        with pytest.raises(TaskError, match=r"pair 0: clean: .* refuses these messages: no system"):
            PromptPairs.from_texts(smollm2_tokenizer, [system], [OTHER], ["a"], ["b"])
    finally:
        smollm2_tokenizer.chat_template = begun


def test_a_tokenizer_without_a_template_is_refused_once(gpt2_tokenizer):
    with pytest.raises(TaskError, match="has no chat template, so it is no chat model"):
        PromptPairs.from_texts(gpt2_tokenizer, [TURN], [OTHER], ["a"], ["b"])
    with pytest.raises(TaskError, match="has no chat template, so it is no chat model"):
        tasks.get("ioi").pairs(gpt2_tokenizer, n=2, chat=True)
    with pytest.raises(TaskError, match="unknown chat form 'templat'; did you mean 'template'"):
        tasks.get("ioi").pairs(gpt2_tokenizer, n=2, chat="templat")
    assert form_of(False) == form_of("") == ""


def test_a_task_without_a_chat_form_says_so(gpt2_tokenizer, monkeypatch):
    task = tasks.get("ioi")
    monkeypatch.setattr(type(task), "chat", None)
    with pytest.raises(TaskError, match="it has no chat form; ask it without chat"):
        task.pairs(gpt2_tokenizer, n=2, chat="plain")


@pytest.mark.parametrize("form", ["template", "plain"])
@each_task
def test_every_task_is_asked_in_chat_turns(name, smollm2_tokenizer, form):
    text = tasks.get(name).pairs(smollm2_tokenizer, n=24, seed=3)
    turns = tasks.get(name).pairs(smollm2_tokenizer, n=24, seed=3, chat=form)
    assert turns.positions.keys() == text.positions.keys()
    assert (turns.positions["END"] == turns.clean.shape[1] - 1).all()
    at = range(len(turns))
    for position in turns.positions.keys() - {"END", "S1+1"}:
        same, other = (
            smollm2_tokenizer.batch_decode(p.clean[at, p.positions[position]][:, None])
            for p in (text, turns)
        )
        assert [word.strip() for word in same] == [word.strip() for word in other], position
    assert all("ssistant" in clean for clean, _ in turns.texts)


def test_the_answer_follows_as_the_form_writes_it(smollm2_tokenizer, gemma3_tokenizer):
    bare = Asked(smollm2_tokenizer, "template", ChatForm())
    assert bare.answer("Mary", "Who?") == "Mary"
    assert Asked(smollm2_tokenizer, "plain", ChatForm()).answer("Mary", "Who?") == " Mary"
    begun = Asked(smollm2_tokenizer, "template", ChatForm(reply="I feel"))
    assert begun.text("How?").endswith("assistant\nI feel")
    assert begun.answer("sad", "How?") == " sad"
    again = Asked(smollm2_tokenizer, "template", ChatForm("Go on.\n\n", again=True))
    assert again.text("I saw").endswith("assistant\nI saw")
    assert again.text("I saw")[again.shift("I saw") :] == "I saw"
    assert again.text("I saw").count("I saw") == 2
    assert again.answer("Mary", "I saw") == " Mary"
    assert Asked(smollm2_tokenizer).answer("Mary", "Who?") == " Mary"
    gemma3_tokenizer.chat_template = MISTRAL
    try:
        assert Asked(gemma3_tokenizer, "template").answer("Mary", "Who?") == " Mary"
    finally:
        gemma3_tokenizer.chat_template = None


def test_a_template_that_changes_the_question_has_no_places(smollm2_tokenizer):
    begun = smollm2_tokenizer.chat_template
    smollm2_tokenizer.chat_template = "{{ messages[0].content | upper }}"
    try:
        with pytest.raises(TaskError, match="changes the text of a message"):
            Asked(smollm2_tokenizer, "template").shift("Who?")
    finally:
        smollm2_tokenizer.chat_template = begun


def test_a_small_chat_model_goes_on_with_the_sentence(smollm2):
    """Asked to name the person it was right in fewer than half."""
    from circuits.knowledge import knowledge

    pairs = tasks.get("ioi").pairs(smollm2.tokenizer, n=12, split="all", chat=True)
    assert knowledge(smollm2, pairs).known.mean() > 0.5
