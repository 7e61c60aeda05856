"""The picture of the architecture: the layers that the tests enforce, and who imports whom."""

import ast
import textwrap
import tomllib
from collections import Counter

import graphviz
import networkx as nx
import pygraphviz

from tasks.errors import counted

PACKAGES = ("graphs", "patching", "tasks")
NAMES = ("architecture.svg",)
BLUE, GREY, WIDTH = "#2b6cb0", "#718096", 44


def layers(root):
    """The layers of circuits from the top, as its contract of imports lists them."""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = content["tool"]["importlinter"]["contracts"]
    (ours,) = (each for each in contracts if each.get("containers") == ["circuits"])
    return [[name.strip() for name in layer.split("|")] for layer in ours["layers"]]


def imports(path):
    """The modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def row(module, rows):
    """The number of a module's row in the picture; None for other projects' modules."""
    names = module.split(".")
    if names[0] in PACKAGES:
        return len(rows) + PACKAGES.index(names[0])
    if names[0] != "circuits" or len(names) == 1:
        return None
    return next((number for number, layer in enumerate(rows) if names[1] in layer), None)


def graph(root, rows):
    """The rows, with an edge from each to those that it imports and no way round another row."""
    found, files = nx.DiGraph(), Counter()
    for package in ("circuits", *PACKAGES):
        for path in (root / package).rglob("*.py"):
            own = row(path.relative_to(root).with_suffix("").as_posix().replace("/", "."), rows)
            if own is None:
                continue
            files[own] += 1
            targets = {row(module, rows) for module in imports(path)} - {None, own}
            found.add_edges_from((own, target) for target in targets if target > own)
    return nx.transitive_reduction(found), files


def write(root, folder):
    """Draw the rows from top to bottom."""
    rows = layers(root)
    found, files = graph(root, rows)
    drawing = graphviz.Digraph(graph_attr={"bgcolor": "transparent", "ranksep": "0.25"})
    drawing.attr("node", shape="box", style="rounded,filled", fillcolor="white", color=BLUE)
    drawing.attr("node", fontname="Helvetica", fontsize="11", fontcolor="#1a202c")
    drawing.attr("edge", color=GREY, arrowsize="0.6")
    named = [f"circuits: {', '.join(layer)}" for layer in rows] + list(PACKAGES)
    for number, name in enumerate(named):
        if number in found:
            drawing.node(
                str(number), f"{textwrap.fill(name, WIDTH)}\n{counted(files[number], 'file')}"
            )
    for source, target in sorted(found.edges):
        drawing.edge(str(source), str(target))
    drawn = pygraphviz.AGraph(string=drawing.source).draw(format="svg", prog="dot")
    (folder / NAMES[0]).write_bytes(drawn)
