"""The reference: every command, option, public name, task, method, format and error."""

import inspect
import os
from collections.abc import Iterator

os.environ["COLUMNS"] = "100"

import typer

import circuits
import tasks
from circuits.cli.app import EXIT_CODES, app
from circuits.selectors import SELECTORS
from circuits.validation.agreement import GROUNDS
from graphs.formats import FORMATS
from patching.ablation.kinds import ABLATIONS, CUTS
from patching.methods import METHODS
from tasks import errors

GROUPS = {
    "Models, tasks and prompts": (
        *("load_model", "Model", "load_task", "Task", "load_pairs", "PromptPairs"),
    ),
    "From a question to a circuit": (
        *("discover", "ask", "score", "Scores", "CircuitGraph", "CircuitDiff"),
    ),
    "Runs": ("load_run", "Run", "evaluate_run", "compare"),
    "Tests": (
        *("evaluate", "Evaluation", "evaluate_held_out", "validate", "ablate", "means"),
        *("task_abilities", "routing", "Routing"),
    ),
    "Edits": (
        *("mitigate", "ReportCard", "localise_bias", "editing", "EditPlan", "read_plan"),
        *("plan_schema", "save_edited", "keep", "remove", "scale"),
    ),
    "Studies": ("af1", "emotion", "probe"),
    "What there is": (
        *("list_tasks", "list_methods", "list_selectors", "list_ablations", "list_models"),
        "doctor",
    ),
}


def pages():
    """File name -> text of every page of the reference."""
    return {
        "api.md": api(),
        "commands.md": commands(),
        "tasks.md": listed_tasks(),
        "methods.md": listed_methods(),
        "selectors.md": listed_selectors(),
        "ablations.md": listed_ablations(),
        "formats.md": listed_formats(),
        "errors.md": listed_errors(),
    }


def every_command(group, above="circuits") -> Iterator:
    """Every command with its full name, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


def commands():
    """Every command with its options, from the program itself."""
    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "`circuits --help` and `circuits COMMAND --help` print the same.",
        "",
    ]
    lines += ["Before a command, these options hold for all of them:", "", *options(root)]
    for name, command in every_command(root):
        lines += [f"## {name}", "", plain(command.help), "", "```text"]
        lines += [usage(name, command), "```", "", *options(command)]
    return "\n".join(lines)


def usage(name, command):
    """The line of usage: arguments by name, options as one word."""
    arguments = [shown(each) for each in command.params if each.param_type_name == "argument"]
    return " ".join([name, "[OPTIONS]", *arguments])


def shown(argument):
    """An argument as the usage line shows it."""
    name = (argument.metavar or argument.name).strip("[]").upper()
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def options(command):
    """A table of a command's arguments and options."""
    rows = ["| argument or option | default | meaning |", "| --- | --- | --- |"]
    for each in command.params:
        if each.name in {"help"}:
            continue
        given = each.param_type_name == "option"
        names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
        choices = " ".join(f"`{choice}`" for choice in (each.type_descriptor.choices or ()))
        means = " ".join(filter(None, (plain(each.help or ""), choices and f"One of {choices}.")))
        if variable := getattr(each, "envvar", None):
            means += f" Environment variable: `{variable}`."
        name = names if given else f"`{each.name.upper()}`"
        rows.append(f"| {name} | {default(each)} | {cell(means)} |")
    return [*rows, ""] if len(rows) > 2 else []


def default(parameter):
    """The default of an option, as it would be typed."""
    value = parameter.default
    if value is None or callable(value) or value in ("", [], ()):
        return ""
    if getattr(parameter, "is_flag", False):
        return "on" if value else ""
    return f"`{getattr(value, 'value', value)}`"


def plain(text):
    """Help as Markdown: no mark-up of the terminal's."""
    return inspect.cleandoc(text or "").replace("\b", "")


def cell(text):
    """Text for a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def api():
    """Every public name by group, from its docstring; what is in no group stands at the end."""
    lines = ["# Python", ""]
    lines += [
        "Everything below is `circuits.NAME`. Names that start with an underscore are private.",
        "",
    ]
    named = {name for names in GROUPS.values() for name in names}
    others = [name for name in circuits.__all__ if name not in named]
    is_error = {name: name.endswith("Error") for name in others}
    groups = {
        **GROUPS,
        "More": [name for name in others if not is_error[name]],
        "Errors": [name for name in others if is_error[name]],
    }
    for title, names in groups.items():
        if names:
            lines += [f"## {title}", ""]
            lines += [line for name in names for line in documented(name)]
    return "\n".join(lines)


def documented(name):
    """The directive that prints the documentation of a public name."""
    what = getattr(circuits, name)
    kind = "autofunction"
    if inspect.isclass(what):
        kind = "autoexception" if issubclass(what, Exception) else "autoclass"
    members = ["   :members:"] if kind == "autoclass" else []
    return ["```{eval-rst}", f".. {kind}:: circuits.{name}", *members, "```", ""]


def option_rows(table):
    """Rows for the options of a task, a method or a selector."""
    for name, option in table.items():
        allowed = getattr(option, "choices", ()) or getattr(option, "allowed", ())
        choices = ", ".join(f"`{choice}`" for choice in allowed)
        yield f"| `{name}` | `{option.default}` | {cell(option.help)} | {choices} |"


def with_options(table):
    """The table of options, or nothing."""
    rows = list(option_rows(table))
    head = ["| option | default | meaning | allowed |", "| --- | --- | --- | --- |"]
    return [*head, *rows, ""] if rows else []


def sentence(text):
    """A claim as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def listed_tasks():
    """Every task with its options."""
    lines = [
        "# Tasks",
        "",
        "Write options behind the name: `mental_math:form=-+style=question`.",
        "",
    ]
    for name in tasks.names():
        task = tasks.get(name)
        lines += [f"## {name}", "", sentence(task.claim), ""]
        lines += [f"Default metric: `{task.metric}`. Source: {task.reference}.", ""]
        lines += with_options(task.options)
    return "\n".join(lines)


def listed_methods():
    """Every method with its options, what it assumes and what it costs."""
    lines = ["# Methods", "", "Write options behind the name: `ig:steps=3`.", ""]
    for name, method in METHODS.items():
        lines += [f"## {name}", "", sentence(method.claim), "", f"* Costs {method.cost}."]
        if ground := GROUNDS.get(name):
            lines += [f"* Assumes: {ground.assumes}.", f"* Checked against: {ground.checked}."]
        lines += [f"* Where two runs choose different experts, it {method.router}."]
        lines += [f"* Source: {method.reference}.", "", *with_options(method.options)]
    return "\n".join(lines)


def listed_selectors():
    """Every selector with its options."""
    lines = ["# Selectors", "", "Write options behind the name: `threshold:least=0.1`.", ""]
    for name, selector in SELECTORS.items():
        lines += [f"## {name}", "", f"Keeps {selector.claim}.", "", f"* Costs {selector.cost}."]
        lines += [f"* Source: {selector.reference}.", "", *with_options(selector.options)]
    return "\n".join(lines)


def listed_ablations():
    """Every ablation and every cut of attention."""
    rows = [f"| `{name}` | {cell(kind.claim)} |" for name, kind in ABLATIONS.items()]
    rows += [f"| `{name}:LAYERS` | {cell(claim)} |" for name, claim in CUTS.items()]
    return "\n".join(
        ["# Ablations", "", "| name | puts there, or cuts |", "| --- | --- |", *rows, ""]
    )


def listed_formats():
    """Every format of a circuit's file, and what does not survive it."""
    lines = [
        "# Formats",
        "",
        "| name | suffix | is | loses | can be read |",
        "| --- | --- | --- | --- | --- |",
    ]
    for form in FORMATS.values():
        read = "yes" if form.read else "no"
        told = cell(form.description), cell(form.loses), read
        lines.append(f"| `{form.name}` | `{form.suffix}` | {' | '.join(told)} |")
    return "\n".join([*lines, ""])


def listed_errors():
    """The tree of errors, and every error of it."""
    tree = errors.__doc__.split("\n\n")[1]
    lines = ["# Errors and exit codes", "", "Each error says what was given, what is allowed and "]
    lines[-1] += "what to do. Catch `circuits.CircuitsError` to catch them all."
    lines += ["", "```text", tree, "```", "", "| exit code | means |", "| --- | --- |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join([*lines, ""])
