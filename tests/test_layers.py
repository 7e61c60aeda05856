"""Which package imports which, and which of them stay clear of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

HEAVY = ("torch", "transformers", "transformer_lens")
VOCABULARY = {
    *("patching.anatomy", "patching.sites", "patching.latent_sites", "patching.scores"),
    *("patching.nodes.layout", "patching.nodes.edges", "patching.placed"),
    "patching.choices",
}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import statement, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("tasks", {"tasks"}),
        ("patching", {"tasks", "patching"}),
        ("graphs", {"tasks", "patching", "graphs"}),
    ],
)
def test_imports_point_one_way(root, package, allowed):
    ours = {"circuits", "graphs", "patching", "tasks"}
    files = sorted((root / package).rglob("*.py"))
    assert files
    for file in files:
        named = {name.partition(".")[0] for name in imports(file)} & ours
        assert named <= allowed, f"{file.relative_to(root)} imports {sorted(named - allowed)}"


def test_imports_keep_the_contracts_of_the_project(root, monkeypatch):
    """Between the packages, and inside circuits: studies > commands > results."""
    monkeypatch.chdir(root)
    assert lint_imports(str(root / "pyproject.toml"), no_cache=True, no_logo=True) == 0


@pytest.mark.parametrize("package", ["tasks", "graphs"])
def test_no_file_of_a_torch_free_package_names_torch(root, package):
    for file in sorted((root / package).rglob("*.py")):
        named = {name.partition(".")[0] for name in imports(file)}
        assert not named & set(HEAVY), file.relative_to(root)


def test_graphs_know_only_the_vocabulary_of_patching(root):
    for file in sorted((root / "graphs").rglob("*.py")):
        named = {name for name in imports(file) if name.partition(".")[0] == "patching"}
        assert named <= VOCABULARY, file.relative_to(root)


@pytest.mark.parametrize(
    "code",
    [
        "import circuits",
        "import graphs",
        "import tasks",
        "import patching",
        "import circuits; circuits.CircuitGraph, circuits.Scores, circuits.PromptPairs",
        "import patching.methods",
        "import circuits.cli.app",
    ],
)
def test_importing_stays_clear_of_torch(root, code):
    check = f"import sys; {code}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=root, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("package", ["circuits", "graphs", "patching", "tasks"])
def test_files_and_functions_stay_small(root, package):
    for file in sorted((root / package).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= 330, f"{file.relative_to(root)} is too long to hold one idea"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
                assert lines <= 60, f"{file.relative_to(root)}: {node.name} has {lines} lines"


def _docstring_lines(node: ast.FunctionDef) -> int:
    first = node.body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return 0
    return (first.end_lineno or first.lineno) - first.lineno + 1
