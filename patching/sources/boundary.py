"""Where other libraries open what a user gave: their faults in our words, their talk kept back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from patching.sources.directory import CONVERT, shortened
from tasks.errors import CircuitsError, ModelError

REASONS = {
    "trust_remote_code": (
        "it opens only with code of its own, and circuits never runs a model's code"
    ),
    "use_safetensors": f"it has no weights as safetensors; {CONVERT.format(path='ID')}",
}
"""In place of advice of transformers that must not be followed, by a word of it."""
PASSED = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, CircuitsError)


@contextmanager
def opening(what: str, way: str) -> Iterator[None]:
    """Whatever a library raises in the block is a fault of ``what``; ``way`` says what to do.

    Only calls of libraries belong in the block, so that no fault of ours is taken for the file's.
    Lack of memory and interruption pass.

    Raises:
        ModelError: see above.
    """
    try:
        yield
    except PASSED:
        raise
    # The Rust beneath tokenizers panics on some files, which is no Exception.
    except BaseException as error:
        reason = shortened(error, 300) or type(error).__name__
        reason = next((ours for theirs, ours in REASONS.items() if theirs in str(error)), reason)
        # The name of a key or of an attribute alone explains nothing.
        if isinstance(error, LookupError | AttributeError | TypeError):
            reason = f"{type(error).__name__}: {reason}"
        raise ModelError(f"cannot open {what}: {reason}\n  {way}") from error


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers: a library prints nothing, and the command line has its own.

    Downloads show theirs all the same, which are the hub's.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """:func:`without_bars`, and without what libraries say in passing: we check and refuse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging

        before = logging.get_verbosity()
        logging.set_verbosity(logging.CRITICAL)
        try:
            with without_bars():
                yield
        finally:
            logging.set_verbosity(before)
