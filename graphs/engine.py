"""Running Graphviz: in the process through pygraphviz, else the program ``dot`` on the PATH."""

from __future__ import annotations

import warnings

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
        with warnings.catch_warnings():
            # Graphviz remarks on fonts; what matters to us raises.
            warnings.simplefilter("ignore")
            drawn = pygraphviz.AGraph(string=source).draw(format=form, prog=layout)
    except (OSError, ValueError) as error:
        raise FormatError(f"Graphviz could not draw this circuit: {error}") from None
    return drawn if isinstance(drawn, bytes) else drawn.encode()


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
