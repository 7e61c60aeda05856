"""The command line. Commands parse, call and print; heavy imports wait until they are needed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import circuits
from circuits.cli import ablate as cli_ablate
from circuits.cli import af1 as cli_af1
from circuits.cli import consensus as cli_consensus
from circuits.cli import dictionaries as cli_dictionaries
from circuits.cli import diff as cli_diff
from circuits.cli import drawing as cli_drawing
from circuits.cli import edit as cli_edit
from circuits.cli import emotion as cli_emotion
from circuits.cli import evaluate as cli_evaluate
from circuits.cli import instruments as cli_instruments
from circuits.cli import listing as cli_listing
from circuits.cli import means as cli_means
from circuits.cli import mib as cli_mib
from circuits.cli import models as cli_models
from circuits.cli import sweep as cli_sweep
from circuits.cli import tracing as cli_tracing
from circuits.cli import validate as cli_validate
from circuits.cli import view as cli_view
from circuits.cli.asking import (
    Answer,
    Bos,
    Chat,
    ChatPlain,
    Corrupted,
    Counterfactual,
    Prompt,
    Task,
    how_of,
    questions_of,
)
from circuits.cli.choosing import (
    Clusters,
    Count,
    Faithful,
    Method,
    NodeKind,
    Outside,
    Patched,
    Planned,
    Positions,
    RunFolder,
    Select,
    Setting,
    Top,
)
from circuits.cli.config_file import ConfigFile
from circuits.cli.options import BatchSize, Device, Memory, Metric, Model, ModelCorrect, SkipBad
from circuits.cli.output import AsJson, print_json, saying
from patching.choices import Level
from patching.processes import OtherProcessError, leads, speaks
from tasks.errors import CircuitsError

INTERRUPTED = 130
EXIT_CODES = {
    0: "the command did what was asked",
    1: "a fault in the program; please report it with the traceback",
    2: "the command cannot be carried out as given; the message says why and what to do",
    INTERRUPTED: "interrupted (Ctrl-C); nothing half-written is left",
}
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
OF_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)


class Commands(TyperGroup):
    """Turns errors raised on purpose into a message and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Exit 2 on an error the user can mend, 130 on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except OtherProcessError:
            raise typer.Exit(2) from None
        except CircuitsError as error:
            fault = str(error)
        except MemoryError as error:
            fault = f"out of memory; ask for less, or for a smaller --batch-size ({error})"
        except OSError as error:
            if error.errno not in (*OF_THE_DISK, *OF_A_NAME):
                raise
            fault = (
                f"{error.strerror}: {error.filename or 'the disk'}; nothing half-written is left"
            )
        except KeyboardInterrupt:
            if leads():
                typer.echo("circuits: interrupted; nothing half-written is left", err=True)
            raise typer.Exit(INTERRUPTED) from None
        from circuits.cli.printing import printable

        if speaks(fault):
            typer.echo(f"circuits: {printable(fault)}", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: rich takes three times as long to import as everything else together.
    rich_markup_mode=None,
    help="Find, draw and test the circuit in a language model that answers a question.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"circuits {circuits.__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    _shown: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", envvar="CIRCUITS_QUIET", help="Show no progress."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Name every step, and show the library's log.")
    ] = False,
) -> None:
    """Find, draw and test the circuit in a language model that answers a question."""
    context.with_resource(saying(quiet, verbose))


@app.command("doctor")
def check_installation(as_json: AsJson = False) -> None:
    """Check the installation: versions, devices, memory, models and the cache."""
    from circuits.cli.printing import print_report
    from circuits.installation import doctor

    found = doctor()
    if as_json:
        print_json(found.to_json())
    else:
        print_report(found.report())
    if not found.works:
        raise typer.Exit(2)


cli_listing.register(app)


@app.command()
def discover(
    task: Task = None,
    model: Model = "nano",
    _device: Device = None,
    prompt: Prompt = None,
    corrupted: Corrupted = None,
    answer: Answer = None,
    counterfactual: Counterfactual = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    method: Method = "auto",
    level: Annotated[Level, typer.Option(help="What is scored and chosen.")] = "edge",
    nodes: NodeKind = "heads",
    positions: Positions = "",
    direction: Patched = "noising",
    metric: Metric = None,
    select: Select = "top",
    top: Top = None,
    faithful: Faithful = None,
    n: Count = None,
    seed: Annotated[int, typer.Option(help="Random seed for the prompt pairs.")] = 0,
    batch_size: BatchSize = 32,
    memory: Memory = None,
    skip_bad: SkipBad = False,
    model_correct: ModelCorrect = False,
    ablation: Outside = "corrupted",
    clusters: Clusters = None,
    out: RunFolder = None,
    setting: Setting = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is in the folder.")
    ] = False,
    plan: Planned = False,
    _config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Find the circuit with which a model answers a task, test it, and write a run folder."""
    from circuits.cli.discover import carry_out, tell_plan
    from circuits.config import Config
    from circuits.settings import read_settings

    config = Config.named(
        locals(),
        **how_of(bos, chat, chat_plain),
        asked=questions_of(task, prompt, corrupted, answer, counterfactual),
        options=read_settings(method, setting or []),
    )
    if plan:
        tell_plan(config.settled(), as_json)
        return
    carry_out(config.settled(), out or Path("runs") / config.folder_name, force, as_json, clusters)


cli_drawing.register(app)
cli_af1.register(app)
cli_edit.register(app)
cli_emotion.register(app)
cli_evaluate.register(app)
cli_instruments.register(app)
cli_means.register(app)
cli_mib.register(app)
cli_models.register(app)
cli_ablate.register(app)
cli_diff.register(app)
cli_consensus.register(app)
cli_sweep.register(app)
cli_view.register(app)
app.command()(cli_validate.validate)
cli_dictionaries.register(app)
cli_tracing.register(app)
