"""The option `--metric` of the commands that measure by one."""

from __future__ import annotations

from typing import Annotated

import typer

NAMES = "logit_diff, prob_diff, log_prob, answer_logit or sequence_log_prob"
"""Those of patching.metrics, which takes torch to be asked."""

Metric = Annotated[str | None, typer.Option(help=f"{NAMES}. Default: the task's own.")]
