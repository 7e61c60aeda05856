"""What the commands do on a real language model, as one Markdown table.

``python tests/bench_real.py MODEL PAGE [--small] [--only NAME ...]`` runs every command as a user
would, each in a process of its own, and writes the page: the command, how long it took, what came
out, what does not work. ``--small`` takes fewer prompts. Rows of commands that are not run again
stay as they are. Nothing on the page is written by hand.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import circuits
from circuits.models import load_model, name_of

METHODS = ("ig", "attribution", "relevance")
HEADLINES = {
    "discover": ("known", "faithfulness", "circuit "),
    "evaluate": ("known", "faithfulness  ", "completeness", "minimality", "random circuits"),
}
KEPT = 500
DATA = re.compile(r"<!-- rows: (.*) -->")


@dataclass(frozen=True)
class Job:
    """A command, and its further arguments at the default and at the small setting."""

    name: str
    command: str
    full: str = ""
    small: str = ""

    def arguments(self, small: bool) -> list[str]:
        """The command line."""
        return shlex.split(f"{self.command} {self.small if small else self.full}")


JOBS = (
    Job("discover", "discover ioi --top 500 --out OUT/ioi", "", "--n 16"),
    Job("evaluate", "evaluate OUT/ioi", "", "--n 16"),
    *(
        Job(f"discover, {m}", f"discover ioi --top 500 --method {m} --out OUT/{m}", "", "--n 16")
        for m in METHODS
    ),
    Job("compare", f"compare OUT/ioi {' '.join(f'OUT/{m}' for m in METHODS)}", "", "--n 16"),
    Job("validate", "validate ioi", "", "--n 4 --sites 24 --method secant --method attribution"),
    Job(
        "mitigate",
        "mitigate mcq_bias --out OUT/letters",
        "",
        "--train 8 --test 40 --others 12 --recipe zero --recipe 'least squares'",
    ),
    Job("emotion", "emotion --out OUT/emotion"),
    Job("af1", "af1 mental_math --out OUT/af1", "", "--n 16 --samples 16"),
)
OWN_MODEL = ("evaluate", "compare")
"""Commands that take the model of their runs."""


@dataclass(frozen=True)
class Row:
    """What came of one command; ``cpu`` is the time of all processors together."""

    name: str
    command: str
    seconds: float
    cpu: float
    status: int
    said: tuple[str, ...]


def main(
    model: str,
    page: Path,
    small: Annotated[bool, typer.Option("--small", help="Fewer prompts.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Run only these.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the commands write.")] = None,
) -> None:
    """Run the commands and write the page."""
    folder = out or Path(tempfile.mkdtemp(prefix="bench_real"))
    head, rows = known(page)
    if not head:
        head = about(model)
    for job in JOBS:
        if only and job.name not in only:
            continue
        row = run(job, model, folder, small)
        rows[job.name] = row
        typer.echo(f"{row.name}: {row.seconds:.0f} s, {row.cpu:.0f} s of processors")
        page.write_text(written(head, rows), encoding="utf-8")


def run(job: Job, model: str, folder: Path, small: bool) -> Row:
    """Carry out one command."""
    given = job.arguments(small)
    if job.command.split()[0] not in OWN_MODEL:
        given += ["--model", model]
    real = [a.replace("OUT", str(folder)) for a in given]
    before, start = _cpu(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "circuits", *real, *(["--force"] if "--out" in given else [])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    seconds, cpu = time.perf_counter() - start, _cpu() - before
    refused = done.stderr[done.stderr.find("circuits: ") :]
    text = done.stdout if done.returncode == 0 else refused
    told = shlex.join(given).replace("OUT/", "runs/")
    told = told.replace(f" --model {model}", "")
    return Row(job.name, told, seconds, cpu, done.returncode, headlines(job.name, text, model))


def headlines(name: str, text: str, model: str) -> tuple[str, ...]:
    """The lines of a command's output that say what came out, without this machine's paths."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    wanted = HEADLINES.get(name.split(",")[0])
    if wanted:
        lines = [line for line in lines if line.lstrip().startswith(wanted)]
    lines = [line for line in lines if not line.startswith(("written", "This takes", "time"))]
    plain = [re.sub(r"\s{2,}", "  ", line).replace(model, "MODEL") for line in lines]
    return tuple(plain)


def about(model: str) -> dict[str, Any]:
    """What the model is."""
    opened = load_model(model)
    a = opened.anatomy
    return {
        "model": name_of(opened.path),
        "shape": f"{a.family}, {a.n_layers} layers, {a.n_heads} heads, d_model {a.d_model}",
        "hash": opened.hash[:12],
        "version": circuits.__version__,
    }


def known(page: Path) -> tuple[dict[str, Any], dict[str, Row]]:
    """What a page written before says."""
    found = DATA.search(page.read_text(encoding="utf-8")) if page.exists() else None
    if found is None:
        return {}, {}
    data = json.loads(found[1])
    rows = {each["name"]: Row(**{**each, "said": tuple(each["said"])}) for each in data["rows"]}
    return data["head"], rows


def written(head: dict[str, Any], rows: dict[str, Row]) -> str:
    """The page."""
    ordered = [rows[job.name] for job in JOBS if job.name in rows]
    data = json.dumps({"head": head, "rows": [asdict(row) for row in ordered]})
    lines = [
        f"# The commands on {head['model']}",
        "",
        f"{head['shape']}; weights {head['hash']}; circuits {head['version']}. Made by "
        "`make real-table`; nothing here is written by hand. Seconds are those of a clock, and of "
        "all processors together, which other work on the machine does not lengthen.",
        "",
        "| command | seconds | processor seconds | ended |",
        "| --- | --- | --- | --- |",
        *(
            f"| `circuits {_cell(row.command)}` | {row.seconds:.0f} | {row.cpu:.0f} | "
            f"{'well' if row.status == 0 else 'with a refusal'} |"
            for row in ordered
        ),
    ]
    for row in ordered:
        text = "\n".join(row.said)
        cut = text[: KEPT * 5] + ("\n..." if len(text) > KEPT * 5 else "")
        lines += ["", f"## {row.name}", "", "```text", cut.replace("```", "'''"), "```"]
    safe = data.replace("--", "\\u002d\\u002d")
    return "\n".join([*lines, "", f"<!-- rows: {safe} -->"]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    typer.run(main)
