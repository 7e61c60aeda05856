"""A circuit as DOT, the language of Graphviz: layers as ranks, edges into the ports of heads."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from graphs import style
from graphs.order import ENDS, OF_MLPS, layer_of
from graphs.pen import Pen

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredEdge, ScoredNode

_ROW_HEIGHT, _PORT_HEIGHT = 18, 13
SHAPES = {"mlp": "ellipse", "neuron": "hexagon", "latent": "octagon", "error": "diamond"}
DEFAULTS = (
    f'node [fontname="{style.FONT}" fontsize=10 fontcolor="{style.INK}" penwidth=0.8]',
    f'edge [arrowsize=0.55 fontname="{style.FONT}"]',
)


def to_dot(graph: CircuitGraph) -> str:
    """The circuit as DOT text, which any Graphviz draws much as :meth:`CircuitGraph.draw` does.

    Loses the options and the standard errors; scores are in tooltips, with three digits.
    """
    return captioned(DotPen(graph), style.caption(graph.info))


def captioned(pen: DotPen, caption: list[str]) -> str:
    """DOT text with lines of text below the graph."""
    label = "".join(f"{style.quoted(line)[1:-1]}\\l" for line in caption)
    return layout_source(pen, f'label="{label}" labelloc=b labeljust=l fontsize=10')


def layout_source(pen: DotPen, *further: str) -> str:
    """Nodes, ranks and edges in order of computation, for Graphviz to place."""
    graph = pen.graph
    lines = [
        "digraph circuit {",
        "rankdir=TB nodesep=0.1 ranksep=0.45 splines=true outputorder=nodesfirst",
        f'bgcolor="{style.PAPER}" fontname="{style.FONT}" fontcolor="{style.INK}"',
        *DEFAULTS,
        *further,
    ]
    lines += [f"{pen.ids[node.name]} [{pen.node(node)}]" for node in graph.scored_nodes]
    lines += _ranks(graph, pen.ids)
    for index, item in enumerate(graph.scored_edges):
        sender, receiver = pen.ids[item.edge.sender.name], pen.ids[item.edge.receiver.name]
        slot = f":{item.edge.port}:n" if item.edge.port else ""
        told = style.quoted(f"{item.name}  {style.number(item.score)}")
        lines.append(f"{sender} -> {receiver}{slot} [{pen.edge(index, item)} tooltip={told}]")
    return "\n".join([*lines, "}"]) + "\n"


class DotPen(Pen):
    """A pen that writes the attributes of DOT."""

    @cached_property
    def ids(self) -> dict[str, str]:
        """DOT names of the nodes: their own, or a number where DOT would read more into it."""
        plain = re.compile(r"[\w.@-]+", re.ASCII)
        return {
            name: style.quoted(name if plain.fullmatch(name) else f"node {index}")
            for index, name in enumerate(self.graph.nodes)
        }

    @cached_property
    def _ports(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for item in self.graph.scored_edges:
            if item.edge.port:
                found.setdefault(item.edge.receiver.name, set()).add(item.edge.port)
        return found

    @cached_property
    def _fans(self) -> Counter[str]:
        return Counter(name for item in self.graph.scored_edges for name in item.ends)

    def node(self, node: ScoredNode) -> str:
        """Heads are boxes with input slots, MLPs ellipses, input and logits bars that grow."""
        site, fill = node.site, ""
        if node.score is not None:
            share = style.relative(node.score, self.largest)
            fill = style.blend(style.colour(self.sign(node)), 0.95 - 0.5 * share)
        number = f"id=n{self.graph.nodes.index(node.name)}"
        if site.kind == "head":
            return f"{number} shape=plain label=<{self._head(node, fill or style.PAPER)}>"
        shape = SHAPES.get(site.kind, "box")
        is_end = site.kind in ("input", *ENDS)
        tone = style.DARK if is_end else style.GREY
        text = style.PAPER if is_end and not fill else style.INK
        least = min(90 + 6 * self._fans[node.name], 420) if is_end else 44
        return (
            f"{number} shape={shape} style=filled fixedsize=true "
            f"width={max(_width(self.label(node)) + 14, least) / 72:.3f} height=0.32 "
            f'fillcolor="{fill or tone}" color="{style.INK}" fontcolor="{text}" '
            f"label={style.quoted(self.label(node))}"
        )

    def label(self, node: ScoredNode) -> str:
        """What is written on a node."""
        return _label(node, self.graph.info.token(node.site.position))

    def _head(self, node: ScoredNode, fill: str) -> str:
        ports = sorted(self._ports.get(node.name, ()), key="qkv".index)
        columns = max(len(ports), 1)
        cell = max(-(-_width(self.label(node)) // columns), 16)
        slots = "".join(
            f'<TD PORT="{port}" FIXEDSIZE="TRUE" WIDTH="{cell}" HEIGHT="{_PORT_HEIGHT}" '
            f'BGCOLOR="{style.BAND}"><FONT POINT-SIZE="8">{port}</FONT></TD>'
            for port in ports
        )
        name = (
            f'<TD COLSPAN="{columns}" FIXEDSIZE="TRUE" WIDTH="{cell * columns}" '
            f'HEIGHT="{_ROW_HEIGHT}" BGCOLOR="{fill}">{style.markup(self.label(node))}</TD>'
        )
        rows = f"<TR>{slots}</TR><TR>{name}</TR>" if slots else f"<TR>{name}</TR>"
        frame = 'BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="0"'
        return f'<TABLE {frame} COLOR="{style.INK}">{rows}</TABLE>'

    def edge(self, index: int, item: ScoredEdge) -> str:
        """Colour and dashes by sign, width by strength; strong edges are kept straight."""
        share, sign = style.relative(item.score, self.largest), self.sign(item)
        return (
            f'id=e{index} color="{style.colour(sign, share)}" style={style.dashes(sign)} '
            f"penwidth={style.pen_width(share)} weight={1 + round(20 * share)}"
        )


def _label(node: ScoredNode, token: str) -> str:
    """The node's name, its token in the first prompt, and its score, where there are any."""
    told = "" if node.score is None else f" {style.number(node.score)}"
    said = f" {style.clean(token.strip(), 16)}" if token.strip() else ""
    return style.clean(node.name, 28) + said + told


def _width(label: str) -> int:
    return max(round(style.text_width(label)) + 6, 48)


def _ranks(graph: CircuitGraph, ids: dict[str, str]) -> list[str]:
    """One rank for the heads and one for the MLP of each layer, in order."""
    anatomy = graph.info.anatomy

    def rank(node: ScoredNode) -> tuple[int, bool]:
        return layer_of(node.site, anatomy), node.site.kind in OF_MLPS

    lines, names = [], []
    for index, (_, nodes) in enumerate(groupby(graph.scored_nodes, key=rank)):
        names.append(f"rank{index}")
        inside = " ".join(ids[node.name] for node in nodes)
        lines.append(f"{{rank=same {names[-1]} [style=invis shape=point width=0.01] {inside}}}")
    return lines + [f"{one} -> {other} [style=invis weight=50]" for one, other in pairwise(names)]
