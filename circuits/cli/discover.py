"""The command `discover`: check, run with a progress bar, print the summary."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from circuits.cli.output import print_json
from circuits.cli.progress import shown_progress
from circuits.cli.text import print_summary
from circuits.config import Config
from circuits.discover import run
from circuits.folder import FILES, finished
from circuits.models import EMBEDDED
from circuits.output import guarded
from tasks.errors import RunError


def carry_out(
    config: Config,
    folder: Path,
    force: bool,
    as_json: bool = False,
    clusters: int | None = None,
) -> None:
    """Run the discovery, unless the folder holds it already, and print what was found.

    With ``clusters`` its prompts are also grouped by their scores, a circuit each.
    """
    config.check()
    if clusters is not None:
        _check_clusters(config, clusters)
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
    if clusters is not None:
        _cluster(config, folder, clusters, as_json)


def tell_plan(config: Config, as_json: bool) -> None:
    """Print what the discovery takes, and compute nothing else."""
    from circuits.cli.printing import printable
    from circuits.planning import planned

    config.check()
    with shown_progress() as progress:
        progress(0, 0, "loading torch and transformers")
        prepare(config)
        plan = planned(config, progress)
    if as_json:
        print_json(plan.to_json())
    else:
        typer.echo(printable(str(plan)))


def _check_clusters(config: Config, clusters: int) -> None:
    from circuits.held_out.clusters import check_clusters

    check_clusters(clusters, len(config.asked) or config.count)
    if config.asked:
        raise RunError("clusters are tested on other prompts, and of your own questions are none")


def _cluster(config: Config, folder: Path, clusters: int, quiet: bool) -> None:
    """Tell the run's prompts apart, and print what that gains."""
    from circuits.cli.printing import print_report, print_rows
    from circuits.held_out.clustered_run import clustered
    from circuits.held_out.terms import Terms

    with shown_progress() as progress:
        found, told = clustered(folder, clusters, Terms(seed=config.seed), progress)
    if quiet:
        return
    if found is not None:
        print_report(found.report())
        return
    gain = "undefined" if told.get("gain") is None else f"{100 * told['gain']:.1f} points"
    print_rows({"clusters": f"{clusters}, made before: gain {gain} (clusters.json)"})


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
