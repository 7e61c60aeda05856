"""The loop over prompts: its parts, and that no work depends on how prompts are cut into shards."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.directions import Groups, find_directions, find_reference
from circuits.edits.edit import scale
from circuits.edits.live import editing
from circuits.evaluation.completeness import completeness
from circuits.evaluation.outcomes import measure
from circuits.evaluation.running import Running
from circuits.knowledge import knowledge
from circuits.selection.prune import acdc, iterated
from circuits.studies.bias.localise import localise_bias
from circuits.studies.emotion.influence import find_influence
from circuits.studies.emotion.parts import ablated_head_scores
from circuits.unlikely import unlikely
from patching.ablation.estimates import conditional_means, estimate_means
from patching.ablation.kinds import get_ablation
from patching.ablation.run import baselines, effects_ablated, run_ablated
from patching.ablation.values import StandIns
from patching.ablation.waiting import cama
from patching.allforone import stages
from patching.allforone.subgraph import Subgraph, answers, metric_values, score_parts
from patching.capture import Prompts, capture, streams
from patching.circuit_edit import circuit_logits
from patching.circuit_run import run_circuits
from patching.inside import inside_scores
from patching.journal import Journal
from patching.model import Model
from patching.nodes.deltas import points_of
from patching.nodes.edges import edges
from patching.nodes.layout import layout_of
from patching.progress import Count
from patching.routers import routing
from patching.runs import Batch
from patching.scoring import prompt_scores, score
from patching.sites import INPUT, LOGITS
from patching.sweep import Sweep, added, out_of_memory, shards
from tasks.errors import MethodError
from tests import families

N, SHARD = 6, 2
CUDA, MPS = torch.OutOfMemoryError("no memory"), RuntimeError("MPS backend out of memory (1 GB)")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
OUTSIDE = ("corrupted", "zero", "mean", "mean-by-position", "mean-by-token", "resample:3")


def gpt2():
    return families.opened("gpt2")


def pairs(padding=(0, 2)):
    return families.make_pairs(N, padding=padding)


def level():
    """Pairs of one length that begin alike."""
    found = pairs((0,))
    alike = {name: getattr(found, name).copy() for name in ("clean", "corrupted")}
    for tokens in alike.values():
        tokens[:, 0] = 1
    return replace(found, **alike)


def prompts():
    return Prompts(pairs().clean, pairs().mask)


def some_edges():
    every = list(edges(gpt2().anatomy))
    return [e for e in every if e.sender == INPUT or e.receiver == LOGITS][::2]


def samples():
    drawn = np.random.default_rng(0).integers(0, 60, (7, level().clean.shape[1]))
    cells = {(at, int(token)) for row in level().clean for at, token in enumerate(row)}
    return {(at, token): np.insert(np.delete(drawn, at, 1), at, token, 1) for at, token in cells}


def subgraph(options):
    means = cama(gpt2(), level(), samples())
    return Subgraph.of(gpt2(), level(), means, True, -1, 1, options)


def driven(options):
    captured = capture(gpt2(), prompts())
    directions = find_directions(captured, Groups.of(list("aabbcc"), list("xyxyxy")))
    reference = find_reference(directions)
    found = find_influence(gpt2(), prompts(), directions, reference, batch_size=options)
    return found.finite, found.gradient


def pruned(options, ablation):
    running = Running.over(options, ablation=ablation).settled(gpt2(), pairs())
    found = acdc(gpt2(), pairs(), 1e-4, start=some_edges(), running=running)
    return [len(found), *(found[name] for name in found)]


def attributed_again(options):
    (found,) = iterated(gpt2(), pairs(), (20,), keep=0.3, steps=1, running=Running.over(options))
    return [len(found), *(found[name] for name in found)]


def scored(options, method="secant", **how):
    found = score(gpt2(), pairs(), method, batch_size=options, **how)
    return found.totals, found.squares, found.clean, found.corrupted


def means_of(by, options):
    found = estimate_means(gpt2(), pairs(), points_of(layout_of(gpt2().anatomy)), by, options)
    return *found.values.values(), found.counts


def conditional(options):
    points = stages.waiting_points(gpt2())
    return list(conditional_means(gpt2(), samples(), points, batch_size=options).values.values())


def run_alone(options, ablation):
    running = Running.over(options, ablation=ablation)
    found = measure(gpt2(), pairs(), [some_edges(), [], some_edges()[:3]], running)
    return found.metric, found.preferred, found.right


def halved(options):
    found = completeness(gpt2(), pairs(), some_edges(), cuts=2, running=Running.over(options))
    return found.circuit, found.model, found.without


def biased(options):
    found = localise_bias(gpt2(), pairs(), "#60", top=3, batch_size=options.batch_size)
    return [(part.gap, part.direct, part.effect) for part in found.parts]


def routed(options):
    found = routing(families.opened("mixtral"), pairs(), options)
    return found.alike, found.everywhere, found.tokens


def edited(options):
    with editing(gpt2(), scale("a0.h1", 0.5)) as live:
        return live.logits(pairs(), options.batch_size)


WORK = {
    "scores of edges": scored,
    "scores of nodes": lambda o: scored(o, level="node"),
    "exact scores": lambda o: scored(o, "activation", level="node"),
    "exact edges": lambda o: scored(o, "activation"),
    "scores by prompt": lambda o: prompt_scores(gpt2(), pairs(), "ig:steps=2", batch_size=o)[1],
    "plain runs": lambda o: baselines(gpt2(), pairs(), batch_size=o),
    "what the model knows": lambda o: knowledge(gpt2(), pairs(), o).known,
    "routers": routed,
    "scores inside": lambda o: inside_scores(gpt2(), pairs(), some_edges(), batch_size=o).totals,
    "attributing again": attributed_again,
    "completeness": halved,
    "attention cut": lambda o: run_ablated(gpt2(), pairs(), [], "self-peek:1", batch_size=o),
    "conditional means": conditional,
    "influence": driven,
    "full runs": lambda o: stages.full_run(gpt2(), level(), o),
    "subgraph": lambda o: answers(subgraph(o))[1],
    "subgraph's metric": lambda o: metric_values(subgraph(o), "logit_diff"),
    "subgraph's parts": lambda o: score_parts(subgraph(o), str).totals,
    **{f"means, {by}": lambda o, by=by: means_of(by, o) for by in ("all", "position", "token")},
    **{
        f"circuits, {ablation}": lambda o, ablation=ablation: run_circuits(
            gpt2(), pairs(), [some_edges(), []], batch_size=o, ablation=ablation
        )
        for ablation in OUTSIDE
    },
    **{f"tests, {name}": lambda o, name=name: run_alone(o, name) for name in OUTSIDE},
    **{f"pruning, {name}": lambda o, name=name: pruned(o, name) for name in OUTSIDE},
    **{
        f"ablated, {name}": lambda o, name=name: (
            run_ablated(gpt2(), pairs(), ["a0.h1", "m1@END"], name, batch_size=o),
            effects_ablated(gpt2(), pairs(), ["a0.h1", "m1"], name, batch_size=o),
        )
        for name in OUTSIDE
    },
}
"""Everything that is done in a loop over prompts and can be read back from a journal."""

LIVE = {
    "captures": lambda o: capture(gpt2(), prompts(), batch_size=o).z,
    "probes' streams": lambda o: streams(
        gpt2(), prompts(), np.full((N, 2), prompts().tokens.shape[1] - 1), o
    ),
    "circuit's edit": lambda o: circuit_logits(
        gpt2(), pairs(), some_edges(), keep=True, ablation="resample", batch_size=o.batch_size
    ),
    "edited model": edited,
    "bias": biased,
    "silenced heads": lambda o: ablated_head_scores(
        gpt2(), prompts(), torch.ones(2, 32, dtype=torch.float64), batch_size=o.batch_size
    ),
    "unlikely answers": lambda o: [len(unlikely(gpt2(), pairs(), o))],
}
"""The same for what gives tensors of the model's own device."""


def flat(values):
    if isinstance(values, tuple | list):
        return np.concatenate([flat(each) for each in values])
    return np.asarray(values, dtype=np.float64).ravel()


@pytest.mark.parametrize("name", [*WORK, *LIVE])
def test_one_shard_gives_what_three_give(name):
    work = (WORK | LIVE)[name]
    whole, parts = flat(work(Sweep(N))), flat(work(Sweep(SHARD)))
    assert whole.size
    np.testing.assert_allclose(parts, whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", [*WORK, *LIVE])
def test_where_memory_runs_out_the_work_goes_on(name, monkeypatch):
    work = (WORK | LIVE)[name]
    whole, embed, refused = flat(work(Sweep(N))), Model.embed, []

    def small(self, tokens, frame):
        if len(tokens) > SHARD:
            refused.append(len(tokens))
            raise CUDA
        return embed(self, tokens, frame)

    monkeypatch.setattr(Model, "embed", small)
    found = flat(work(Sweep(N)))
    assert refused
    np.testing.assert_allclose(found, whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", WORK)
def test_stopped_work_goes_on_and_gives_the_same_bytes(name, tmp_path, monkeypatch):
    """Stopped after every shard that is written, and begun again with the same journal."""
    work, path = WORK[name], tmp_path / "journal"
    whole = flat(work(Sweep(SHARD)))
    append, stops = Journal.append, 0

    class Stopped(BaseException):
        pass

    def stop(self, key, shard):
        append(self, key, shard)
        raise Stopped

    while True:
        journal = Journal(path, name)
        monkeypatch.setattr(Journal, "append", stop)
        try:
            found = flat(work(Sweep(SHARD, journal=journal)))
        except Stopped:
            stops += 1
        else:
            break
        finally:
            monkeypatch.setattr(Journal, "append", append)
            journal.close(done=False)
        if stops == 6:
            journal = Journal(path, name)
            found = flat(work(Sweep(SHARD, journal=journal)))
            journal.close(done=False)
            break
    assert stops >= (3 if "parts" not in name else 1)
    assert found.tobytes() == whole.tobytes()


def test_what_stands_in_does_not_depend_on_the_batch():
    """Settled for all prompts: a slice of them gets what it would get in the whole."""
    points = points_of(layout_of(gpt2().anatomy))
    for name in OUTSIDE[1:]:
        settled = StandIns.of(gpt2(), pairs(), get_ablation(name), points)
        whole = Batch.of(gpt2(), pairs())
        parts = [Batch.of(gpt2(), pairs()[at : at + SHARD], at) for at in range(0, N, SHARD)]
        every = settled.at(whole)
        for batch in parts:
            for point, value in settled.at(batch).items():
                wanted = every[point]
                if wanted.ndim and len(wanted) == N:
                    wanted = wanted[batch.rows, batch.dropped - whole.dropped :]
                torch.testing.assert_close(value, wanted.expand_as(value), rtol=0, atol=1e-12)


def halving(limit, error=CUDA):
    """Work on rows that fits for so many at a time."""
    tried = []

    def work(rows):
        tried.append((rows.start, rows.stop))
        if rows.stop - rows.start > limit:
            raise error
        return np.arange(rows.start, rows.stop)

    return work, tried


@pytest.mark.parametrize("error", [CUDA, MPS, CPU, MemoryError()])
def test_a_shard_that_does_not_fit_is_halved_and_so_are_those_after_it(error):
    work, tried = halving(2, error)
    spared = []
    found = [*shards(7, work, Sweep(5), spare=lambda: spared.append(1))]
    assert np.concatenate(found).tolist() == list(range(7))
    assert tried == [(0, 5), (0, 2), (2, 4), (4, 6), (6, 7)]
    assert len(spared) == 1
    work, tried = halving(0, error)
    with pytest.raises(type(error)):
        [*shards(4, work, Sweep(4))]
    assert tried == [(0, 4), (0, 2), (0, 1)]


def test_another_error_is_not_taken_for_a_lack_of_memory():
    assert not out_of_memory(RuntimeError("sizes do not match"))
    work, tried = halving(1, RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="do not match"):
        [*shards(4, work, Sweep(4))]
    assert tried == [(0, 4)]


def test_prompts_are_counted_once_whatever_memory_allows():
    seen = []
    options = Sweep(4, lambda *at: seen.append(at)).counting(12, "running")

    def work(rows):
        for _ in range(2):
            options.tell(rows.stop - rows.start)
            if rows.stop - rows.start > 2:
                raise CUDA
        return rows

    assert len([*shards(6, work, options, steps=2)]) == 3
    assert [done for done, _, _ in seen] == [0, 4, 6, 8, 10, 12]
    assert {at[1:] for at in seen} == {(12, "running")}
    shared = Count(None, 6, "both")
    for _ in range(2):
        [*shards(3, lambda rows: rows, Sweep(2, count=shared))]
    assert shared.done == 6


def test_sums_are_added_in_the_order_of_the_shards():
    parts = [(np.array([1e16, 1.0]), np.array(1)), (np.array([1.0, 2.0]), np.array(2))]
    sums, counts = added([*parts, (np.array([-1e16, 3.0]), np.array(3))])
    assert sums.tolist() == [(1e16 + 1.0) - 1e16, 6.0]
    assert counts == 6


@pytest.mark.parametrize("size", [0, -1, 2.5, None])
def test_a_batch_size_that_cannot_be_meant_is_refused(size):
    with pytest.raises(MethodError, match=f"at least 1, given {size}"):
        Sweep.of(size)
