"""A run record to write and read, without a model."""

import pytest

from circuits.config import Config
from circuits.record import (
    CircuitRecord,
    EvaluationRecord,
    ModelRecord,
    Program,
    Prompts,
    RunRecord,
    StrongEdge,
)


@pytest.fixture
def config():
    return Config("ioi", model=None, method="relevance", top=2, n=3)


@pytest.fixture
def make_record():
    def make(config):
        return RunRecord(
            created="2026-01-02T03:04:05+00:00",
            program=Program(version="0.1.0"),
            argv=("circuits", "discover"),
            config=config.to_json(),
            config_sha256=config.digest(),
            versions={"python": "3.11"},
            platform="somewhere",
            threads=1,
            model=ModelRecord(name="nano", path="nano", hash="0" * 64),
            prompts=Prompts(task="ioi", n=3, sha256="1" * 64),
            evaluation=EvaluationRecord(
                metric="logit_diff",
                full=4.0,
                empty=-4.0,
                circuit=3.0,
                n=3,
                per_prompt=(3.0, 3.0, 3.0),
                interval=(0.8, 0.9),
                faithfulness=0.875,
            ),
            circuit=CircuitRecord(
                nodes=3,
                edges=2,
                selection="top 2",
                strongest=(StrongEdge(name="input->a0.h0<v>", score=1.5),),
            ),
            seconds={"scoring": 0.5},
        )

    return make
