"""What cannot be studied is said, all of it at once, before the model has run on anything."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.studies.emotion.circuit import Budget
from circuits.studies.emotion.pipeline import study
from circuits.studies.emotion.prompts import Concept, EmotionPrompt, emotions
from circuits.studies.emotion.settings import Settings
from patching.anatomy import Anatomy
from patching.model import Model
from tasks.errors import CircuitsError, MethodError, ModelError, TaskError
from tests import families, tiny_emotion

ANATOMY = Anatomy(2, 4, 4, 8, 2, 16)


@pytest.fixture
def still(monkeypatch):
    """A model of which nothing may be run."""
    model, concept = tiny_emotion.opened(), tiny_emotion.concept()

    def refuse(*_, **__):
        raise AssertionError("the model was run")

    for name in ("run", "run_from", "embed"):
        monkeypatch.setattr(Model, name, refuse)
    return model, concept


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"groups": 1, "seed": -1}, "groups is 1; give at least 2; seed is -1"),
        ({"tests": 1}, "tests is 1; give at least 2"),
        ({"tuning": 0, "draws": 0}, "tuning is 0; give at least 1; draws is 0"),
        ({"positions": "first"}, "positions is 'first'"),
        ({"threshold": 2}, "threshold is 2"),
        ({"layers": ()}, "layers is empty"),
    ],
)
def test_settings_that_no_model_can_run(changes, told):
    with pytest.raises(MethodError, match=told):
        Settings(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": (0, 2, -1)}, r"layers \[2, -1\] are outside the model's 0 to 1"),
        ({"neurons": 7, "neuron_floor": 4}, "neurons: .*floor of 4 need at least 8"),
        ({"heads": 1, "head_floor": 1}, "heads: .*floor of 1 need at least 2"),
        ({"heads": 9}, "heads: .*2 layers of at most 4 hold no more than 8"),
        ({"neurons": -1}, "neurons: .*must not be negative"),
        ({"neurons": 0, "heads": 0}, "a circuit of no neurons and no heads drives nothing"),
        ({"new_tokens": 140}, "with 140 new tokens takes 144 positions and this model has 128"),
        (
            {"layers": (5,), "heads": 9, "new_tokens": 140},
            r"heads: [^\n]*\n  layers \[5\][^\n]*\n  the longest prompt",
        ),
    ],
)
def test_settings_that_this_model_cannot_run(still, changes, told):
    model, concept = still
    with pytest.raises(MethodError, match=told):
        study(model, concept, tiny_emotion.settings(**changes))


def test_a_concept_with_a_single_group_of_prompts(still):
    model, concept = still
    few = replace(concept, discovery=tiny_emotion.prompts("discovery", 1))
    with pytest.raises(MethodError, match="1 group of discovery prompts; an error needs at least"):
        study(model, few, tiny_emotion.settings())


def test_a_single_accepted_group_is_refused_before_anything_is_measured(monkeypatch):
    known = tiny_emotion.concept()
    group = known.discovery[0].group
    right = {p.text: p.label for p in known.discovery if p.group == group}
    monkeypatch.setattr(
        "circuits.studies.emotion.pipeline._accepted",
        lambda model, concept, asked, *_: np.array([p.text in right for p in asked]),
    )
    with pytest.raises(TaskError, match=r"1 of 6 groups .*\(2 of 12 prompts are\)"):
        study(tiny_emotion.opened(), known, tiny_emotion.settings())


def test_reading_after_the_norm_where_nothing_stands_there():
    model = Model.open(families.build("gpt_neox"), tokenizer=tiny_emotion.Letters())
    with pytest.raises(MethodError, match="read before the norm"):
        study(model, tiny_emotion.concept(), tiny_emotion.settings(after_norm=True))


def test_a_model_without_a_tokenizer():
    with pytest.raises(ModelError, match="no tokenizer"):
        study(families.opened("gpt2"), tiny_emotion.concept(), tiny_emotion.settings())


def test_floors_give_way_unless_they_are_asked_for():
    assert Budget.of(ANATOMY) == Budget(28, 2, 4, 1)
    assert Budget.of(ANATOMY, neurons=6, heads=1) == Budget(6, 1, 3, 0)
    assert Budget.of(ANATOMY, 6, 1, 4, 1) == Budget(6, 1, 4, 1)
    assert not Budget.of(ANATOMY).faults(ANATOMY)
    assert len(Budget.of(ANATOMY, 6, 1, 4, 1).faults(ANATOMY)) == 2


def test_a_group_with_a_missing_member():
    whole = tiny_emotion.concept()
    with pytest.raises(TaskError, match="discovery group 'discovery0': 0 prompts for 'calm'"):
        replace(whole, discovery=(whole.discovery[0], *whole.discovery[2:]))


def test_a_single_label():
    asking = [EmotionPrompt("a", "g", label) for label in ("calm", None)]
    other = [EmotionPrompt("b", "h", label) for label in ("calm", None)]
    with pytest.raises(TaskError, match="1 labels; directions are differences between labels"):
        Concept("one", ("calm",), tuple(asking), tuple(other), lambda text: None)


def test_a_judge_that_answers_no_label_is_found_out_with_the_first_replies(monkeypatch):
    known = tiny_emotion.concept()
    prompts = {p.text for p in known.discovery + known.test} | {*known.labels}
    odd = replace(known, judge=lambda text: None if text in prompts else "odd")
    monkeypatch.setattr(
        "circuits.studies.emotion.pipeline.capture", lambda *_, **__: pytest.fail("went on")
    )
    with pytest.raises(CircuitsError, match=r"answered 'odd'; it must answer one of calm, \$x<b>"):
        study(tiny_emotion.opened(), odd, tiny_emotion.settings())


def test_prompts_are_put_as_the_task_puts_them(smollm2):
    """The reply is begun as in the task; the sign that a reply follows is the turn's own."""
    tokenizer, concept = smollm2.tokenizer, emotions()
    pairs = circuits.load_task("emotion").pairs(tokenizer, n=8, chat=True)
    texts = {prompt.text for prompt in concept.put(tokenizer, None, "template").test}
    assert {text for text, _ in pairs.texts} <= texts
    begun = concept.put(tokenizer, True, "").test[0]
    assert begun.text == concept.test[0].text
    assert begun.ids(tokenizer) == [tokenizer.bos_token_id, *concept.test[0].ids(tokenizer)]


def test_a_study_puts_its_prompts_as_asked(monkeypatch):
    class Seen(Exception):
        """Holds the prompts that the model was to reply to."""

    def replies(model, prompts, *rest, **options):
        raise Seen(*prompts)

    monkeypatch.setattr("circuits.studies.emotion.pipeline.replies", replies)
    concept = tiny_emotion.concept()
    settings = tiny_emotion.settings(chat="plain", bos=False)
    with pytest.raises(Seen) as caught:
        study(tiny_emotion.opened(), concept, settings)
    plain = [prompt.text for prompt in concept.discovery if prompt.label is not None]
    assert [p.text for p in caught.value.args] == [f"User: {t}\nAssistant:" for t in plain]
    assert {prompt.bos for prompt in caught.value.args} == {False}
    assert (settings.to_json()["chat"], settings.to_json()["bos"]) == ("plain", False)
    assert tiny_emotion.settings(chat=True).chat == "template"


def test_a_template_that_there_is_not_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("circuits.models.load_model", None)
    done = CliRunner().invoke(app, ["emotion", "--chat", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "has no chat template" in done.output
    with pytest.raises(TaskError, match="has no chat template"):
        study(tiny_emotion.opened(), tiny_emotion.concept(), tiny_emotion.settings(chat="template"))
