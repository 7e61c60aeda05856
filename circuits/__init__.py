"""Find, draw and test the circuit in a language model that answers a question.

>>> import circuits
>>> model = circuits.load_model("nano")  # or "gpt2", a directory, a loaded model
>>> pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=16, seed=0)
>>> graph = circuits.discover("ioi", model=model, top=100, n=16)
>>> circuits.evaluate(graph, model, pairs)  # how much of the answer the circuit keeps
Evaluation(logit_diff, 16 prompt pairs: faithfulness 0.9...)
>>> graph.draw("ioi.svg")

All other examples go on from these names.

A **task** asks a model a question twice, clean and corrupted. **Patching** measures how much each
part of the model carries the difference (:func:`score`). The **graph** keeps the parts that matter
(:class:`CircuitGraph`). Positive scores always mean: this part's clean activation pushes the
metric towards the clean answer. The same from a shell: ``circuits discover ioi --out runs/ioi``.

Some arguments mean the same in every function. ``model`` is an open model, or what
:func:`load_model` opens; ``task`` a task's name, a file or ``pairs``, which are prompt pairs. ``n``
pairs are drawn with ``seed``, which also draws controls and the bootstrap of intervals. ``metric``
is what is measured, by default the task's own. ``direction`` is noising (a clean run takes values
of the corrupted one) or denoising. ``batch_size`` counts prompts per forward pass. ``progress`` is
called with (done, total, what); in a notebook a bar is shown by default. ``out`` is a folder that
results are written to, and ``force`` replaces what is there. ``bos`` and ``chat`` say how texts are
put to the model (:meth:`tasks.base.Task.pairs`), ``skip_bad`` leaves out rows of a file that have a
fault.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuits.abilities import task_abilities
    from circuits.ablation import ablate
    from circuits.averages import means
    from circuits.dictionaries.meaning import latent
    from circuits.dictionaries.quality import check_dictionary
    from circuits.dictionaries.steering import steer_latent
    from circuits.dictionaries.study import latents
    from circuits.dictionaries.trace import trace
    from circuits.dictionaries.training import train_dictionary
    from circuits.edits.edit import keep, remove, scale
    from circuits.edits.latents import latent_edit
    from circuits.edits.live import editing
    from circuits.edits.plan import EditPlan, plan_schema, read_plan
    from circuits.edits.save_model import save_edited
    from circuits.held_out.by_folder import compare, consensus, evaluate_run, load_run
    from circuits.held_out.evaluation import evaluate_held_out
    from circuits.held_out.run import Run
    from circuits.installation import doctor
    from circuits.lists import list_ablations, list_methods, list_models, list_selectors, list_tasks
    from circuits.models import load_model
    from circuits.planning import plan
    from circuits.probes import probe
    from circuits.question import ask
    from circuits.studies.allforone.folder import af1
    from circuits.studies.bias.folder import mitigate
    from circuits.studies.bias.localise import localise_bias
    from circuits.studies.bias.report_card import ReportCard
    from circuits.studies.emotion.folder import emotion
    from circuits.studies.instruments.attention import attention
    from circuits.studies.instruments.direct_logit_attribution import direct_logit_attribution
    from circuits.studies.instruments.heat_map import heat_map
    from circuits.studies.instruments.logit_lens import logit_lens
    from circuits.studies.instruments.path_patching import path_patching
    from circuits.studies.mib.track import mib
    from circuits.sweeps.sweep import sweep
    from circuits.validation.validation import validate
    from graphs import CircuitDiff, CircuitGraph
    from patching.dictionaries.dictionary import Dictionary
    from patching.dictionaries.read import read_dictionary as load_dictionary
    from patching.model import Model
    from patching.routers import Routing, routing
    from patching.scores import Scores
    from patching.scoring import score
    from tasks import PromptPairs, Task
    from tasks import get as load_task
    from tasks import read_pairs as load_pairs
    from tasks.errors import (
        CircuitsError,
        EditError,
        FormatError,
        MethodError,
        ModelError,
        RunError,
        SiteError,
        TaskError,
    )

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """Refuse to work with another project's package of the same name."""
    here = Path(__file__).resolve().parent.parent
    for name in ("graphs", "patching", "tasks"):
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != here / name / "__init__.py":
            raise ImportError(
                f"circuits needs the package '{name}' that lies beside it in {here}, but Python "
                f"finds {origin or 'none'}; remove or rename that one, or install circuits-engine "
                f"in an environment of its own"
            )


_check_neighbours()

# These are not lazy: importing the submodule later would put the module in place of the
# function of the same name. They import torch only when called.
from circuits.discover import discover  # noqa: E402
from circuits.evaluate import Evaluation, evaluate  # noqa: E402

_LAZY = {
    "CircuitDiff": ("graphs", "CircuitDiff"),
    "CircuitGraph": ("graphs", "CircuitGraph"),
    "CircuitsError": ("tasks.errors", "CircuitsError"),
    "Dictionary": ("patching.dictionaries.dictionary", "Dictionary"),
    "EditError": ("tasks.errors", "EditError"),
    "EditPlan": ("circuits.edits.plan", "EditPlan"),
    "FormatError": ("tasks.errors", "FormatError"),
    "MethodError": ("tasks.errors", "MethodError"),
    "Model": ("patching.model", "Model"),
    "ModelError": ("tasks.errors", "ModelError"),
    "PromptPairs": ("tasks", "PromptPairs"),
    "ReportCard": ("circuits.studies.bias.report_card", "ReportCard"),
    "Routing": ("patching.routers", "Routing"),
    "Run": ("circuits.held_out.run", "Run"),
    "RunError": ("tasks.errors", "RunError"),
    "Scores": ("patching.scores", "Scores"),
    "SiteError": ("tasks.errors", "SiteError"),
    "Task": ("tasks", "Task"),
    "TaskError": ("tasks.errors", "TaskError"),
    "ablate": ("circuits.ablation", "ablate"),
    "af1": ("circuits.studies.allforone.folder", "af1"),
    "ask": ("circuits.question", "ask"),
    "attention": ("circuits.studies.instruments.attention", "attention"),
    "check_dictionary": ("circuits.dictionaries.quality", "check_dictionary"),
    "consensus": ("circuits.held_out.by_folder", "consensus"),
    "compare": ("circuits.held_out.by_folder", "compare"),
    "direct_logit_attribution": (
        "circuits.studies.instruments.direct_logit_attribution",
        "direct_logit_attribution",
    ),
    "doctor": ("circuits.installation", "doctor"),
    "editing": ("circuits.edits.live", "editing"),
    "emotion": ("circuits.studies.emotion.folder", "emotion"),
    "evaluate_held_out": ("circuits.held_out.evaluation", "evaluate_held_out"),
    "evaluate_run": ("circuits.held_out.by_folder", "evaluate_run"),
    "heat_map": ("circuits.studies.instruments.heat_map", "heat_map"),
    "keep": ("circuits.edits.edit", "keep"),
    "latent": ("circuits.dictionaries.meaning", "latent"),
    "latent_edit": ("circuits.edits.latents", "latent_edit"),
    "latents": ("circuits.dictionaries.study", "latents"),
    "list_ablations": ("circuits.lists", "list_ablations"),
    "list_methods": ("circuits.lists", "list_methods"),
    "list_models": ("circuits.lists", "list_models"),
    "list_selectors": ("circuits.lists", "list_selectors"),
    "list_tasks": ("circuits.lists", "list_tasks"),
    "load_dictionary": ("patching.dictionaries.read", "read_dictionary"),
    "load_model": ("circuits.models", "load_model"),
    "load_pairs": ("tasks", "read_pairs"),
    "load_run": ("circuits.held_out.by_folder", "load_run"),
    "load_task": ("tasks", "get"),
    "localise_bias": ("circuits.studies.bias.localise", "localise_bias"),
    "logit_lens": ("circuits.studies.instruments.logit_lens", "logit_lens"),
    "means": ("circuits.averages", "means"),
    "mib": ("circuits.studies.mib.track", "mib"),
    "mitigate": ("circuits.studies.bias.folder", "mitigate"),
    "path_patching": ("circuits.studies.instruments.path_patching", "path_patching"),
    "plan": ("circuits.planning", "plan"),
    "plan_schema": ("circuits.edits.plan", "plan_schema"),
    "probe": ("circuits.probes", "probe"),
    "read_plan": ("circuits.edits.plan", "read_plan"),
    "remove": ("circuits.edits.edit", "remove"),
    "routing": ("patching.routers", "routing"),
    "save_edited": ("circuits.edits.save_model", "save_edited"),
    "scale": ("circuits.edits.edit", "scale"),
    "score": ("patching.scoring", "score"),
    "sweep": ("circuits.sweeps.sweep", "sweep"),
    "task_abilities": ("circuits.abilities", "task_abilities"),
    "steer_latent": ("circuits.dictionaries.steering", "steer_latent"),
    "trace": ("circuits.dictionaries.trace", "trace"),
    "train_dictionary": ("circuits.dictionaries.training", "train_dictionary"),
    "validate": ("circuits.validation.validation", "validate"),
}

__all__ = [
    "CircuitDiff",
    "CircuitGraph",
    "CircuitsError",
    "Dictionary",
    "EditError",
    "EditPlan",
    "Evaluation",
    "FormatError",
    "MethodError",
    "Model",
    "ModelError",
    "PromptPairs",
    "ReportCard",
    "Routing",
    "Run",
    "RunError",
    "Scores",
    "SiteError",
    "Task",
    "TaskError",
    "ablate",
    "af1",
    "ask",
    "attention",
    "check_dictionary",
    "compare",
    "consensus",
    "direct_logit_attribution",
    "discover",
    "doctor",
    "editing",
    "emotion",
    "evaluate",
    "evaluate_held_out",
    "evaluate_run",
    "heat_map",
    "keep",
    "latent",
    "latent_edit",
    "latents",
    "list_ablations",
    "list_methods",
    "list_models",
    "list_selectors",
    "list_tasks",
    "load_dictionary",
    "load_model",
    "load_pairs",
    "load_run",
    "load_task",
    "localise_bias",
    "logit_lens",
    "means",
    "mib",
    "mitigate",
    "path_patching",
    "plan",
    "plan_schema",
    "probe",
    "read_plan",
    "remove",
    "routing",
    "save_edited",
    "scale",
    "score",
    "steer_latent",
    "sweep",
    "task_abilities",
    "trace",
    "train_dictionary",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'circuits' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
