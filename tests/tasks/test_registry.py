"""Tasks by name, options by name, and entry points of other packages."""

from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

import tasks
from tasks import Option, PromptPairs, Task, TaskError
from tasks.registry import Registry


class Counting(Task):
    name = "counting"
    claim = "what comes next"
    reference = "none"
    options: ClassVar = {
        "start": Option(1, "first number"),
        "style": Option("plain", "how numbers are written", ("plain", "roman")),
        "even": Option(False, "only even numbers"),
        "scale": Option(1.0, "factor"),
    }

    def make(self, tokenizer, n, seed, settings):
        rows = [[settings["start"] + i, 3] for i in range(n)]
        shifted = [[first + 1, second] for first, second in rows]
        ones = [1] * n
        return PromptPairs.from_tokens(
            clean=rows, corrupted=shifted, answer=ones, counterfactual=[2] * n, task=self.name
        )


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def offered(monkeypatch, registry):
    """Makes entry points look installed."""
    registry.group = "circuits.tasks"
    points = []
    monkeypatch.setattr("tasks.registry.entry_points", lambda group: points)

    def offer(name, value):
        points.append(EntryPoint(name, value, "circuits.tasks"))

    return offer


def test_ioi_is_there_under_its_name():
    assert "ioi" in tasks.names()
    assert tasks.get("ioi").name == "ioi"


def test_every_task_says_what_it_is():
    for name in tasks.names():
        task = tasks.get(name)
        assert task.claim
        assert task.reference
        assert task.metric


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(TaskError, match=r"unknown task 'iio'; did you mean 'ioi'\?"):
        tasks.get("iio")


def test_a_name_is_taken_once(registry):
    registry.register(Counting)
    assert registry.register(Counting) is Counting
    with pytest.raises(TaskError, match="a task named 'counting' exists already"):
        registry.register(type("Other", (Counting,), {}))


def test_an_entry_point_is_listed_and_loaded_when_asked_for(registry, offered):
    offered("counting", f"{__name__}:Counting")
    assert registry.names() == ["counting"]
    assert not registry.kinds
    assert type(registry.get("counting")).name == "counting"


def test_an_entry_point_never_replaces_a_task(registry, offered):
    registry.register(Counting)
    offered("counting", "no.such.module:Task")
    assert isinstance(registry.get("counting"), Counting)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module_at_all:Task", "cannot be imported"),
        ("json:dumps", "is not a Task subclass whose name is 'mine'"),
        ("tasks.ioi:IOI", "is not a Task subclass whose name is 'mine'"),
    ],
)
def test_a_broken_entry_point_is_named(registry, offered, value, message):
    offered("mine", value)
    with pytest.raises(TaskError, match=message):
        registry.get("mine")


def test_a_task_offered_twice_is_refused(registry, offered):
    offered("mine", "a:A")
    offered("mine", "b:B")
    with pytest.raises(TaskError, match="offered by several packages: a:A, b:B"):
        registry.get("mine")


def test_options_have_defaults_and_are_converted():
    settings = Counting().settings(start="7", even="true", scale=2)
    assert settings == {"start": 7, "style": "plain", "even": True, "scale": 2.0}
    assert Counting().pairs(None, n=2, start="7").clean.tolist() == [[7, 3], [8, 3]]


def test_all_wrong_options_are_listed_at_once():
    with pytest.raises(TaskError) as caught:
        Counting().settings(stat=1, start="x", style="romn", even="maybe", scale=True)
    message = str(caught.value)
    assert "unknown option 'stat'; did you mean 'start'?" in message
    assert "option start is int, not 'x'" in message
    assert "unknown value of option style 'romn'; did you mean 'roman'?" in message
    assert "option even is bool, not 'maybe'" in message
    assert "option scale is float, not True" in message


@pytest.mark.parametrize("value", [1.5, "1.5", True, None])
def test_a_number_is_not_rounded(value):
    with pytest.raises(TaskError, match="option start is int"):
        Counting().settings(start=value)


@pytest.mark.parametrize(
    ("n", "seed", "told"),
    [
        (0, 0, "n is 0; give at least 1"),
        (1, -1, "seed is -1; give at least 0"),
        ("1", None, "(?s)n is '1'; give a whole number.*seed is None; give a whole number"),
        (4.0, 0, "n is 4.0; give a whole number"),
    ],
)
def test_counts_and_seeds_are_checked(n, seed, told):
    with pytest.raises(TaskError, match=told):
        Counting().pairs(None, n=n, seed=seed)


def test_the_public_names_are_sorted_and_exist():
    assert tasks.__all__ == sorted(tasks.__all__)
    assert all(hasattr(tasks, name) for name in tasks.__all__)


def test_a_task_shows_itself_by_its_name_and_claim():
    task = tasks.get("ioi")
    assert repr(task) == f"<task ioi: {task.claim}>"
