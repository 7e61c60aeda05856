"""An All-for-One search as plain text: the grid, the stages chosen, and what each part is worth."""

from __future__ import annotations

from circuits.results.intervals import Proportion
from circuits.studies.allforone.result import MAIN, AllForOne, Grid, best, closest


def describe(found: AllForOne) -> str:
    """Everything a person wants to read of a search."""
    parts = [_head(found), grid_table(found.grid, found), _verdict(found), _necessity(found)]
    parts += [text for text in (_heads(found), _alternatives(found)) if text]
    return "\n\n".join(parts)


def summary(found: AllForOne) -> dict[str, str]:
    """What a table says of a search: label and value."""
    rows = {
        "full model": f"{percent(found.asked)} of {found.asked.n} prompts right; "
        f"all shares below are of those {found.asked.right}",
    }
    at, least = found.chosen, f"{100 * (1 - found.tolerance):g} %"
    if at is None or found.faithfulness is None or found.cliff is None:
        return rows | {"chosen": _verdict(found)}
    wait, before, after = found.cliff
    rows["chosen"] = f"W={at.wait}, T={at.transfer}: latest W, then smallest T, that keeps {least}"
    rows["stages"] = at.describe(found.layers)
    if reading := _reading(found):
        rows["but"] = "; ".join(reading)
    rows["faithfulness"] = percent(found.faithfulness)
    rows["one block later"] = f"at best {percent(after)}, where W={wait} keeps {percent(before)}"
    if found.pruned is not None:
        kept = ", ".join(found.pruned.kept) or "none"
        rows["heads needed"] = f"{kept} ({percent(found.pruned.share)})"
    return rows


def grid_table(grid: Grid, found: AllForOne) -> str:
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
            chosen = found.chosen
            here = chosen is not None and (wait, transfer) == (chosen.wait, chosen.transfer)
            shown = "" if share is None else f"{100 * share.value:.1f}"
            cells.append(f"[{shown}]".rjust(8) if here else f"{shown} ".rjust(8))
        alone = f"{100 * found.waiting[wait].value:.1f}"
        lines.append(f"{name:<21}  {alone:>10} {''.join(cells)}".rstrip())
    return "\n".join(lines)


def percent(share: Proportion) -> str:
    """A share with its interval."""
    low, high = share.interval
    return f"{100 * share.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _head(found: AllForOne) -> str:
    lines = [
        f"All-for-One: {found.title}",
        f"full model: {percent(found.asked)} of {found.asked.n} prompts right; "
        f"below, % of those {found.asked.right} still right",
        f"{found.keys} conditional means of {found.samples} draws each",
    ]
    if found.thin:
        lines.append(f"{found.thin} of them are over fewer draws than {found.samples}")
    return "\n".join(lines)


def _verdict(found: AllForOne) -> str:
    least = f"{100 * (1 - found.tolerance):g} %"
    if found.chosen is None or found.faithfulness is None or found.cliff is None:
        near = closest(found.grid)
        share = percent(found.grid[near.wait, near.transfer])
        return (
            f"no subgraph keeps {least} of the right answers; "
            f"the best, W={near.wait}, T={near.transfer}, keeps {share}"
        )
    wait, before, after = found.cliff
    chosen = found.chosen
    return "\n".join(
        [
            f"chosen (latest W, then smallest T, that keeps {least}): "
            f"W={chosen.wait}, T={chosen.transfer}, faithfulness {percent(found.faithfulness)}",
            chosen.describe(found.layers),
            f"cliff: waiting until block {wait} keeps {percent(before)} at best, "
            f"until block {wait + 1} {percent(after)}",
            *_reading(found),
        ]
    )


def _reading(found: AllForOne) -> list[str]:
    """What is missing of the three stages, where one of them is empty."""
    if found.chosen is None:
        return []
    at, lines = found.chosen, []
    if at.wait < 0:
        lines.append(
            "nothing waits: what the last token gathers in block 0 is needed, so this is no "
            "All-for-One circuit"
        )
    if at.wait + at.transfer == found.layers - 1:
        lines.append("nothing is computed alone: the last token needs others up to the last block")
    if at.wait < 0 and at.transfer == found.layers:
        lines.append(
            "what is shown is only that tokens before the last hardly need one another: it can "
            "gather from each of them what they are by themselves"
        )
    return lines


def _necessity(found: AllForOne) -> str:
    lines = ["necessity: the last token cut off from all others in one block, % still right"]
    lines += [f"  block {block:<3} {percent(share)}" for block, share in found.necessity.items()]
    return "\n".join(lines)


def _heads(found: AllForOne) -> str:
    if found.pruned is None:
        return ""
    lines = ["heads of the transfer blocks, taken away one after the other, % right without"]
    lines += [f"  {head:<8} {percent(share)}" for head, share in found.pruned.steps]
    kept = ", ".join(found.pruned.kept) or "none"
    lines.append(f"needed: {kept} ({percent(found.pruned.share)})")
    return "\n".join(lines)


def _alternatives(found: AllForOne) -> str:
    others = {name: grid for name, grid in found.grids.items() if name != MAIN}
    if not others:
        return ""
    at = found.chosen or closest(found.grid)
    lines = [f"alternatives at W={at.wait}, T={at.transfer}, and best over T at W={at.wait}"]
    if at.wait < 0:
        lines.append("  (there cama, resample, alone and skip all are the embedding itself)")
    for name, grid in {MAIN: found.grid, **others}.items():
        here = percent(grid[at.wait, at.transfer])
        lines.append(f"  {name:<22} {here:<24} {percent(best(grid, at.wait))}")
    return "\n".join(lines)
