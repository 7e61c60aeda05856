"""What there is: tasks, methods, selectors, ablations and models, as plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patching.sources.named import NamedModel

Row = Mapping[str, Any]


def list_tasks() -> list[Row]:
    """Every task with its claim.

    >>> [row["name"] for row in circuits.list_tasks()][:3]
    ['acronyms', ...]
    """
    import tasks

    return [
        {
            "name": name,
            "asks": task.claim,
            "metric": task.metric,
            **_options(task.options),
            "reference": task.reference,
        }
        for name, task in ((name, tasks.get(name)) for name in tasks.names())
    ]


def list_methods() -> list[Row]:
    """Every method with its claim, its cost and how far it is trusted.

    >>> [row["name"] for row in circuits.list_methods()]
    ['auto', 'activation', 'attribution', 'ig', 'relevance', 'secant', 'ensemble', 'learned']
    """
    from patching.methods import METHODS

    return [
        {
            "name": method.name,
            "computes": method.claim,
            "costs": method.cost,
            "tier": method.tier,
            "where experts differ": method.router,
            **_options(method.options),
            "reference": method.reference,
        }
        for method in METHODS.values()
    ]


def list_agreement() -> list[Row]:
    """Every method with what it assumes, and how well it agreed with exact patching."""
    from circuits.validation.agreement import GROUNDS, agreement

    return [
        {
            "name": name,
            "assumes": row.assumes,
            "checked against": row.checked,
            "agrees with the exact effect": agreement(name),
        }
        for name, row in GROUNDS.items()
    ]


def list_selectors() -> list[Row]:
    """Every selector of circuits, with its options and their defaults.

    >>> circuits.list_selectors()[0]["name"]
    'top'
    """
    from circuits.selectors import SELECTORS

    return [
        {
            "name": selector.name,
            "keeps": selector.claim,
            "costs": selector.cost,
            "among": " or ".join(f"{level}s" for level in selector.levels),
            **_options(selector.options),
            "reference": selector.reference,
        }
        for selector in SELECTORS.values()
    ]


def list_ablations() -> list[Row]:
    """Every ablation, how it is written, and where it can be used.

    >>> circuits.list_ablations()[0]["name"]
    'zero'
    """
    from patching.ablation.kinds import ABLATIONS, CUTS, OUTSIDE

    rows: list[Row] = []
    for name, kind in ABLATIONS.items():
        written = name if not kind.argument else f"{name}:N with a {kind.argument} N"
        if kind.default is not None:
            written = f"{name}, or {written}"
        where = "outside a circuit, or for named parts" if name in OUTSIDE else "ablate"
        rows.append({"name": name, "puts there": kind.claim, "written": written, "use": where})
    for name, claim in CUTS.items():
        written = f"{name}:3, {name}:3-5 (layers) or {name}:3.h1 (one head)"
        rows.append({"name": name, "cuts": claim, "written": written, "use": "ablate"})
    return rows


def _options(options: Mapping[str, Any]) -> Row:
    """The options of a task, a method or a way, by name; nothing where there are none."""
    about = {}
    for name, option in options.items():
        allowed = getattr(option, "choices", ()) or getattr(option, "allowed", ())
        about[name] = {"default": option.default, "help": option.help}
        about[name] |= {"choices": list(allowed)} if allowed else {}
    return {"options": about} if about else {}


def list_models() -> list[Row]:
    """Built-in models, those in packages, and the other ways to name one.

    >>> circuits.list_models()[0]["name"]
    'nano'
    """
    from circuits.models import EMBEDDED
    from patching.sources import NAMED

    embedded: list[Row] = [
        {
            "name": model.name,
            "is": model.claim,
            "state": "ships with circuits",
            "licence": model.licence,
            "size": f"{model.megabytes:.1f} MB",
            "shape": model.shape,
        }
        for model in EMBEDDED.values()
    ]
    others: list[Row] = [
        {
            "name": "ID",
            "is": "a causal language model on the Hugging Face hub, such as gpt2",
            "costs": "a download, unless it is in the cache",
        },
        {
            "name": "DIRECTORY",
            "is": "a folder with config.json and model.safetensors",
            "costs": "no network",
        },
        {
            "name": "FILE.gguf",
            "is": "a model in a GGUF file",
            "costs": "no network; converted once, to safetensors of float32",
        },
    ]
    return [*embedded, *map(_row, NAMED.values()), *others]


def _row(model: NamedModel) -> Row:
    return {
        "name": model.name,
        "is": f"{model.shown}: {model.claim}",
        "state": _state(model),
        "licence": model.licence,
        "size": f"{model.megabytes} MB to install",
        "shape": model.shape,
    }


def _state(model: NamedModel) -> str:
    if model.converted:
        return "installed and converted" if model.installed else "converted"
    return "installed" if model.installed else f"not installed: {model.install}"
