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
from circuits.cli import diff as cli_diff
from circuits.cli import edit as cli_edit
from circuits.cli import emotion as cli_emotion
from circuits.cli import evaluate as cli_evaluate
from circuits.cli import means as cli_means
from circuits.cli import models as cli_models
from circuits.cli import validate as cli_validate
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
from circuits.cli.options import BatchSize, Device, Memory, Metric, Model, ModelCorrect, SkipBad
from tasks.errors import CircuitsError, TaskError

INTERRUPTED = 130
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
OF_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
FORMATS = (
    "json, graphml, mib, gexf, cytoscape, csv, neuronpedia, html, dot, svg, png or pdf. "
    "Default: what the output's suffix says."
)


class Commands(TyperGroup):
    """Turns errors raised on purpose into a message and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Exit 2 on an error the user can mend, 130 on Ctrl-C."""
        try:
            return super().invoke(ctx)
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
            typer.echo("circuits: interrupted; nothing half-written is left", err=True)
            raise typer.Exit(INTERRUPTED) from None
        from circuits.cli.printing import printable

        typer.echo(f"circuits: {printable(fault)}", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find, draw and test the circuit in a language model that answers a question.",
)

Method = Annotated[
    str, typer.Option(help="See 'circuits methods'. Several, parted by commas: their mean.")
]
Nodes = Annotated[str, typer.Option(help="heads (and whole MLPs), or neurons (and heads).")]
Top = Annotated[
    int | None, typer.Option(help="How many edges to keep. Default: 100 where that is chosen.")
]
Select = Annotated[
    str,
    typer.Option(
        help="How the circuit is chosen, as in threshold:least=0.1: 'circuits selectors'."
    ),
]
Outside = Annotated[
    str, typer.Option(help="What stands in outside the circuit: see 'circuits ablations'.")
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the method, as in steps=3: 'circuits methods'."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"circuits {circuits.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Read the options that stand before a command."""


@app.command("tasks")
def list_tasks(
    task: Annotated[
        list[str] | None, typer.Argument(help="With --model: these alone. Default: all.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Say how well this model does each of them.")
    ] = None,
    _device: Device = None,
    n: Annotated[int, typer.Option("--n", help="With --model: prompts of each.")] = 32,
    seed: Annotated[int, typer.Option(help="Draws the prompts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What can be asked of a model; with --model how well it does each."""
    from circuits.cli.text import print_list, task_rows

    if model is not None:
        from circuits.cli.abilities import present

        present(model, task or [], n, seed, as_json)
        return
    if task:
        raise TaskError(f"{task[0]}: name a model, as in circuits tasks {task[0]} --model nano")
    print_list(task_rows(), as_json)
    if not as_json:
        typer.echo("Options are written behind the task, as in mental_math:form=-+style=question.")
        typer.echo("Where no split is given, nano is asked split=test, other models split=all.")


@app.command("methods")
def list_methods(
    agreement: Annotated[
        bool, typer.Option("--agreement", help="How far to trust each, with measured agreement.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How parts of a model can be scored, and what each way costs."""
    from circuits.cli.text import agreement_rows, method_rows, print_list

    print_list(agreement_rows() if agreement else method_rows(), as_json)
    if agreement and not as_json:
        from circuits.validation.agreement import measured_on

        typer.echo(f"Agreement: {measured_on()}. On your model and task: circuits validate.")


@app.command("selectors")
def list_selectors(as_json: AsJson = False) -> None:
    """How a circuit can be selected from scores, and what each selector costs."""
    from circuits.cli.text import print_list, selector_rows

    print_list(selector_rows(), as_json)


@app.command("ablations")
def list_ablations(as_json: AsJson = False) -> None:
    """What can stand in for parts of a model, or cut their attention."""
    from circuits.cli.text import ablation_rows, print_list

    print_list(ablation_rows(), as_json)


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
    method: Method = "secant",
    level: Annotated[str, typer.Option(help="edge or node.")] = "edge",
    nodes: Nodes = "heads",
    direction: Annotated[str, typer.Option(help="noising or denoising.")] = "noising",
    metric: Metric = None,
    select: Select = "top",
    top: Top = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Prompt pairs. Default: 64 of a task, all of a file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the prompt pairs.")] = 0,
    batch_size: BatchSize = 32,
    memory: Memory = None,
    skip_bad: SkipBad = False,
    model_correct: ModelCorrect = False,
    ablation: Outside = "corrupted",
    out: Annotated[
        Path | None, typer.Option(help="The run folder to write. Default: runs/TASK.")
    ] = None,
    setting: Setting = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is in the folder.")
    ] = False,
) -> None:
    """Find the circuit with which a model answers a task, test it, and write a run folder."""
    from circuits.cli.discover import carry_out
    from circuits.config import Config
    from circuits.settings import read_settings

    config = Config(
        task=task,
        model=model,
        method=method,
        level=level,
        nodes=nodes,
        direction=direction,
        metric=metric,
        select=select,
        top=top,
        n=n,
        seed=seed,
        batch_size=batch_size,
        memory=memory,
        ablation=ablation,
        **how_of(bos, chat, chat_plain),
        asked=questions_of(task, prompt, corrupted, answer, counterfactual),
        options=read_settings(method, setting or []),
        skip_bad=skip_bad,
        model_correct=model_correct,
    )
    carry_out(config.settled(), out or Path("runs") / config.folder_name, force)


@app.command()
def show(
    source: Annotated[Path, typer.Argument(help="A run folder, or a circuit's file.")],
    form: Annotated[str | None, typer.Option("--format", help=FORMATS)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here, not to the terminal.")
    ] = None,
) -> None:
    """Print what a run found, or turn its circuit into a picture or another program's file."""
    from circuits.cli.show import present

    present(source, form, output)


cli_af1.register(app)
cli_edit.register(app)
cli_emotion.register(app)
cli_evaluate.register(app)
cli_means.register(app)
cli_models.register(app)
cli_ablate.register(app)
cli_diff.register(app)
app.command()(cli_validate.validate)
