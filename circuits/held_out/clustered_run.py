"""The clusters of a finished run: its prompts grouped, written into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import circuits
from circuits.folder import CLUSTERS, cluster_file, read_clusters
from circuits.held_out.clusters import Clusters, check_clusters, clusters
from circuits.held_out.fresh_prompts import config_of, used_prompts
from circuits.held_out.run import Run, describe, fresh_prompts
from circuits.held_out.terms import Terms
from circuits.output import adding, guarded, write_json
from patching.journal import kept

if TYPE_CHECKING:
    from circuits.clock import Progress

KIND = "circuits clusters"


def clustered(
    folder: Path, k: int, terms: Terms, progress: Progress | None = None
) -> tuple[Clusters | None, dict[str, Any]]:
    """Tell a run's prompts apart and write clusters.json and a circuit for each into its folder.

    What is there already for the same number and terms is not computed again: then the first
    result is None. The second is what the file says.

    Raises:
        CircuitsError: the folder is no run, too many clusters, or no prompts are left.
    """
    from circuits.recorded import recorded_model

    with guarded(folder):
        run = Run.read(folder)
        check_clusters(k, run.record.prompts.n)
        settings = {"k": k, "n": terms.n, "seed": terms.seed, "run": run.record.config_sha256}
        before = read_clusters(folder)
        if before is not None and before.get("asked") == settings:
            return None, before
        about = circuits.__version__, CLUSTERS, run.record.config_sha256, k, terms
        with kept(folder, *about) as journal:
            opened = recorded_model(run.record.model)
            others = fresh_prompts([run], opened, terms)
            metric = run.record.evaluation.metric
            how = terms.running(run.ablation, metric=metric, progress=progress, journal=journal)
            running = how.settled(opened, others, run.record.config.get("nodes", "heads"))
            config, pairs = config_of(run.record), used_prompts(run.record, opened)
            clustering = clusters(config, opened, pairs, others, k, terms.seed, running)
        described = describe(
            opened, others, clustering.to_json() | {"kind": KIND, "asked": settings}
        )
        with adding(folder) as place:
            for old in folder.glob("cluster-*.json"):
                (place / old.name).unlink(missing_ok=True)
            write_json(place / CLUSTERS, described)
            for number, graph in enumerate(clustering.graphs, start=1):
                graph.save(place / cluster_file(number))
        return clustering, described
