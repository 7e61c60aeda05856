"""What `import circuits` offers, and that another project's package is not taken for ours."""

import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from typing import get_args

import pytest
import typer

import circuits
from circuits.cli.app import app
from circuits.config_check import LEVELS
from patching import choices
from patching.ablation.kinds import ABLATIONS
from patching.measure import LEVELS as SCORE_LEVELS
from patching.methods import METHODS
from patching.scores import DIRECTIONS
from patching.sites import NODES


def test_all_is_sorted_and_complete():
    assert circuits.__all__ == sorted(circuits.__all__)
    lazy_or_eager = set(circuits._LAZY) | {"Evaluation", "af1", "discover", "evaluate"}
    assert set(circuits.__all__) == lazy_or_eager


@pytest.mark.parametrize("name", circuits.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(circuits, name).__doc__
    assert name in dir(circuits)


SHARED = (
    *("model", "task", "pairs", "n", "seed", "metric", "direction", "batch_size", "progress"),
    *("out", "force", "bos", "chat", "skip_bad"),
)
"""Arguments whose meaning is said once, where all public names are listed."""
PLAIN = ("path", "options")


@pytest.mark.parametrize("name", circuits.__all__)
def test_every_argument_of_a_public_function_is_explained(name):
    what = getattr(circuits, name)
    if not inspect.isfunction(what):
        return
    told = inspect.getdoc(what)
    arguments = [part for part in inspect.signature(what).parameters if part not in PLAIN]
    unsaid = [each for each in arguments if not re.search(rf"\b{each}\b", told)]
    assert [each for each in unsaid if each not in SHARED] == []


def test_what_arguments_share_is_said_where_the_names_are():
    assert [each for each in SHARED if f"``{each}``" not in circuits.__doc__] == []


def raised(what):
    """The errors that a docstring names."""
    _, _, told = inspect.getdoc(what).partition("Raises:")
    return re.findall(r"\b[A-Z]\w*Error\b", told)


@pytest.mark.parametrize("name", circuits.__all__)
def test_errors_that_a_public_name_announces_are_public_and_of_one_tree(name):
    for error in raised(getattr(circuits, name)):
        found = getattr(circuits, error)
        assert issubclass(found, circuits.CircuitsError)


def test_functions_are_not_hidden_by_modules_of_the_same_name():
    code = (
        "import circuits.discover, circuits.evaluate; "
        "assert callable(circuits.discover) and callable(circuits.evaluate)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'discovery_channel'"):
        circuits.discovery_channel  # noqa: B018


def test_version_is_that_of_the_distribution(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "circuits.__version__"}
    assert circuits.__version__ in (root / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["module", "package"])
def test_a_neighbour_of_another_project_is_named(root, tmp_path, form):
    intruder = tmp_path / ("tasks.py" if form == "module" else "tasks/__init__.py")
    intruder.parent.mkdir(exist_ok=True)
    intruder.write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]; import circuits"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: circuits needs the package 'tasks'"
    )
    assert str(intruder) in done.stderr


def test_completion_offers_what_is_public_and_nothing_else():
    assert dir(circuits) == sorted({*circuits.__all__, "__version__"})


FUNCTION_OF = {
    "ablate": "ablate",
    "ablations": "list_ablations",
    "af1": "af1",
    "compare": "compare",
    "diff": "CircuitGraph.diff",
    "discover": "discover",
    "doctor": "doctor",
    "edit apply": "save_edited",
    "edit check": "EditPlan.check",
    "edit schema": "plan_schema",
    "emotion": "emotion",
    "evaluate": "evaluate_run",
    "means": "means",
    "mib": "mib",
    "methods": "list_methods",
    "mitigate": "mitigate",
    "models": "list_models",
    "selectors": "list_selectors",
    "show": "load_run",
    "tasks": "list_tasks",
    "validate": "validate",
    "view": "CircuitGraph.interactive",
}


def commands(group, above=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_public_function(name):
    found = FUNCTION_OF.get(name, name.replace("-", "_"))
    public, _, method = found.partition(".")
    assert public in circuits.__all__, f"{name}: no public function of this name"
    assert not method or callable(getattr(getattr(circuits, public), method))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"edit schema", "view"}))
def test_every_command_prints_json(name):
    options = [option for each in COMMANDS[name].params for option in each.opts]
    assert "--json" in options


@pytest.mark.parametrize(
    ("choices", "table"),
    [
        (choices.Level, LEVELS),
        (choices.ScoreLevel, SCORE_LEVELS),
        (choices.Direction, DIRECTIONS),
        (choices.Nodes, NODES),
        (choices.MethodName, METHODS),
        (choices.AblationName, ABLATIONS),
    ],
)
def test_choices_are_those_of_the_tables(choices, table):
    assert sorted(get_args(choices)) == sorted(table)


def test_metrics_and_positions_are_those_of_the_tables():
    code = (
        "from typing import get_args; from patching import choices; "
        "from patching.metrics import METRICS; from patching.sitesets import POSITIONS; "
        "assert set(get_args(choices.MetricName)) == set(METRICS); "
        "assert get_args(choices.Positions) == POSITIONS"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "package",
    ["studies.bias", "studies.emotion", "studies.allforone", "results"],
)
def test_packages_offer_what_they_list(package):
    found = import_module(f"circuits.{package}")
    assert found.__all__ == sorted(found.__all__)
    assert all(getattr(found, name) is not None for name in found.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        found.nothing  # noqa: B018
