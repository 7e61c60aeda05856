"""A study in words: one paragraph for the terminal, and the report with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from circuits.results import intervals
from circuits.results.intervals import spelled
from circuits.studies.emotion.verdict import claim_lines

if TYPE_CHECKING:
    import pandas as pd

ESCAPED = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "`": "'", "\n": " "})


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


def percent(share: Mapping[str, Any]) -> str:
    """A share with its interval, such as ``98.3 [95.1, 99.4]``."""
    return intervals.percent(share["value"], share["interval"])


def summary(results: Mapping[str, Any]) -> str:
    """What each method achieved and which claims hold, one line each."""
    head = f"{'percent of replies':38} {'show the label':22} degenerate"
    lines = [
        f"{row['name']:38} {percent(row['all']):22} {percent(row['degenerate'])}"
        for row in results["trials"]
    ]
    asked = f"{'points, 95 % interval over prompts and draws':68}{'asked':14}holds"
    return "\n".join([head, *lines, "", asked, *claim_lines(results["claims"])])


def trials_frame(rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per condition: hits and the ends of their interval, by label, degenerate."""
    import pandas as pd

    found = [
        {
            "all": row["all"]["value"],
            "low": row["all"]["interval"][0],
            "high": row["all"]["interval"][1],
            **{label: share["value"] for label, share in row["by_label"].items()},
            "degenerate": row["degenerate"]["value"],
        }
        for row in rows
    ]
    return pd.DataFrame(found, index=pd.Index([row["name"] for row in rows], name="control"))


def markdown(results: Mapping[str, Any]) -> str:
    """The report: what holds, control, its price, how the circuit was found, and examples."""
    lines = [
        f"# {_plain(results['concept'])} in {_plain(results['model'] or 'a model')}",
        "",
        *_in_short(results),
        *_control(results),
        *_side_effects(results["side_effects"]),
        *_strengths(results["strengths"]),
        "## How it was found",
        "",
        *_findings(results),
        "",
        *_probes(results["probes"]),
        *_examples(results),
    ]
    return "\n".join(lines)


def _in_short(results: Mapping[str, Any]) -> list[str]:
    """Every claim with its verdict, and what must not be overlooked."""
    rows = {row["name"]: row for row in results["trials"]}
    share = {name: percent(row["all"]) for name, row in rows.items()}
    lines = [
        "## In short",
        "",
        f"Asked for a label, the model shows it in {share['prompting']} % of its replies. Not "
        f"asked, it does in {share['no control, neutral prompt']} %, with its circuit driven in "
        f"{share['circuit']} %, steered in {share['steering']} %, with random components driven "
        f"in {share['random components']} %. Asked, but with the circuit silenced, it does in "
        f"{share['prompting, circuit ablated']} %.",
        "",
        f"Differences in the share of {rows['circuit']['all']['n']} replies to test prompts that "
        "show the label, in points, with 95 % intervals over groups of prompts and draws of "
        "random components. An interval without width says that all groups agree, no more.",
        "",
        "| claim | points | asked | holds |",
        "| --- | --- | --- | --- |",
    ]
    for row in results["claims"]:
        verdict = ("yes" if row["holds"] else "**no**") + ("" if row["sure"] else ", not for sure")
        points = spelled(row["points"], row["interval"], "+.1f")
        lines.append(f"| {row['claim']} | {points} | {row['asked']} | {verdict} |")
    loops = ", ".join(
        f"{100 * rows[name]['degenerate']['value']:.1f} % with {name}"
        for name in ("prompting", "circuit", "steering")
    )
    shown = rows["no control, neutral prompt"]["by_label"]
    most = max(shown, key=lambda label: shown[label]["value"])
    perplexity = results["side_effects"]["perplexity"]
    return [
        *lines,
        "",
        "Before believing it: the judge looks for words, so replies count that say one word over "
        f"and over; degenerate are {loops}. Without any control {percent(shown[most])} % of the "
        f"replies show {_plain(most)} already. Plain stories get a perplexity of "
        f"{perplexity['circuit']:.2f} under the circuit and {perplexity['steering']:.2f} under "
        f"steering, {perplexity['no control']:.2f} without.",
        "",
    ]


def _control(results: Mapping[str, Any]) -> list[str]:
    return [
        "## Control",
        "",
        "Share of replies that show the label, in percent with 95 % intervals. All methods decode "
        f"in the same way. Random components are drawn {results['random_draws']} times: their "
        "figures are means, with intervals over draws and prompts.",
        "",
        *(f"* {row['name']}: {CONDITIONS[row['name']]}" for row in results["trials"]),
        "",
        *_table(results["trials"], "by_label"),
        *_table(results["trials"], "by_kind"),
        *_irregular(results["trials"]),
    ]


def _examples(results: Mapping[str, Any]) -> list[str]:
    """The first reply of every way to each label; the others are in report.json."""
    labels = results["labels"]
    lines = ["## Examples", "", "| method | " + " | ".join(map(_plain, labels)) + " |"]
    lines.append("|" + " --- |" * (1 + len(labels)))
    for row in results["trials"]:
        first: dict[str, str] = {}
        for label, text in row["examples"]:
            first.setdefault(label, text)
        cells = [_plain(first[label]).strip() for label in labels]
        lines.append("| " + " | ".join([row["name"], *cells]) + " |")
    return [*lines, ""]


def _findings(results: Mapping[str, Any]) -> list[str]:
    found, reference, closed = results["discovery"], results["reference"], results["closed_form"]
    note = "" if reference["threshold_reached"] else " (the threshold asked for is not reached)"
    worst = max(results["influence_disagreement"].values())
    return [
        f"* {found['accepted']} of {found['prompts']} discovery replies show what is asked for; "
        f"{found['groups_used']} of {found['groups']} groups are whole and used.",
        f"* Reference direction: {reference['from']} to {reference['to']}, adjacent cosine at "
        f"least {reference['least_adjacent_cosine']:.3f}{note}.",
        f"* Head scores in closed form differ from real ablation by at most "
        f"{closed['largest_difference']:.1e}. They take {closed['seconds_closed_form']:.4f} s "
        f"after a forward pass of {closed['seconds_forward']:.4f} s that is made anyway; ablating "
        f"head by head takes {closed['seconds_ablation']:.4f} s, {closed['times_cheaper']:.1f} "
        "times both.",
        f"* Influence: smallest dose and gradient limit differ by at most {worst:.1%}.",
    ]


def _probes(found: Mapping[str, Any]) -> list[str]:
    return [
        "### Probes",
        "",
        "Share of held-out prompts whose label a logistic probe of the residual stream tells "
        f"right, in percent with 95 % Wilson intervals; {found['fitted']} prompts to fit on, "
        f"{found['tested']} to test on, no scenario among both; {100 * found['chance']:.1f} by "
        "chance. At the last token:",
        "",
        *_grid("condition", found["points"], found["conditions"]),
        "At tokens counted from the end:",
        "",
        *_grid("token", found["points"], found["positions"]),
    ]


def _grid(what: str, points: list[str], rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row per read point, a column per condition or token."""
    names = ["point", *(_plain(f"{what} {name}" if what == "token" else name) for name in rows)]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for number, point in enumerate(points):
        cells = [
            percent({"value": row["accuracy"][number], "interval": row["interval"][number]})
            for row in rows.values()
        ]
        lines.append("| " + " | ".join([point, *cells]) + " |")
    return [*lines, ""]


def _strengths(found: Mapping[str, Any]) -> list[str]:
    tuned = {name: row for name, row in found.items() if name != "steered_layers"}
    first = next(iter(tuned.values()))
    labels = list(first["chosen"])
    count = len(first["tried"][labels[0]])
    lines = [
        "## Strengths",
        "",
        f"One rule for all: for each label the most accurate of {count} strengths, on "
        f"{first['replies']} replies to discovery prompts for each; of equals the one with the "
        "fewest degenerate replies (repeating, or of fewer than two tokens), then the weakest. In "
        "units of the measured difference, or for steering of the stream's norm in layers "
        f"{', '.join(map(str, found['steered_layers']))}. In brackets: percent of these replies "
        "that show the label / that are degenerate; * the strongest tried.",
        "",
        "| method | " + " | ".join(map(_plain, labels)) + " |",
        "| --- |" + " --- |" * len(labels),
    ]
    for name, row in tuned.items():
        cells = [_chosen(row, label) for label in labels]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return [*lines, ""]


def _chosen(row: Mapping[str, Any], label: str) -> str:
    strength = row["chosen"][label]
    (best,) = (one for one in row["tried"][label] if one["strength"] == strength)
    edge = "*" if label in row["at_edge"] else ""
    told = f"{100 * best['accuracy']:.0f} / {100 * best['degenerate']:.0f}"
    return f"{strength:.3g}{edge} ({told})"


def _table(rows: list[Mapping[str, Any]], by: str) -> list[str]:
    names = list(rows[0][by])
    head = ["method", "all", "degenerate", *map(_plain, names)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        shares = [row["all"], row["degenerate"], *(row[by][name] for name in names)]
        lines.append("| " + " | ".join([row["name"], *map(percent, shares)]) + " |")
    return [*lines, ""]


def _irregular(rows: list[Mapping[str, Any]]) -> list[str]:
    lines = ["| method | replies | cut off at the limit | fewer than two tokens | repeating |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        cut, short = row["replies_cut_off_at_the_limit"], row["replies_of_fewer_than_two_tokens"]
        counts = (row["replies"], cut, short, row["replies_that_repeat"])
        lines.append(f"| {row['name']} | {' | '.join(map(str, counts))} |")
    return [*lines, ""]


def _side_effects(found: Mapping[str, Any]) -> list[str]:
    lines = ["## Side effects", "", "| | perplexity of stories |", "| --- | --- |"]
    lines += [f"| {name} | {value:.3f} |" for name, value in found["perplexity"].items()]
    lines.append("")
    for task, rows in found["other_tasks"].items():
        lines += [f"| {task} | pairs right, percent |", "| --- | --- |"]
        lines += [f"| {name} | {percent(share)} |" for name, share in rows.items()]
        lines.append("")
    return lines


def _plain(text: str) -> str:
    return text.translate(ESCAPED)
