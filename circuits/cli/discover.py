"""The command `discover`: check, run with a progress bar, print the summary."""

from __future__ import annotations

import json
from pathlib import Path

from circuits.cli.output import print_json
from circuits.cli.progress import shown_progress
from circuits.cli.text import print_summary
from circuits.config import Config
from circuits.discover import run
from circuits.folder import FILES, finished
from circuits.models import EMBEDDED
from circuits.output import guarded


def carry_out(config: Config, folder: Path, force: bool, as_json: bool = False) -> None:
    """Run the discovery, unless the folder holds it already, and print what was found."""
    config.check()
    with guarded(folder):
        record, note = finished(folder, config, force), ""
        if record is not None:
            note = (
                f"This run was finished before ({record.created}, circuits "
                f"{record.program.version}): nothing was computed. --force does it again."
            )
        else:
            with shown_progress() as progress:
                progress(0, 0, "loading torch and transformers")
                prepare(config)
                record = run(config, folder, progress)
    if as_json:
        print_json(json.loads(record.to_json()))
    else:
        print_summary(record, folder, FILES, note)


def prepare(config: Config) -> None:
    """Settings of this process that are no business of the library's."""
    import torch
    from transformers.utils import logging

    # The bar that transformers draws while it reads weights would run into ours.
    logging.disable_progress_bar()
    if config.model in EMBEDDED:
        # An embedded model's matrices are too small to share between threads: on a machine with
        # other work, threads that wait for one another took fifty times as long.
        torch.set_num_threads(1)
