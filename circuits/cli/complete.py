"""What the shell offers while a command is typed; asked for only then."""

from __future__ import annotations

from collections.abc import Iterable


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    """The names that begin so; of several between commas, for the last one."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(last)]


def tasks(incomplete: str) -> list[str]:
    """Names of tasks."""
    from tasks import names

    return _beginning(incomplete, names())


def models(incomplete: str) -> list[str]:
    """Names of models that are built in or come in packages."""
    from circuits.models import EMBEDDED
    from patching.sources import NAMED

    return _beginning(incomplete, [*EMBEDDED, *NAMED])


def methods(incomplete: str) -> list[str]:
    """Names of methods."""
    from patching.methods import METHODS

    return _beginning(incomplete, METHODS)


def selectors(incomplete: str) -> list[str]:
    """Names of selectors."""
    from circuits.selectors import SELECTORS

    return _beginning(incomplete, SELECTORS)


def ablations(incomplete: str) -> list[str]:
    """Names of ablations and cuts of attention."""
    from patching.ablation.kinds import ABLATIONS, CUTS

    return _beginning(incomplete, [*ABLATIONS, *CUTS])


def outside(incomplete: str) -> list[str]:
    """Names of ablations that can stand in outside a circuit."""
    from patching.ablation.kinds import OUTSIDE

    return _beginning(incomplete, OUTSIDE)


def formats(incomplete: str) -> list[str]:
    """Names of formats of a circuit's file."""
    from graphs.formats import FORMATS

    return _beginning(incomplete, FORMATS)
