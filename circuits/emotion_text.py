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
    return "\n".join(f"{row['name']:38} {percent(row['all'])} %" for row in facts["trials"])


def trials_frame(rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per way of control: all replies with the ends of their interval, then by label."""
    import pandas as pd

    found = [
        {
            "all": row["all"]["value"],
            "low": row["all"]["interval"][0],
            "high": row["all"]["interval"][1],
            **{label: share["value"] for label, share in row["by_label"].items()},
        }
        for row in rows
    ]
    return pd.DataFrame(found, index=pd.Index([row["name"] for row in rows], name="control"))


def markdown(facts: Mapping[str, Any]) -> str:
    """The report: what was found, the table of methods, side effects, and examples."""
    found, reference, closed = facts["discovery"], facts["reference"], facts["closed_form"]
    note = "" if reference["threshold_reached"] else " (the threshold asked for is not reached)"
    worst = max(facts["influence_disagreement"].values())
    strengths = facts["strengths"]
    lines = [
        f"# {_plain(facts['concept'])} in {_plain(facts['model'] or 'a model')}",
        "",
        f"* {found['accepted']} of {found['prompts']} discovery replies show what is asked for; "
        f"{found['groups_used']} of {found['groups']} groups are whole and used.",
        f"* Reference direction: {reference['from']} to {reference['to']}, adjacent cosine at "
        f"least {reference['least_adjacent_cosine']:.3f}{note}.",
        f"* Head scores in closed form differ from real ablation by at most "
        f"{closed['largest_difference']:.1e} ({closed['seconds_closed_form']:.4f} s beside one "
        f"forward pass of {closed['seconds_forward']:.4f} s; ablation "
        f"{closed['seconds_ablation']:.4f} s).",
        f"* Influence: smallest dose and gradient limit differ by at most {worst:.1%}.",
        f"* Strengths, chosen on discovery prompts: circuit {strengths['circuit']}, steering "
        f"{strengths['steering']} of the norm in layers {strengths['steered_layers']}.",
        "",
        "Share of replies that show the label, in percent with 95 % Wilson intervals. All methods "
        "decode in the same way.",
        "",
    ]
    lines += _table(facts["trials"], "by_label") + _table(facts["trials"], "by_kind")
    lines += _irregular(facts["trials"]) + _side_effects(facts["side_effects"])
    lines += ["## Examples", ""]
    for row in facts["trials"]:
        lines += [f"### {row['name']}", ""]
        lines += [f"* {_plain(label)}: {_plain(text)}" for label, text in row["examples"]]
        lines.append("")
    return "\n".join(lines)


def _table(rows: list[Mapping[str, Any]], by: str) -> list[str]:
    names = list(rows[0][by])
    head = ["method", "all", *map(_plain, names)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [row["name"], percent(row["all"]), *(percent(row[by][name]) for name in names)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _irregular(rows: list[Mapping[str, Any]]) -> list[str]:
    lines = ["| method | cut off at the limit | fewer than two tokens | repeating |"]
    lines.append("| --- | --- | --- | --- |")
    for row in rows:
        cut, short = row["replies_cut_off_at_the_limit"], row["replies_of_fewer_than_two_tokens"]
        lines.append(f"| {row['name']} | {cut} | {short} | {row['replies_that_repeat']} |")
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
