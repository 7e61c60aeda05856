"""What `import circuits` offers, and that another project's package is not taken for ours."""

import subprocess
import sys
import tomllib

import pytest

import circuits


def test_all_is_sorted_and_complete():
    assert circuits.__all__ == sorted(circuits.__all__)
    lazy_or_eager = set(circuits._LAZY) | {"Evaluation", "af1", "discover", "evaluate"}
    assert set(circuits.__all__) == lazy_or_eager


@pytest.mark.parametrize("name", circuits.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(circuits, name).__doc__
    assert name in dir(circuits)


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
