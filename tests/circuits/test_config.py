"""The choices of a discovery: what is refused before anything is loaded, what makes it equal."""

from dataclasses import replace

import pytest

from circuits.config import Config
from circuits.held_out.fresh_prompts import KINDS
from tasks.errors import CircuitsError, MethodError, ModelError, TaskError

IOI = Config("ioi", model=None, method="relevance")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"task": "iou"}, TaskError, "unknown task 'iou'; did you mean 'ioi'?"),
        ({"task": "iou:split=all"}, TaskError, "unknown task 'iou'; did you mean 'ioi'?"),
        ({"task": "ioi:splt=all"}, TaskError, "unknown option 'splt'; did you mean 'split'?"),
        ({"task": "ioi:split=al"}, TaskError, "did you mean 'all'?"),
        ({"task": "nowhere.jsonl"}, TaskError, "there is no file 'nowhere.jsonl'"),
        ({"model": "nanno"}, ModelError, "unknown model 'nanno'; did you mean 'nano'?"),
        ({"model": "./nowhere"}, ModelError, "there is no directory './nowhere'"),
        ({"method": "relevence"}, MethodError, "did you mean 'relevance'?"),
        ({"level": "edges"}, MethodError, "unknown level 'edges'; did you mean 'edge'?"),
        ({"direction": "noise"}, MethodError, "did you mean 'noising'?"),
        ({"metric": "logit_dif"}, MethodError, "did you mean 'logit_diff'?"),
        ({"method": "ig", "options": {"step": 5}}, MethodError, "did you mean 'steps'?"),
        ({"method": "relevance", "options": {"rules": "relq"}}, MethodError, "relp"),
        ({"method": "secant,atribution"}, MethodError, "did you mean 'attribution'?"),
        ({"method": "ig:step=5"}, MethodError, "did you mean 'steps'?"),
        ({"method": "secant,secant"}, MethodError, "names secant twice"),
        ({"method": "secant,ig", "options": {"steps": 3}}, MethodError, "secant,ig:steps=3"),
        (
            {"method": "ig:steps=3", "options": {"steps": 3}},
            MethodError,
            "steps of ig is set twice",
        ),
        ({"select": "treshold"}, MethodError, "did you mean 'threshold'?"),
        ({"select": "threshold:leest=1"}, MethodError, "did you mean 'least'?"),
        ({"select": "threshold:least=-1"}, MethodError, "least is -1.0; give a number of at least"),
        ({"select": "iterated:keep=1"}, MethodError, "keep is 1.0; give a share between 0 and 1"),
        ({"select": "bootstrap:interval=norml"}, MethodError, "did you mean 'normal'?"),
        ({"select": "acdc", "top": 9}, MethodError, "keeps as many as pass"),
        ({"select": "greedy", "level": "node"}, MethodError, "chooses edges, not nodes"),
        ({"ablation": "means"}, MethodError, "did you mean 'mean'?"),
        ({"ablation": "mean_position"}, MethodError, "did you mean 'mean-by-position'?"),
        ({"ablation": "cama:1"}, MethodError, "use mean-by-token"),
        ({"ablation": "full-peek:1"}, MethodError, "cuts attention"),
        ({"ablation": "zero:1"}, MethodError, "takes no argument"),
        ({"top": 0}, MethodError, "top is 0; give at least 1"),
        ({"n": 0}, MethodError, "n is 0; give at least 1"),
        ({"seed": -1}, MethodError, "seed is -1; give at least 0"),
        ({"batch_size": 0}, MethodError, "batch size is 0; give at least 1"),
    ],
)
def test_what_cannot_work_is_refused_with_the_choices(changes, error, words):
    with pytest.raises(error) as caught:
        replace(IOI, **changes).check()
    assert words in str(caught.value)


def test_a_task_with_options_is_another_discovery_in_another_folder():
    written = replace(IOI, task="ioi:split=all")
    written.check()
    assert (written.from_file, written.count) == (False, 64)
    assert written.digest() != IOI.digest()
    assert written.folder_name == "ioi-split=all"


def test_what_is_in_a_file_counts_also_where_an_option_names_it(tmp_path):
    (tmp_path / "questions.jsonl").write_text("one")
    config = replace(IOI, task=f"mcq_bias:file={tmp_path}/questions.jsonl")
    before = config.digest()
    (tmp_path / "questions.jsonl").write_text("two")
    assert config.digest() != before
    assert not config.from_file


def test_all_faults_are_told_at_once():
    config = Config("iou", model="nanno", method="relevence", top=0)
    with pytest.raises(CircuitsError) as caught:
        config.check()
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert all(word in str(caught.value) for word in ("'iou'", "'nanno'", "'relevence'", "top"))


def test_a_sound_configuration_passes():
    assert IOI.check() is None


def test_n_is_resolved_by_where_the_prompts_come_from():
    assert IOI.count == 64
    assert IOI.to_json()["n"] == 64
    assert replace(IOI, n=5).count == 5
    assert Config("my.jsonl").count is None
    assert Config(None).count is None


@pytest.mark.parametrize(
    "changes",
    [
        *({"seed": 1}, {"top": 99}, {"method": "ig"}, {"batch_size": 8}, {"level": "node"}),
        *({"select": "greedy"}, {"select": "top:fill=false"}, {"ablation": "mean"}),
        {"method": "relevance,ig"},
    ],
)
def test_every_choice_changes_the_digest(changes):
    assert replace(IOI, **changes).digest() != IOI.digest()


def test_a_default_written_out_is_the_same_run():
    assert replace(IOI, n=64).digest() == IOI.digest()
    assert replace(IOI, select="top:absolute=true").digest() == IOI.digest()
    assert (
        replace(IOI, ablation="resample").digest() == replace(IOI, ablation="resample:0").digest()
    )
    assert Config("ioi").digest() == Config("ioi", top=100).digest()


def test_the_files_named_count_too(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    pairs.write_text("a")
    config = Config(str(pairs), model=str(model))
    first = config.digest()
    pairs.write_text("b")
    second = config.digest()
    (model / "config.json").write_text("[]")
    assert len({first, second, config.digest()}) == 3


def test_the_types_of_every_choice_in_a_record_are_known():
    chosen = Config("ioi", model="nano", n=3).to_json()
    assert set(KINDS) == set(chosen)
    assert not [name for name, value in chosen.items() if type(value) not in KINDS[name]]


def test_a_folder_is_never_named_by_dots_alone():
    names = [Config(f"files/{name}").folder_name for name in ("...jsonl", "a.jsonl", "..csv")]
    assert names == ["prompts", "a", "prompts"]
