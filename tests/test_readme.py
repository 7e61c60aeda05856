"""The README and the pages of the site are true: their Python runs, their commands are there."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from graphs.formats.registry import _FORMATS
from patching.methods import METHODS
from tasks.registry import TASKS
from tests.conftest import ROOT
from tests.words import pages

PAGES = {str(path.relative_to(ROOT)): path for path, _ in pages(ROOT)}
MADE = {"circuits/FILES.md", "circuits/FAMILIES.md", "circuits/SMOLLM2.md", "circuits/AGREEMENT.md"}
READ = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items() if name not in MADE}


def blocks(text, *languages):
    """The contents of the fenced blocks marked with one of the languages."""
    found = re.findall(r"^```([\w{}-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for marked, content in found if marked in languages]


@pytest.fixture
def _undone():
    """What pages add to tables is taken away again."""
    TASKS.names()  # the built-in ones are there from then on
    kinds, forms = dict(TASKS.kinds), dict(_FORMATS)
    yield
    for table, before in ((TASKS.kinds, kinds), (_FORMATS, forms)):
        for name in {*table} - {*before}:
            del table[name]


@pytest.mark.usefixtures("_undone")
@pytest.mark.parametrize("name", [name for name in READ if blocks(READ[name], "python")])
def test_the_python_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in blocks(READ[name], "python"):
        exec(compile(code, name, "exec"), {})
        assert capsys.readouterr().out


def commands(text):
    """Every command of a page, without what is said behind it."""
    lines = "\n".join(blocks(text, "", "sh")).replace("\\\n", " ").splitlines()
    return [re.split(r"\s{3,}", line)[0] for line in lines if line.startswith("circuits ")]


def test_every_command_and_option_is_there():
    helps = {}
    for name, text in READ.items():
        for line in commands(text):
            words = shlex.split(line)[1:]
            before = [word for word in words if word in {"-q", "-v", "--quiet", "--verbose"}]
            words = words[len(before) :] if words[: len(before)] == before else words
            if words[0].startswith("-"):
                continue
            asked = tuple(words[: 2 if words[0] == "edit" else 1])
            if asked not in helps:
                done = CliRunner().invoke(app, [*asked, "--help"])
                assert done.exit_code == 0, f"{name}: {line}"
                helps[asked] = done.stdout
            for word in words[len(asked) :]:
                if re.match(r"--?[a-z]", word):
                    assert word in helps[asked], f"{name}: {line}"


def test_every_page_s_links_lead_somewhere():
    for name, text in READ.items():
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
            path = PAGES[name].parent / target
            if {"generated", "_static", "notebooks"} & set(path.parts) and "docs" in path.parts:
                continue  # made when the site is built, which refuses a link that leads nowhere
            assert path.exists(), f"{name}: {target}"


def test_files_named_in_pages_are_there():
    named = re.compile(r"`((?:circuits|docs|graphs|patching|tasks|tests|notebooks)/[\w./-]*)`")
    for name, text in READ.items():
        for path in named.findall(text):
            if "_build" not in path and "generated" not in path:
                assert (ROOT / path).exists(), f"{name}: {path}"


def test_the_edit_plan_fits_the_embedded_model(tmp_path):
    plan = blocks(READ["docs/tutorials/4-a-bias.md"], "toml")[0]
    (tmp_path / "plan.toml").write_text(plan, encoding="utf-8")
    circuits.read_plan(tmp_path / "plan.toml").check(circuits.load_model("nano"), tmp_path / "out")


def test_make_targets_are_there_and_explained(root):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE)
    for name, text in READ.items():
        for target in re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE):
            assert target in targets, f"{name}: make {target}"
    rows = "\n".join(re.findall(r"^\| `.*$", READ["CONTRIBUTING.md"], re.MULTILINE))
    assert [name for name in targets if f"`{name}`" not in rows] == []


def test_every_method_is_explained():
    text = READ["docs/explanation/methods.md"]
    assert [name for name in METHODS if f"`{name}`" not in text] == []


def test_the_architecture_names_every_folder_of_circuits(root):
    text = READ["docs/contribute/architecture.md"]
    folders = {path.parent for path in root.glob("circuits/*/__init__.py")}
    assert [f.name for f in folders if f"`circuits/{f.name}/`" not in text] == []


def test_abbreviations_are_explained_where_they_first_stand():
    glossary = READ["docs/glossary.md"]
    used = {(name, short) for name, text in READ.items() for short in MEANT if stands(short, text)}
    assert [(name, short) for name, short in used if not explained(short, READ[name])] == []
    assert [short for short in MEANT if not re.search(rf"^{short}\b", glossary, re.MULTILINE)] == []


MEANT = {
    "CPR": "circuit performance ratio",
    "CMD": "circuit-model distance",
    "RStd": "standard deviation of recalls",
    "PriDe": "debiasing with prior estimation",
    "CAMA": "context-aware mean ablation",
    "ABP": "attention-based peeking",
    "AF1": "All-for-One",
    "CKLD": "choice Kullback-Leibler divergence",
    "AUROC": "area under the receiver operating characteristic",
}


def stands(short, text):
    """Whether an abbreviation stands in a page's prose."""
    return re.search(rf"\b{short}\b", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def explained(short, text):
    """Whether a page says what an abbreviation means, or links to the glossary."""
    return MEANT[short].lower() in " ".join(text.lower().split()) or "glossary.md" in text


def test_environment_variables_are_documented():
    configuration = READ["docs/reference/configuration.md"]
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "circuits").rglob("*.py"))
    source += (ROOT / "patching" / "sources" / "cache.py").read_text(encoding="utf-8")
    used = set(re.findall(r'"(CIRCUITS_[A-Z_]+)"', source))
    assert used
    assert [name for name in used if f"`{name}`" not in configuration] == []
