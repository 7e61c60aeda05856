"""Running Graphviz: in the process through pygraphviz, else the program ``dot`` on the PATH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import FormatError

_ADVICE = (
    "drawing needs Graphviz: install pygraphviz (its wheels carry Graphviz), or put the program "
    "dot on the PATH; without it, save the circuit as .dot, .html or .json"
)


def run(source: str, layout: str, form: str) -> bytes:
    """DOT text, placed by ``layout`` (``dot``, or ``nop2`` for given places), as ``form``.

    Raises:
        FormatError: Graphviz is missing or fails.
    """
    try:
        import pygraphviz
    except ImportError:
        return _run_program(source, layout, form)
    try:
        with _silence():
            drawn = pygraphviz.AGraph(string=source).draw(format=form, prog=layout)
    except (OSError, TypeError, ValueError) as error:
        # A TypeError is pygraphviz unpacking the error number of a format it does not have.
        raise FormatError(f"Graphviz could not draw this circuit: {error}") from None
    return drawn if isinstance(drawn, bytes) else drawn.encode()


@contextmanager
def _silence() -> Iterator[None]:
    """What libraries in C remark on fonts goes nowhere; what matters to us raises."""
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _run_program(source: str, layout: str, form: str) -> bytes:
    try:
        import graphviz
    except ImportError:
        raise FormatError(_ADVICE) from None
    engine, no_op = ("neato", 2) if layout == "nop2" else (layout, None)
    try:
        return graphviz.pipe(engine, form, source.encode(), neato_no_op=no_op, quiet=True)
    except graphviz.ExecutableNotFound:
        raise FormatError(_ADVICE) from None
    except graphviz.CalledProcessError as error:
        raise FormatError(f"Graphviz could not draw this circuit: {error}") from None
