"""The report card as a Markdown page and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "accuracy",
    "A share, gold not A",
    "A share among letters, gold not A",
    "RStd",
    "CKLD",
    "consistency",
)
PICTURED = ("accuracy", "A share, gold not A")


def page(card: Mapping[str, Any]) -> str:
    """The Markdown page."""
    parts = ["# Report card: bias towards A", _verdict(card), "## Held-out questions"]
    parts.append(_lines(*ways_table(card)))
    letters = [name for name in next(iter(card["ways"].values())) if name.startswith("accuracy, ")]
    parts += ["## By right letter, and flips", _table(card["ways"], letters)]
    flips = ("flips right to wrong", "flips wrong to right")
    parts.append(
        _lines(["way", *flips], [[w, *(str(r[f]) for f in flips)] for w, r in card["ways"].items()])
    )
    for name, ways in card["templates"].items():
        parts += [f"## Questions in another form: {name}", _table(ways, PICTURED)]
    parts += ["## Side effects", _others(card), "## The published edit (uses the right answer)"]
    parts += [_paper(card["paper"]), "## Where the bias is written", _localised(card["localised"])]
    return "\n\n".join(parts) + "\n"


def _verdict(card: Mapping[str, Any]) -> str:
    knows, questions = card["knows"], card["questions"]
    lines = [
        f"Chosen on {questions['train']} training questions in all orders without their answers, "
        f"measured on {questions['test']} held-out ones with {questions['options']} options. "
        "Intervals are 95 % bootstrap intervals over questions.",
    ]
    number = _cell(knows["accuracy without prior"])
    if not knows["above"]:
        lines.append(
            f"**This model does not know the answers**: without its letter prior it is right on "
            f"{number} of the questions, which does not exceed chance ({knows['chance']:.2f}). "
            f"No edit can make it right; what follows is about letters alone."
        )
    else:
        lines.append(
            f"Without its letter prior the model is right on {number}; "
            f"chance is {knows['chance']:.2f}."
        )
    if card["chosen"] is None:
        lines.append("**No edit was better than doing nothing**; no model was saved.")
    else:
        lines.append(f"Chosen edit: **{_text(card['plan'])}**.")
        rows = [
            [b["bar"], f"{b['measured']:+.4f}", "met" if b["met"] else "missed"]
            for b in card["bars"]
        ]
        lines.append(_lines(["bar", "measured", ""], rows))
    return "\n\n".join(lines)


def ways_table(card: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column titles, and a row per way of answering."""
    return _measured(card["ways"], COLUMNS)


def _measured(
    ways: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    rows = [[way, *(_cell(row[name]) for name in columns)] for way, row in ways.items()]
    return ["way", *columns], rows


def _table(ways: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    return _lines(*_measured(ways, columns))


def _others(card: Mapping[str, Any]) -> str:
    names = list(next(iter(card["others"].values())))
    rows = []
    for way, row in card["others"].items():
        cells = [_cell(row[n]["change"]) for n in names]
        rows.append([way, *cells])
    head = ["change by", *(f"{n} (relative perplexity)" if n == "text" else n for n in names)]
    missing = [f"* {name}: {_text(why)}" for name, why in card["others_missing"].items()]
    table = _lines(head, rows) if names else "Nothing could be measured."
    return "\n\n".join([table, *(["Not measured:\n" + "\n".join(missing)] if missing else [])])


def _paper(paper: Mapping[str, Any]) -> str:
    fixed = paper["accuracy, one letter written in for all"]
    rows = [
        [name, _cell(v)] for name, v in paper.items() if isinstance(v, Mapping) and "value" in v
    ]
    rows += [[f"accuracy, {letter} written in for all", _cell(v)] for letter, v in fixed.items()]
    told = "passes" if paper["passes_published_test"] else "does not pass"
    return (
        f"Value vector {paper['vector']} (it {told} the published test), lambda1 = "
        f"{paper['lambda1']:g}, lambda2 = {paper['lambda2']:g}, the right letter of each question "
        f"written in.\n\n" + _lines(["what", "result"], rows)
    )


def _localised(found: Mapping[str, Any], count: int = 15) -> str:
    rows = [
        [
            part["name"],
            *(f"{part[x]:+.3f}" for x in ("effect", "direct", "gap")),
            " ".join(_text(repr(t)) for t in part["tokens"]),
        ]
        for part in found["parts"][:count]
    ]
    head = ["part", "effect of removing it", "direct share", "gap (published)", "tokens promoted"]
    return f"Tokens in the basis `{found['basis']}`.\n\n" + _lines(head, rows)


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "none"
    numbers = (
        "infinite" if value[x] is None else f"{value[x]:.3f}" for x in ("value", "low", "high")
    )
    middle, low, high = numbers
    return f"{middle} [{low}, {high}]"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """Text from a model or a file, harmless in Markdown."""
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in str(value))


def draw(card: Mapping[str, Any], path: Path) -> None:
    """Write :func:`figure` as SVG; the same card always gives the same file."""
    from circuits.display import svg

    write_atomically(path, svg(figure(card)).encode())


def figure(card: Mapping[str, Any]) -> Figure:
    """Accuracy and A share of every way, with intervals, and chance."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ways = card["ways"]
    drawn = Figure(figsize=(9, 0.45 * len(ways) + 1.4), layout="constrained")
    FigureCanvasSVG(drawn)
    for axis, name in zip(drawn.subplots(1, 2, sharey=True), PICTURED, strict=True):
        for y, row in enumerate(ways.values()):
            value = row[name]
            middle = value["value"]
            if middle is None:
                continue
            ends = [max(middle - value["low"], 0), max(value["high"] - middle, 0)]
            axis.barh(y, middle, color="#4477aa")
            axis.errorbar(middle, y, xerr=[[ends[0]], [ends[1]]], color="black", capsize=3)
        axis.axvline(card["knows"]["chance"], color="gray", linestyle="--", linewidth=1)
        axis.set_xlim(0, 1)
        axis.set_title(name)
        axis.set_yticks(range(len(ways)), list(ways))
    drawn.axes[0].invert_yaxis()
    return drawn
