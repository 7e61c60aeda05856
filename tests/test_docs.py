"""Nothing undocumented: tasks, methods, commands, options, file formats and their fields."""

import doctest
import importlib
import pkgutil

import pytest
import typer

import circuits
import tasks
from circuits.cli.app import app
from circuits.results.record import RunRecord
from circuits.validation.agreement import GROUNDS, NOTICE, agreement_table
from graphs.formats import FORMATS
from graphs.schema import json_schema
from patching.methods import METHODS

PACKAGES = ("tasks", "patching", "graphs", "circuits")


def commands(group, above=""):
    """Every command by its full name, those of groups included."""
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")


COMMANDS = dict(commands(typer.main.get_command(app)))


def modules():
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield name
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("name", tasks.names())
def test_a_task_says_what_it_asks_where_it_comes_from_and_what_its_options_mean(name):
    task = tasks.get(name)
    assert all(len(text) > 10 for text in (task.claim, task.reference))
    assert all(len(option.help) > 5 for option in task.options.values())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_method_says_what_it_computes_costs_and_assumes(method):
    texts = [method.claim, method.cost, method.reference]
    texts += [option.help for option in method.options.values()]
    texts += [GROUNDS[method.name].assumes, GROUNDS[method.name].checked]
    assert all(len(text) > 5 for text in texts)


def test_trust_is_stated_for_the_methods_there_are(root):
    assert list(GROUNDS) == list(METHODS)
    pages = root / "docs" / "explanation"
    assert "\n".join(agreement_table()) in (pages / "trust.md").read_text(encoding="utf-8")
    assert NOTICE in " ".join((pages / "methods.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_all_its_options_have_help(name):
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.name)
def test_a_format_says_what_it_is_and_loses(form):
    assert len(form.description) > 5
    assert form.loses


def objects(schema):
    return {"file": schema, **schema.get("$defs", {})}


def test_the_parts_and_fields_of_a_circuit_s_file_are_described():
    parts = {n: part for n, part in objects(json_schema()).items() if part.get("properties")}
    for name, part in parts.items():
        assert part.get("description"), name
        for field, said in part["properties"].items():
            told = said.get("description") or "$ref" in said or "const" in said
            assert told, f"{name}.{field}"


def test_the_parts_of_a_run_record_are_described():
    for name, part in objects(RunRecord.model_json_schema()).items():
        assert part.get("description"), name


@pytest.fixture(scope="module")
def names():
    """What the examples go on from: the names of the package's own example."""
    model = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=16, seed=0)
    graph = circuits.discover("ioi", model=model, top=100, n=16)
    return {"circuits": circuits, "model": model, "pairs": pairs, "graph": graph}


def test_the_examples_in_docstrings_run(names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failed = {}
    for name in modules():
        module = importlib.import_module(name)
        done = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
        if done.failed:
            failed[name] = capsys.readouterr().out
    assert not failed


@pytest.mark.parametrize("name", circuits.__all__)
def test_everything_public_has_an_example_that_runs(name):
    what = getattr(circuits, name)
    if isinstance(what, type) and issubclass(what, circuits.CircuitsError):
        return
    assert doctest.DocTestParser().get_examples(what.__doc__ or "")
