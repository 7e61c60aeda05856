"""Path patching against two other definitions: one edge at a time, and runs of circuits."""

from dataclasses import replace

import pytest
import torch

from patching.circuit_run import CircuitRunner
from patching.metrics import check_metric
from patching.nodes.edges import EdgeSet, edges
from patching.path_patching import PathSweep, edges_to, receivers_of, senders_to
from patching.runs import Batch
from patching.setting import Setting
from patching.sites import parse_edge, stage
from tasks.errors import SiteError
from tests import definitions, families

FAMILIES = ("gpt2", "gemma2", "gpt_neox", "qwen3_moe", "llama")
METRIC = check_metric("logit_diff")


def effects(model, batch, receivers, direction):
    ports = receivers_of(receivers, model.anatomy)
    found = PathSweep(Setting(model, batch, METRIC, direction), ports).effects()
    return dict(zip((s.name for s in senders_to(ports, model.anatomy)), found, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_into_one_port_it_is_the_exact_effect_of_the_edge(family, direction):
    model = families.opened(family)
    batch = Batch.of(model, families.make_pairs(3))
    runs = definitions.Runs.of(model, batch, direction)
    for receiver in ("a1.h1<q>", "a1.h0<k>", "a1.h2<v>", "m1", "logits"):
        for sender, effect in effects(model, batch, [receiver], direction).items():
            exact = definitions.exact_edge(runs, parse_edge(f"{sender}->{receiver}"))
            assert torch.allclose(effect, exact, atol=1e-9), (sender, receiver)


def by_circuit(model, batch, sender, receivers, direction):
    """The same as a run of a circuit in which only the path, and what it reaches, is clean.

    The sender is what it is in the giving run, since all that is not after it is on; what comes
    after it reads it by the path alone, and is connected among itself.
    """
    giving = batch
    if direction == "noising":
        giving = replace(batch, clean=batch.corrupted, corrupted=batch.clean)
    anatomy, at = model.anatomy, stage(sender, model.anatomy)
    path = {edge.name for edge in edges_to(receivers, anatomy) if edge.sender == sender}
    on = [
        edge
        for edge in edges(anatomy)
        if edge.name in path
        or stage(edge.receiver, anatomy) <= at
        or stage(edge.sender, anatomy) > at
    ]
    runner = CircuitRunner(model, giving)
    patched = METRIC(runner.logits(EdgeSet.of(on, anatomy)), batch.pairs)
    base = METRIC(model.run(giving.corrupted, batch.mask), batch.pairs)
    return base - patched if direction == "noising" else patched - base


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_into_several_ports_it_is_the_run_of_a_circuit_with_the_paths_alone(family, direction):
    model = families.opened(family)
    batch = Batch.of(model, families.make_pairs(3))
    receivers = ["a0.h1", "m0", "a1.h0<q>", "a1.h2", "m1", "logits"]
    ports = receivers_of(receivers, model.anatomy)
    found = effects(model, batch, receivers, direction)
    assert len(found) > 5
    for sender in senders_to(ports, model.anatomy):
        slow = by_circuit(model, batch, sender, ports, direction)
        assert torch.allclose(found[sender.name], slow, atol=1e-9), sender
    assert max(float(effect.abs().max()) for effect in found.values()) > 1e-3


def test_names_that_are_no_receivers_are_all_named():
    anatomy = families.opened("gpt2").anatomy
    with pytest.raises(SiteError) as raised:
        receivers_of(["input", "a9.h0", "m0<q>", "a0.h0<x>", "a0.h0<q", "a0.h0@S"], anatomy)
    told = str(raised.value)
    assert "'input' is no receiver; receivers are heads, MLPs and logits" in told
    assert "this model has no site 'a9.h0'" in told
    assert "'m0<q>': only heads have ports" in told
    assert "'a0.h0<x>': only heads have ports, which are written <q>, <k> and <v>" in told
    assert "'a0.h0<q': only heads have ports" in told
    assert "'a0.h0@S' is no receiver" in told
    with pytest.raises(SiteError, match="name at least one"):
        receivers_of([], anatomy)
    assert len(receivers_of("a0.h0", anatomy)) == 3
    assert receivers_of(["logits", "logits"], anatomy) == receivers_of("logits", anatomy)
