"""The interactive page: one HTML file with everything in it, which asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs import style
from graphs.layout import layout
from graphs.schema import to_document
from tasks.atomic import write_atomically

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph

MOST_EDGES = 2000
READABLE, MOST_AT_FIRST = 80, 100
"""A page of more than the second number opens with the first number of strongest edges."""
_SCRIPTS = ("model", "picture", "panel", "controls")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<noscript>This page draws a circuit with JavaScript, which is switched off here.</noscript>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to read beside the circuit: its tokens, and where the named positions are."""

    tokens: Sequence[str]
    positions: Mapping[str, int]


def to_html(
    graph: CircuitGraph,
    prompts: Sequence[Prompt] = (),
    curve: Mapping[int, float] | None = None,
) -> str:
    """The page: pan and zoom, a threshold, filters, search, pins, downloads.

    ``prompts`` are shown one at a time, with the tokens that the circuit's positions mean.
    ``curve`` is measured faithfulness by number of strongest edges; without it the page knows
    only the whole circuit's. At most :data:`MOST_EDGES` edges, the strongest, are embedded, and
    the page says how many were left out; of more than a hundred it shows the strongest 80 until
    more are asked for. Everything is escaped; there is no address in it.
    """
    shown = _strongest(graph, MOST_EDGES) if len(graph.edges) > MOST_EDGES else graph
    opening = READABLE if len(shown) > MOST_AT_FIRST else len(shown)
    sizes = dict.fromkeys((opening, len(shown)))
    caption = style.caption(graph.info)
    data: dict[str, Any] = {
        "circuit": to_document(shown),
        "layouts": [_placed(shown, size) for size in sizes],
        "caption": caption,
        "faithfulness": graph.faithfulness,
        "measured": graph.info.metrics.circuit is not None,
        "left_out": len(graph.edges) - len(shown.edges),
        "opening": opening,
        "colours": {"positive": style.POSITIVE, "negative": style.NEGATIVE},
        "meaning": style.meaning(graph.info),
        "widths": [style.THINNEST, style.THICKEST],
        "prompts": [asdict(prompt) for prompt in prompts],
        "curve": sorted((curve or {}).items()),
    }
    css, scripts = _asset("viewer.css"), [_asset(f"{name}.js") for name in _SCRIPTS]
    allowed = " ".join(f"'{_digest(script)}'" for script in scripts)
    policy = f"default-src 'none'; style-src '{_digest(css)}'; script-src {allowed}"
    title = escape(caption[0])
    elements = "\n".join(f"<script>{script}</script>" for script in scripts)
    return _PAGE.format(policy=policy, title=title, css=css, scripts=elements, data=_embedded(data))


def _strongest(graph: CircuitGraph, size: int) -> CircuitGraph:
    """The strongest edges (of a node circuit: nodes), with the ends of the model."""
    names = set(graph.ranked()[:size])
    edges = [item for item in graph.scored_edges if item.name in names]
    nodes = [
        node
        for node in graph.scored_nodes
        if node.name in names or node.site.kind in ("input", "logits")
    ]
    return graph.with_parts(edges, nodes, kept=size)


def _placed(graph: CircuitGraph, size: int) -> dict[str, Any]:
    """Places for the strongest ``size`` alone: fewer parts have room to be larger."""
    placed = layout(graph if size == len(graph) else _strongest(graph, size))
    return {
        "size": size,
        "spots": {name: [s.x, s.y, s.width] for name, s in placed.spots.items()},
        "routes": [[*ends, points] for ends, points in placed.routes.items()],
    }


def save_page(graph: CircuitGraph, path: str | Path, **options: Any) -> None:
    """Write :func:`to_html` to a file; replaces ``path``."""
    write_atomically(path, to_html(graph, **options).encode())


@dataclass(frozen=True, slots=True)
class InteractiveCircuit:
    """The page in a notebook: a frame that can run the page's script and nothing else."""

    page: str
    height: int = 640

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{escape(self.page)}" '
            f'width="100%" height="{int(self.height)}" frameborder="0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"InteractiveCircuit({len(self.page):,} characters of HTML)"


def _embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return files("graphs").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
