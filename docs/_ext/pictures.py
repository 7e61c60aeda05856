"""The picture of the architecture, made from the imports that the code really has."""

import ast
from collections import Counter

import graphviz

from graphs.engine import run

PACKAGES = ("circuits", "graphs", "patching", "tasks")
NAMES = ("architecture.svg",)
BLUE, GREY = "#2b6cb0", "#718096"


def imports(path):
    """The modules that a file imports when it runs, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part(module):
    """The part of the picture that a module belongs to: a package, or a folder of circuits."""
    names = module.split(".")
    if names[0] not in PACKAGES:
        return None
    return names[0] if names[0] != "circuits" or len(names) == 1 else ".".join(names[:2])


def edges(root):
    """How many files of each part import another part."""
    folders = {path.parent.name for path in (root / "circuits").glob("*/__init__.py")}
    found, files = Counter(), Counter()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            own = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
            named = {name for module in imports(path) if (name := known(module, folders))}
            source = known(own, folders)
            files[source] += 1
            found.update((source, target) for target in named if target != source)
    return found, files


def known(module, folders):
    """A part by its name; modules that lie directly in circuits are the core."""
    name = part(module)
    if name is None or not name.startswith("circuits"):
        return name
    folder = name.partition(".")[2]
    return f"circuits/{folder}" if folder in folders else "circuits (core)"


def write(root, folder):
    """Draw the parts, with an arrow from each to those that it imports."""
    found, files = edges(root)
    drawing = graphviz.Digraph(graph_attr={"rankdir": "TB", "bgcolor": "transparent"})
    drawing.attr("node", shape="box", style="rounded,filled", fillcolor="white", color=BLUE)
    drawing.attr("node", fontname="Helvetica", fontsize="11", fontcolor="#1a202c")
    drawing.attr("edge", color=GREY, arrowsize="0.6")
    for name, count in sorted(files.items()):
        drawing.node(name, f"{name}\n{count} files")
    for (source, target), count in sorted(found.items()):
        drawing.edge(source, target, penwidth=f"{min(0.5 + count / 10, 3):.1f}")
    (folder / NAMES[0]).write_bytes(run(drawing.source, "dot", "svg"))
