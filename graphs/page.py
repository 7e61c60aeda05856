"""The interactive page: one HTML file with everything in it, which asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs import style
from graphs.choose import strongest
from graphs.inside import Inside
from graphs.layout import layout
from graphs.schema import to_document
from graphs.steps import Step, steps
from tasks.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphs.circuit import CircuitGraph, Look

MOST_EDGES = 2000
READABLE, MOST_AT_FIRST = 80, 100
"""A page of more than the second number opens with at most the first number of edges."""
_SCRIPTS = (
    *("d3-zoom.min", "model", "picture", "marks", "words", "attention", "served", "panel"),
    "controls",
)
UNTOLD = (
    "no prompts are kept with this circuit, so tokens, attention and words cannot be shown; the "
    "circuit can"
)
_LIGHT = {
    "fill": {
        ".band": style.BAND,
        ".band.plain, .edge": "none",
        ".frame": style.PAPER,
        ".frame.mlp, .frame.neuron, .frame.latent, .frame.error": style.GREY,
        ".frame.input, .frame.logit, .frame.logits": style.DARK,
        ".frame.positive": style.POSITIVE,
        ".frame.negative": style.NEGATIVE,
        ".slot": style.BAND,
        ".label, .tag": style.INK,
        ".label.end": style.PAPER,
        ".pale": style.PALE_INK,
    },
    "stroke": {
        ".frame, .slot": style.INK,
        ".edge.positive": style.POSITIVE,
        ".edge.negative": style.NEGATIVE,
    },
}
"""Colours of a saved picture, by parts of the page."""
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


def to_html(
    graph: CircuitGraph,
    inside: Inside | None = None,
    other: CircuitGraph | None = None,
    served: str = "",
) -> str:
    """The page: the circuit at several sizes, the prompts, and what its parts do on them.

    ``inside`` is what a run keeps of the model at work (:mod:`graphs.inside`); without it the page
    shows the circuit alone and says so. ``other`` is a circuit that stands beside this one: what
    both have can then be hidden. ``served`` is the token with which a page that ``circuits view``
    serves asks for more. At most :data:`MOST_EDGES` edges, the strongest, are embedded, and the
    page says how many were left out. Everything is escaped; there is no address in it.
    """
    inside, theirs = inside or Inside(), set() if other is None else set(other)
    shown = strongest(graph, MOST_EDGES)
    parts = steps(shown)
    caption = style.caption(graph.info)
    data: dict[str, Any] = {
        "circuit": to_document(shown),
        "steps": _steps(graph, parts, inside),
        "opening": _opening(parts),
        "caption": caption,
        "faithfulness": graph.faithfulness,
        "measured": graph.info.metrics.circuit is not None,
        "left_out": len(graph.edges) - len(shown.edges),
        "meaning": style.meaning(graph.info),
        "widths": [style.THINNEST, style.THICKEST],
        "light": _LIGHT,
        "prompts": [prompt.model_dump() for prompt in inside.prompts],
        "notes": list(inside.notes),
        "untold": UNTOLD,
        "view": asdict(graph.info.view),
        "other": [name for name in shown if name in theirs],
        "served": served,
    }
    css, scripts = _asset("viewer.css"), [_asset(f"{name}.js") for name in _SCRIPTS]
    allowed = " ".join(f"'{_digest(script)}'" for script in scripts)
    # Colours and bars are set by scripts through the style object, which needs no permission.
    policy = f"default-src 'none'; style-src '{_digest(css)}'; script-src {allowed}"
    policy += "; connect-src 'self'" if served else ""
    title = escape(caption[0])
    elements = "\n".join(f"<script>{script}</script>" for script in scripts)
    return _PAGE.format(policy=policy, title=title, css=css, scripts=elements, data=_embedded(data))


def _opening(parts: Sequence[Step]) -> int:
    """The step that a page opens with: all of a small circuit, of a large one what can be read."""
    if len(parts[-1].graph) <= MOST_AT_FIRST:
        return len(parts) - 1
    return max((i for i, part in enumerate(parts) if len(part.graph) <= READABLE), default=0)


def _steps(graph: CircuitGraph, parts: Sequence[Step], inside: Inside) -> list[dict[str, Any]]:
    known = {(point.asked, point.kept): point.faithfulness for point in inside.curve}
    if graph.faithfulness is not None:
        known[len(graph), len(graph)] = graph.faithfulness
    order = {name: number for number, name in enumerate(parts[-1].graph)}
    return [_step(part, order, known) for part in parts]


def _step(
    part: Step, order: Mapping[str, int], known: Mapping[tuple[int, int], float]
) -> dict[str, Any]:
    """What is shown at one size, and where: its edges (or scored nodes) by their numbers."""
    placed = layout(part.graph)
    names = list(part.graph)
    return {
        "asked": part.asked,
        "items": [order[name] for name in names],
        "faithfulness": known.get((part.asked, len(part.graph))),
        "spots": {
            name: [_short(value) for value in (s.x, s.y, s.width, s.height)]
            for name, s in placed.spots.items()
        },
        "labels": {n.name: placed.looks.label(n.site) for n in part.graph.scored_nodes},
        "ports": {name: "".join(ports) for name, ports in placed.ports.items() if ports},
        "paths": [
            [_short(value) for point in placed.paths[name] for value in point]
            for name in part.graph.edges
        ],
        "columns": [[c.label, _short(c.low), _short(c.high)] for c in placed.columns],
        "rows": [[r.label, _short(r.low), _short(r.high)] for r in placed.rows],
        "box": [_short(value) for value in placed.box],
        "short": placed.looks.short,
        "slots": placed.looks.slots,
    }


def _short(value: float) -> float:
    """A tenth of a point is enough, and whole numbers need no fraction."""
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def beside(pages: Sequence[str], title: str, told: Sequence[str]) -> str:
    """Pages beside one another in one file, each in a frame of its own, below what is told."""
    css = _asset("beside.css")
    # Frames inherit the policy: what the pages allow themselves has to be allowed here.
    digests = {_digest(text) for text in (css, _asset("viewer.css"))}
    scripts = {_digest(_asset(f"{name}.js")) for name in _SCRIPTS}
    styles, runs = (" ".join(f"'{d}'" for d in sorted(part)) for part in (digests, scripts))
    policy = f"default-src 'none'; style-src {styles}; script-src {runs}"
    lines = "".join(f"<p>{escape(line)}</p>" for line in told)
    frames = "".join(
        f'<iframe sandbox="allow-scripts allow-downloads" title="circuit {order}" '
        f'srcdoc="{escape(page)}"></iframe>'
        for order, page in enumerate(pages, start=1)
    )
    body = f"<header><h1>{escape(title)}</h1>{lines}</header><main>{frames}</main>"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{css}</style>\n</head>\n<body>{body}</body>\n</html>\n"
    )


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


def interactive(
    graph: CircuitGraph, look: Look | None, height: int = 640, **options: Any
) -> InteractiveCircuit:
    """The page in a sandboxed frame; ``options`` are those of :func:`to_html`.

    Of a circuit that has just been found, ``look`` runs its model on its prompts first, so that the
    page has their tokens, attention and words, and faithfulness at every size.
    """
    if look is not None and "inside" not in options:
        graph, options["inside"] = look(graph)
    return InteractiveCircuit(to_html(graph, **options), height)


def _embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _asset(name: str) -> str:
    return files("graphs").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
