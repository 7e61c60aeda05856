"""A study in words: the claims and the conditions of control, and the page with everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from circuits.results import intervals
from circuits.results.intervals import spelled
from circuits.results.report import Block, Report
from circuits.results.tables import Table, harmless

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

CONDITIONS = {
    "no control, neutral prompt": "nobody asks for the label, nothing is changed",
    "prompting": "the prompt asks for the label",
    "circuit": "neutral prompt; the measured difference is added to the circuit's components",
    "steering": "neutral prompt; the stream is pushed along the label's direction",
    "steering along probes": "the same along the weights of the label's probe",
    "random components": "as the circuit, with as many others, at the circuit's strengths",
    "random components, own strength": "the same at the strengths best for them",
    "prompting, circuit ablated": "the prompt asks; the circuit's components are set to zero",
    "prompting, random components ablated": "the prompt asks; as many others are set to zero",
}


def percent(share: Row) -> str:
    """A share with its interval, such as ``98.3 [95.1, 99.4]``."""
    return intervals.percent(share["value"], share["interval"])


def summary(results: Row) -> tuple[Table, Table]:
    """What each method achieved, and which claims hold."""
    head = ["percent of replies", "show the label", "degenerate"]
    shares = [
        [row["name"], percent(row["all"]), percent(row["degenerate"])] for row in results["trials"]
    ]
    return Table(head, shares), claims_table(results["claims"])


def claims_table(claims: Sequence[Row]) -> Table:
    """A row per claim: its number, what is asked of it, and the verdict."""
    rows = []
    for row in claims:
        points = spelled(row["points"], row["interval"], "+.1f")
        verdict = ("yes" if row["holds"] else "NO") + ("" if row["sure"] else ", not for sure")
        rows.append([row["claim"], points, row["asked"], verdict])
    return Table(["claim", "points, 95 % interval", "asked", "holds"], rows)


def trials_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row per condition: hits and the ends of their interval, by label, degenerate."""
    import pandas as pd

    columns = [
        {
            "all": row["all"]["value"],
            "low": row["all"]["interval"][0],
            "high": row["all"]["interval"][1],
            **{label: share["value"] for label, share in row["by_label"].items()},
            "degenerate": row["degenerate"]["value"],
        }
        for row in rows
    ]
    return pd.DataFrame(columns, index=pd.Index([row["name"] for row in rows], name="control"))


def page(results: Row) -> Report:
    """The report: what holds, control, its price, how the circuit was found, and examples."""
    return Report.of(
        f"# {harmless(results['concept'])} in {harmless(results['model'] or 'a model')}",
        *_in_short(results),
        *_control(results),
        *_side_effects(results["side_effects"]),
        *_strengths(results["strengths"]),
        "## How it was found",
        _findings(results),
        *_probes(results["probes"]),
        "## Examples",
        _examples(results),
    )


def _in_short(results: Row) -> Iterator[Block]:
    """Every claim with its verdict, and what must not be overlooked."""
    rows = {row["name"]: row for row in results["trials"]}
    share = {name: percent(row["all"]) for name, row in rows.items()}
    yield "## In short"
    yield (
        f"Asked for a label, the model shows it in {share['prompting']} % of its replies. Not "
        f"asked, it does in {share['no control, neutral prompt']} %, with its circuit driven in "
        f"{share['circuit']} %, steered in {share['steering']} %, with random components driven "
        f"in {share['random components']} %. Asked, but with the circuit silenced, it does in "
        f"{share['prompting, circuit ablated']} %."
    )
    yield (
        f"Differences in the share of {rows['circuit']['all']['n']} replies to test prompts that "
        "show the label, in points, with 95 % intervals over groups of prompts and draws of "
        "random components. An interval without width says that all groups agree, no more."
    )
    yield claims_table(results["claims"])
    loops = ", ".join(
        f"{100 * rows[name]['degenerate']['value']:.1f} % with {name}"
        for name in ("prompting", "circuit", "steering")
    )
    shown = rows["no control, neutral prompt"]["by_label"]
    most = max(shown, key=lambda label: shown[label]["value"])
    perplexity = results["side_effects"]["perplexity"]
    yield (
        "Before believing it: the judge looks for words, so replies count that say one word over "
        f"and over; degenerate are {loops}. Without any control {percent(shown[most])} % of the "
        f"replies show {harmless(most)} already. Plain stories get a perplexity of "
        f"{perplexity['circuit']:.2f} under the circuit and {perplexity['steering']:.2f} under "
        f"steering, {perplexity['no control']:.2f} without."
    )


def _control(results: Row) -> Iterator[Block]:
    trials = results["trials"]
    yield "## Control"
    yield (
        "Share of replies that show the label, in percent with 95 % intervals. All methods decode "
        f"in the same way. Random components are drawn {results['random_draws']} times: their "
        "figures are means, with intervals over draws and prompts."
    )
    yield "\n".join(f"* {row['name']}: {CONDITIONS[row['name']]}" for row in trials)
    for by in ("by_label", "by_kind"):
        head = ["method", "all", "degenerate", *map(harmless, trials[0][by])]
        shares = [[row["all"], row["degenerate"], *row[by].values()] for row in trials]
        cells = [list(map(percent, each)) for each in shares]
        yield Table(head, [[row["name"], *each] for row, each in zip(trials, cells, strict=True)])
    head = ["method", "replies", "cut off at the limit", "fewer than two tokens", "repeating"]
    counts = ("replies", "replies_cut_off_at_the_limit", "replies_of_fewer_than_two_tokens")
    names = (*counts, "replies_that_repeat")
    yield Table(head, [[row["name"], *(str(row[name]) for name in names)] for row in trials])


def _examples(results: Row) -> Table:
    """The first reply of every way to each label; the others are in report.json."""
    labels, rows = results["labels"], []
    for row in results["trials"]:
        first: dict[str, str] = {}
        for label, text in row["examples"]:
            first.setdefault(label, text)
        rows.append([row["name"], *(harmless(first[label]).strip() for label in labels)])
    return Table(["method", *map(harmless, labels)], rows)


def _findings(results: Row) -> str:
    kept, reference, closed = results["discovery"], results["reference"], results["closed_form"]
    note = "" if reference["threshold_reached"] else " (the threshold asked for is not reached)"
    worst = max(results["influence_disagreement"].values())
    return (
        f"* {kept['accepted']} of {kept['prompts']} discovery replies show what is asked for; "
        f"{kept['groups_used']} of {kept['groups']} groups are whole and used.\n"
        f"* Reference direction: {reference['from']} to {reference['to']}, adjacent cosine at "
        f"least {reference['least_adjacent_cosine']:.3f}{note}.\n"
        f"* Head scores in closed form differ from real ablation by at most "
        f"{closed['largest_difference']:.1e}. They take {closed['seconds_closed_form']:.4f} s "
        f"after a forward pass of {closed['seconds_forward']:.4f} s that is made anyway; ablating "
        f"head by head takes {closed['seconds_ablation']:.4f} s, {closed['times_cheaper']:.1f} "
        "times both.\n"
        f"* Influence: smallest dose and gradient limit differ by at most {worst:.1%}."
    )


def _probes(probes: Row) -> Iterator[Block]:
    yield "### Probes"
    yield (
        "Share of held-out prompts whose label a logistic probe of the residual stream tells "
        f"right, in percent with 95 % Wilson intervals; {probes['fitted']} prompts to fit on, "
        f"{probes['tested']} to test on, no scenario among both; {100 * probes['chance']:.1f} by "
        "chance. At the last token:"
    )
    yield _by_point(probes["points"], probes["conditions"])
    yield "At tokens counted from the end:"
    tokens = {f"token {name}": row for name, row in probes["positions"].items()}
    yield _by_point(probes["points"], tokens)


def _by_point(points: Sequence[str], columns: Mapping[str, Row]) -> Table:
    """A row per read point, a column per condition or token."""
    cells = [map(intervals.percent, row["accuracy"], row["interval"]) for row in columns.values()]
    rows = [list(row) for row in zip(points, *cells, strict=True)]
    return Table(["point", *map(harmless, columns)], rows)


def _strengths(strengths: Row) -> Iterator[Block]:
    tuned = {name: row for name, row in strengths.items() if name != "steered_layers"}
    first = next(iter(tuned.values()))
    labels = list(first["chosen"])
    count = len(first["tried"][labels[0]])
    yield "## Strengths"
    yield (
        f"One rule for all: for each label the most accurate of {count} strengths, on "
        f"{first['replies']} replies to discovery prompts for each; of equals the one with the "
        "fewest degenerate replies (repeating, or of fewer than two tokens), then the weakest. In "
        "units of the measured difference, or for steering of the stream's norm in layers "
        f"{', '.join(map(str, strengths['steered_layers']))}. In brackets: percent of these "
        "replies that show the label / that are degenerate; * the strongest tried."
    )
    rows = [[name, *(_chosen(row, label) for label in labels)] for name, row in tuned.items()]
    yield Table(["method", *map(harmless, labels)], rows)


def _chosen(row: Row, label: str) -> str:
    strength = row["chosen"][label]
    (best,) = (one for one in row["tried"][label] if one["strength"] == strength)
    edge = "*" if label in row["at_edge"] else ""
    shares = f"{100 * best['accuracy']:.0f} / {100 * best['degenerate']:.0f}"
    return f"{strength:.3g}{edge} ({shares})"


def _side_effects(effects: Row) -> Iterator[Block]:
    yield "## Side effects"
    rows = [[name, f"{value:.3f}"] for name, value in effects["perplexity"].items()]
    yield Table(["", "perplexity of stories"], rows)
    for task, shares in effects["other_tasks"].items():
        rows = [[name, percent(share)] for name, share in shares.items()]
        yield Table([task, "pairs right, percent"], rows)
