"""Pages that are made from the code when the site is built, so that they cannot be out of date.

They are written to `docs/generated/` and `docs/notebooks/`, which are not committed.
"""

import re
import shutil
from pathlib import Path

import pictures
import reference

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
ALIGNED = re.compile(r"^(\w+(?:, \w+)*):?\s{2,}(\S.*)$")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)(#[^)]*)?\)")
COPIED = {
    "circuits/FILES.md": "files",
    "circuits/FAMILIES.md": "families",
    "circuits/SMOLLM2.md": "smollm2",
    "circuits/AGREEMENT.md": "agreement",
    "CHANGELOG.md": "changes",
    "SECURITY.md": "security",
    "CONTRIBUTING.md": "contributing",
    "STABILITY.md": "stability",
    "RELEASING.md": "releasing",
}
COLAB = (
    "```{note}\nIn Colab: upload the wheel that `python -m build` makes, then run "
    "`%pip install circuits_engine-{version}-py3-none-any.whl` in a first cell.\n```"
)


def setup(app):
    """What Sphinx calls: write the pages before it looks for them, and read our docstrings."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", fields_as_list)
    return {"parallel_read_safe": True}


def write(app):
    """Write every page, and leave those alone that have not changed."""
    pages = {f"{name}.md": moved((ROOT / path).read_text("utf-8")) for path, name in COPIED.items()}
    pages |= reference.pages()
    folder = DOCS / "generated"
    folder.mkdir(exist_ok=True)
    for stale in {path.name for path in folder.iterdir()} - {*pages, *pictures.NAMES}:
        (folder / stale).unlink()
    for name, text in pages.items():
        put(folder / name, text)
    pictures.write(ROOT, folder)
    shutil.copyfile(ROOT / "graphs" / "assets" / "circuit.svg", DOCS / "_static" / "circuit.svg")
    notebooks(app.config.release)


def notebooks(version):
    """Copies of the notebooks that say how they are opened elsewhere."""
    import nbformat

    folder = DOCS / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        document = nbformat.read(path, as_version=4)
        note = nbformat.v4.new_markdown_cell(COLAB.replace("{version}", version), id="colab")
        document.cells.insert(1, note)
        put(folder / path.name, nbformat.writes(document) + "\n")


def put(path, text):
    """Write a page whose text has changed; Sphinx reads again what has a new time."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def moved(text):
    """A page of the repository with its links as they are in the site.

    A link to another page of the site is followed there; one to any other file is only named.
    """

    def link(found):
        target, anchor = found[1].removeprefix("./"), found[2] or ""
        if target.startswith("docs/"):
            return f"](../{target.removeprefix('docs/')}{anchor})"
        for path, name in COPIED.items():
            if target in {path, Path(path).name}:
                return f"]({name}.md{anchor})"
        return "](#FILE)"

    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = LINK.sub(link, text)
    return re.sub(r"\[([^\]]+)\]\(#FILE\)", r"\1", text)


def fields_as_list(*given):
    """The fields of a class stand in two columns in its docstring; in the site they are a list."""
    lines, shown, inside = given[-1], [], False
    for line in lines:
        if found := ALIGNED.match(line):
            shown += [] if inside else [""]
            shown.append(f"* ``{found[1]}``: {found[2]}")
            inside = True
        elif inside and line.startswith("  "):
            shown.append(f"  {line.strip()}")
        else:
            shown += [""] if inside and line.strip() else []
            shown.append(line)
            inside = False
    lines[:] = shown
