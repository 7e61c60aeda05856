"""A study in words: one paragraph for the terminal, and the report with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ESCAPED = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "`": "'", "\n": " "})


def percent(share: Mapping[str, Any]) -> str:
    """A share with its interval, such as ``98.3 [95.1, 99.4]``."""
    low, high = share["interval"]
    return f"{100 * share['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def summary(facts: Mapping[str, Any]) -> str:
    """What each method achieved, one line each."""
    head = f"{'percent of replies':38} {'show the label':22} degenerate"
    lines = [
        f"{row['name']:38} {percent(row['all']):22} {percent(row['degenerate'])}"
        for row in facts["trials"]
    ]
    return "\n".join([head, *lines])


def trials_frame(rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per way of control: hits and the ends of their interval, by label, degenerate."""
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


def markdown(facts: Mapping[str, Any]) -> str:
    """The report: what was found, probes, the table of methods, side effects, and examples."""
    lines = [
        f"# {_plain(facts['concept'])} in {_plain(facts['model'] or 'a model')}",
        "",
        *_findings(facts),
        "",
        *_probes(facts["probes"]),
        *_strengths(facts["strengths"]),
        "## Control",
        "",
        "Share of replies that show the label, in percent with 95 % intervals. All methods decode "
        f"in the same way. Random components are drawn {facts['random_draws']} times: their "
        "figures are means, with intervals over draws and prompts.",
        "",
        *_table(facts["trials"], "by_label"),
        *_table(facts["trials"], "by_kind"),
        *_irregular(facts["trials"]),
        *_side_effects(facts["side_effects"]),
        "## Examples",
        "",
    ]
    for row in facts["trials"]:
        lines += [f"### {row['name']}", ""]
        lines += [f"* {_plain(label)}: {_plain(text)}" for label, text in row["examples"]]
        lines.append("")
    return "\n".join(lines)


def _findings(facts: Mapping[str, Any]) -> list[str]:
    found, reference, closed = facts["discovery"], facts["reference"], facts["closed_form"]
    note = "" if reference["threshold_reached"] else " (the threshold asked for is not reached)"
    worst = max(facts["influence_disagreement"].values())
    return [
        f"* {found['accepted']} of {found['prompts']} discovery replies show what is asked for; "
        f"{found['groups_used']} of {found['groups']} groups are whole and used.",
        f"* Reference direction: {reference['from']} to {reference['to']}, adjacent cosine at "
        f"least {reference['least_adjacent_cosine']:.3f}{note}.",
        f"* Head scores in closed form differ from real ablation by at most "
        f"{closed['largest_difference']:.1e} ({closed['seconds_closed_form']:.4f} s beside one "
        f"forward pass of {closed['seconds_forward']:.4f} s; ablation "
        f"{closed['seconds_ablation']:.4f} s, {closed['times_cheaper']:.1f} times as much).",
        f"* Influence: smallest dose and gradient limit differ by at most {worst:.1%}.",
    ]


def _probes(found: Mapping[str, Any]) -> list[str]:
    return [
        "## Probes",
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
