"""The command `discover`: check, run with a progress bar, print the summary."""

from __future__ import annotations

from pathlib import Path

from circuits.cli_progress import shown_progress
from circuits.cli_text import print_summary
from circuits.config import Config
from circuits.discover import run
from circuits.folder import FILES, finished


def carry_out(config: Config, folder: Path, force: bool) -> None:
    """Run the discovery, unless the folder holds it already, and print what was found."""
    config.check()
    record, note = finished(folder, config, force), ""
    if record is not None:
        note = (
            f"This run was finished before ({record.created}, circuits {record.program.version}): "
            f"nothing was computed. --force does it again."
        )
    else:
        _quiet()
        with shown_progress() as progress:
            record = run(config, folder, progress)
    print_summary(record, folder, FILES, note)


def _quiet() -> None:
    """Keep the bar that transformers draws while it reads weights out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
