"""The options of `discover`: what is scored, how a circuit is chosen from it, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import complete
from patching.choices import Direction, Nodes

Method = Annotated[
    str,
    typer.Option(
        autocompletion=complete.methods,
        help="See 'circuits methods'. Several, separated by commas: their mean.",
    ),
]
NodeKind = Annotated[
    Nodes, typer.Option(help="What nodes are: heads and whole MLPs, or heads and single neurons.")
]
Positions = Annotated[
    str,
    typer.Option(
        help="Tie edges to positions: named (those of the task, and the rest), or all tokens. "
        "--top is then a budget in plain edges."
    ),
]
Faithful = Annotated[
    float | None,
    typer.Option(help="Keep as many as give this share of the answer, not a number (--top)."),
]
Clusters = Annotated[
    int | None,
    typer.Option(help="Also group the prompts by their scores: so many circuits."),
]
Top = Annotated[
    int | None,
    typer.Option(
        help="How many edges to keep, all connected. Default: 100, if the selector takes a number."
    ),
]
Select = Annotated[
    str,
    typer.Option(
        autocompletion=complete.selectors,
        help="How the circuit is selected, such as threshold:least=0.1: see 'circuits selectors'.",
    ),
]
Outside = Annotated[
    str,
    typer.Option(
        autocompletion=complete.outside,
        help="What replaces everything outside the circuit: see 'circuits ablations'.",
    ),
]
Patched = Annotated[
    Direction, typer.Option(help="Patch the clean run (noising) or the corrupted one.")
]
Count = Annotated[
    int | None,
    typer.Option("--n", help="Number of prompt pairs. Default: 64 of a task, all of a file."),
]
RunFolder = Annotated[
    Path | None, typer.Option(help="The run folder to write. Default: runs/TASK.")
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the method, such as steps=3: see 'circuits methods'."),
]
Planned = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Only say what this takes: passes, and time and memory, from a trial of one batch. "
        "Of a directory with a config.json and no weights: memory, by formula.",
    ),
]
