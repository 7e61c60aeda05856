"""Cause and effect inside the model: run it, patch it, measure what each part carries.

``anatomy``, ``sites``, ``scores`` and ``methods`` are vocabulary and do not import torch; the
rest does. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Anatomy": "anatomy",
    "HeatMap": "heat_map",
    "METHODS": "methods",
    "Model": "model",
    "Record": "forward",
    "Routing": "routers",
    "Rules": "rules",
    "Scores": "scores",
    "baselines": "ablation.run",
    "run_circuit": "circuit_run",
    "run_circuits": "circuit_run",
    "prompt_scores": "scoring",
    "routing": "routers",
    "score": "scoring",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'patching' has no attribute '{name}'")
    return getattr(import_module(f"patching.{_HOMES[name]}"), name)
