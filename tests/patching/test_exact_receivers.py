"""Edges whose receivers answer exactly, between the exact effect and first-order estimates."""

import numpy as np
import pytest

from patching.runs import record_gradients
from patching.scoring import score
from patching.sites import parse_edge
from tasks.errors import MethodError
from tests import definitions, families


def response(runs, edge):
    """The definition: the receiver's output under the patch, times the gradient there."""
    model, layer = runs.model, edge.receiver.layer
    there, here = (definitions.sender_write(model, v, edge.sender) for v in (runs.there, runs.here))
    through = definitions.through_edge(
        model, runs.batch, edge, runs.here, there - here, definitions.PLAIN
    )
    kind = "z" if edge.receiver.kind == "head" else "mlp_out"
    seen = {}

    def tap(at_kind, at, value):
        value = through(at_kind, at, value)
        seen[at_kind, at] = value
        return value

    runs.run(tap)
    run = "clean" if runs.direction == "noising" else "corrupted"
    found = record_gradients(model, runs.batch, run, families.LOGIT_DIFF, (kind,))
    change = (seen[kind, layer] - runs.here[kind, layer]) * found.grads[kind, layer]
    total = change.flatten(1).sum(1)
    return -total if runs.direction == "noising" else total


def test_receivers_answer_as_the_definition_says(model, pairs, direction):
    found = score(model, pairs, "attribution", "edge", direction, exact_receivers=True)
    runs = definitions.Runs.of(model, families.one_batch(model, pairs), direction)
    exact = score(model, pairs, "activation", "edge", direction)
    for name in found.names[::9]:
        edge = parse_edge(name, model.anatomy)
        if edge.receiver.kind == "logits":
            assert found[name] == pytest.approx(exact[name], abs=1e-5)
        else:
            expected = float(response(runs, edge).mean())
            assert found[name] == pytest.approx(expected, abs=2e-5), name


def test_they_come_closer_to_the_exact_effect_than_plain_attribution(gpt2, pairs):
    near, exact, plain = (
        score(gpt2, pairs, method, "edge", **options).values
        for method, options in (
            ("attribution", {"exact_receivers": True}),
            ("activation", {}),
            ("attribution", {}),
        )
    )
    assert np.abs(near - exact).sum() < np.abs(plain - exact).sum()


def test_options_that_exclude_each_other_are_refused(gpt2, pairs):
    with pytest.raises(MethodError, match="exclude each other"):
        score(gpt2, pairs, "attribution", exact_receivers=True, grad_drop=True)
