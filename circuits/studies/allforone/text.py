"""An All-for-One search as plain text: the grid, the stages chosen, and what each part is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuits.results import intervals
from circuits.results.intervals import Proportion
from circuits.studies.allforone.stages import MAIN, Grid, best, closest

if TYPE_CHECKING:
    from circuits.studies.allforone.result import AllForOne


def describe(search: AllForOne) -> str:
    """Everything a person wants to read of a search."""
    parts = [_head(search), grid_table(search.grid, search), _verdict(search), _necessity(search)]
    parts += [text for text in (_heads(search), _alternatives(search)) if text]
    return "\n\n".join(parts)


def summary(search: AllForOne) -> dict[str, str]:
    """What a table says of a search: label and value."""
    rows = {
        "full model": f"{percent(search.asked)} of {search.asked.n} prompts right; "
        f"all shares below are of those {search.asked.right}",
    }
    at, least = search.chosen, f"{100 * (1 - search.tolerance):g} %"
    if at is None or search.faithfulness is None or search.cliff is None:
        return rows | {"chosen": _verdict(search)}
    wait, before, after = search.cliff
    rows["chosen"] = f"W={at.wait}, T={at.transfer}: latest W, then smallest T, that keeps {least}"
    rows["stages"] = at.describe(search.layers)
    if reading := _reading(search):
        rows["but"] = "; ".join(reading)
    rows["faithfulness"] = percent(search.faithfulness)
    rows["one block later"] = f"at best {percent(after)}, where W={wait} keeps {percent(before)}"
    if search.pruned is not None:
        kept = ", ".join(search.pruned.kept) or "none"
        rows["heads needed"] = f"{kept} ({percent(search.pruned.share)})"
    return rows


def grid_table(grid: Grid, search: AllForOne) -> str:
    """Shares in percent: a row per W, CAMA alone first, then T from 0 on; brackets: chosen."""
    waits = sorted({wait for wait, _ in grid})
    most = max(transfer for _, transfer in grid)
    columns = "".join(f"T={t} ".rjust(8) for t in range(most + 1))
    lines = [f"residual after block   CAMA alone {columns}".rstrip()]
    for wait in waits:
        name = "W=-1 (embedding)" if wait < 0 else f"W={wait}"
        cells = []
        for transfer in range(most + 1):
            share = grid.get((wait, transfer))
            chosen = search.chosen
            here = chosen is not None and (wait, transfer) == (chosen.wait, chosen.transfer)
            shown = "" if share is None else f"{100 * share.value:.1f}"
            cells.append(f"[{shown}]".rjust(8) if here else f"{shown} ".rjust(8))
        alone = f"{100 * search.waiting[wait].value:.1f}"
        lines.append(f"{name:<21}  {alone:>10} {''.join(cells)}".rstrip())
    return "\n".join(lines)


def percent(share: Proportion) -> str:
    """A share with its interval."""
    return intervals.percent(share.value, share.interval, " %")


def _head(search: AllForOne) -> str:
    lines = [
        f"All-for-One: {search.title}",
        f"full model: {percent(search.asked)} of {search.asked.n} prompts right; "
        f"below, % of those {search.asked.right} still right",
        f"{search.keys} conditional means of {search.samples} draws each",
    ]
    if search.thin:
        lines.append(f"{search.thin} of them are over fewer draws than {search.samples}")
    return "\n".join(lines)


def _verdict(search: AllForOne) -> str:
    least = f"{100 * (1 - search.tolerance):g} %"
    if search.chosen is None or search.faithfulness is None or search.cliff is None:
        near = closest(search.grid)
        share = percent(search.grid[near.wait, near.transfer])
        return (
            f"no subgraph keeps {least} of the right answers; "
            f"the best, W={near.wait}, T={near.transfer}, keeps {share}"
        )
    wait, before, after = search.cliff
    chosen = search.chosen
    return "\n".join(
        [
            f"chosen (latest W, then smallest T, that keeps {least}): "
            f"W={chosen.wait}, T={chosen.transfer}, faithfulness {percent(search.faithfulness)}",
            chosen.describe(search.layers),
            f"cliff: waiting until block {wait} keeps {percent(before)} at best, "
            f"until block {wait + 1} {percent(after)}",
            *_reading(search),
        ]
    )


def _reading(search: AllForOne) -> list[str]:
    """What is missing of the three stages, where one of them is empty."""
    if search.chosen is None:
        return []
    at, lines = search.chosen, []
    if at.wait < 0:
        lines.append(
            "nothing waits: what the last token gathers in block 0 is needed, so this is no "
            "All-for-One circuit"
        )
    if at.wait + at.transfer == search.layers - 1:
        lines.append("nothing is computed alone: the last token needs others up to the last block")
    if at.wait < 0 and at.transfer == search.layers:
        lines.append(
            "what is shown is only that tokens before the last hardly need one another: it can "
            "gather from each of them what they are by themselves"
        )
    return lines


def _necessity(search: AllForOne) -> str:
    lines = ["necessity: the last token cut off from all others in one block, % still right"]
    lines += [f"  block {block:<3} {percent(share)}" for block, share in search.necessity.items()]
    return "\n".join(lines)


def _heads(search: AllForOne) -> str:
    if search.pruned is None:
        return ""
    lines = ["heads of the transfer blocks, taken away one after the other, % right without"]
    lines += [f"  {head:<8} {percent(share)}" for head, share in search.pruned.steps]
    kept = ", ".join(search.pruned.kept) or "none"
    lines.append(f"needed: {kept} ({percent(search.pruned.share)})")
    return "\n".join(lines)


def _alternatives(search: AllForOne) -> str:
    others = {name: grid for name, grid in search.grids.items() if name != MAIN}
    if not others:
        return ""
    at = search.chosen or closest(search.grid)
    lines = [f"alternatives at W={at.wait}, T={at.transfer}, and best over T at W={at.wait}"]
    if at.wait < 0:
        lines.append("  (there cama, resample, alone and skip all are the embedding itself)")
    for name, grid in {MAIN: search.grid, **others}.items():
        here = percent(grid[at.wait, at.transfer])
        lines.append(f"  {name:<22} {here:<24} {percent(best(grid, at.wait))}")
    return "\n".join(lines)
