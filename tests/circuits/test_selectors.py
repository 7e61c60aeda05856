"""The contract of every selector to choose a circuit, on a model whose circuit is known."""

import json
from functools import cache

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.discover import find, measure
from circuits.selection.select import SELECT
from circuits.selectors import SELECTORS
from patching.ablation.kinds import OUTSIDE
from patching.circuit_run import run_circuits
from patching.nodes.edges import edges
from patching.scoring import score
from tasks.errors import MethodError
from tests.known import interchange

CIRCUIT = set(interchange.CIRCUIT)
# What finds the known circuit of eight edges: so many edges, or what is large beside noise.
FINDS = {
    "top": ("top", 8),
    "threshold": ("threshold:least=1.0", None),
    "greedy": ("greedy", 8),
    "acdc": ("acdc:least=1.0+start=30", None),
    "iterated": ("iterated:steps=2+keep=0.5", 8),
    "bootstrap": ("bootstrap:times=200", 8),
}


@cache
def pairs():
    return interchange.pairs(24)


@cache
def scored():
    return score(interchange.opened(), pairs(), "secant")


def found(method="secant", **options):
    return circuits.discover(pairs(), interchange.opened(), method=method, **options)


def test_every_way_has_a_function_and_a_test():
    assert list(SELECT) == list(SELECTORS) == list(FINDS)


@pytest.mark.parametrize("name", SELECTORS)
def test_every_way_finds_the_known_circuit(name):
    select, top = FINDS[name]
    graph = found(select=select, top=top)
    assert set(graph) == CIRCUIT
    assert graph.info.selection.considered == len(list(edges(graph.info.anatomy)))
    assert graph.info.selection.kept == len(graph) == 8
    assert graph.info.selection.describe()


@pytest.mark.parametrize("name", SELECTORS)
def test_every_way_gives_the_same_circuit_again_and_is_pruned(name):
    select, top = FINDS[name]
    first, second = (found(select=select, top=top) for _ in range(2))
    assert list(first) == list(second)
    assert [first[edge] for edge in first] == [second[edge] for edge in second]
    assert set(first.prune()) == set(first)


@pytest.mark.parametrize(
    "name", [name for name, selector in SELECTORS.items() if "absolute" in selector.options]
)
def test_signed_choices_leave_out_what_hinders(name):
    graph = found(select=f"{name}:absolute=false", top=12 if SELECTORS[name].limited else None)
    assert not graph.info.selection.absolute
    hinders = [edge for edge in scored().names if scored()[edge] < -0.1]
    assert hinders
    assert not set(graph) & set(hinders)


@pytest.mark.parametrize(
    "name", [name for name, selector in SELECTORS.items() if "node" in selector.levels]
)
def test_ways_among_nodes(name):
    graph = found(select=name, level="node", top=6 if SELECTORS[name].limited else None)
    assert graph.level == "node"
    assert {"m0", "m1"} <= set(graph)


@pytest.mark.parametrize("ablation", OUTSIDE)
def test_pruning_measures_under_the_ablation_outside(ablation):
    """Where nothing may go, every score is what its edge is worth in the whole of the circuit."""
    graph = found(select="acdc:least=0+start=9", ablation=ablation)
    kept = list(graph)
    assert set(kept) >= CIRCUIT
    cut = [kept, *([edge for edge in kept if edge != left] for left in kept)]
    runs = run_circuits(interchange.opened(), pairs(), cut, ablation=ablation).mean(axis=1)
    for edge, without in zip(kept, runs[1:], strict=True):
        assert graph[edge] == pytest.approx(runs[0] - without, abs=1e-4)


def test_attributing_again_goes_by_the_ablation_outside():
    corrupted, zero = (
        found(select="iterated:steps=1+keep=0.5", top=40, ablation=name)
        for name in ("corrupted", "zero")
    )
    both = set(corrupted) & set(zero)
    assert both
    assert any(abs(corrupted[edge] - zero[edge]) > 0.1 for edge in both)


def test_a_way_uses_the_metric_asked_for():
    graph = found(select="acdc:least=0.1+start=20", metric="prob_diff")
    assert graph.info.metric == "prob_diff"
    assert max(graph[edge] for edge in graph) <= 2


def test_pruning_starts_with_the_strongest():
    some = found(select="acdc:least=1.0+start=20")
    assert set(some) == CIRCUIT
    assert some.info.selection.requested == 20


def test_several_methods_rank_by_their_mean_and_keep_error_bars():
    graph = found("secant,attribution,ig:steps=2", top=8)
    assert set(graph) == CIRCUIT
    assert graph.info.method == "mean of secant, attribution, ig"
    assert graph.info.options["ig"]["steps"] == 2
    assert all(edge.standard_error > 0 for edge in graph.scored_edges)


def test_the_mean_of_one_method_twice_keeps_both_options_apart():
    graph = found("secant,secant:share=0.5", top=8)
    assert [options["share"] for options in graph.info.options.values()] == [1.0, 0.5]


def test_prompts_drawn_again_are_scored_as_if_they_were_the_prompts():
    model, config = interchange.opened(), Config(None, None, "secant,attribution", top=8)
    rows = [3, 3, 0, 7, 11, 11, 11, 1]
    drawn = measure(config, model, pairs(), keep_rows=True).drawn(rows)
    afresh = measure(config, model, pairs()[rows])
    assert drawn.scores.values == pytest.approx(afresh.scores.values, abs=1e-5)
    assert drawn.scores.standard_error == pytest.approx(afresh.scores.standard_error, abs=1e-5)
    circuit = find(config, drawn, model, pairs()[rows])
    assert set(circuit) == set(find(config, afresh, model, pairs()[rows]))


def test_an_interval_needs_error_bars():
    alone = pairs()[:1]
    with pytest.raises(MethodError, match="no standard errors"):
        circuits.discover(alone, interchange.opened(), select="bootstrap:interval=normal")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--select", "greedy", "--top", "9"], "9 greedily from the logits by |score|"),
        (["--select", "acdc:least=0.5+start=20"], "each moving the metric by at least 0.5"),
        (["--select", "bootstrap", "--method", "secant,ig"], "interval over prompts excludes 0"),
    ],
)
def test_the_command_line_takes_and_records_a_choice(tmp_path, monkeypatch, options, told):
    monkeypatch.setenv("COLUMNS", "200")
    source = tmp_path / "sums.jsonl"
    source.write_text("\n".join(map(json.dumps, _rows(pairs()[:6]))))
    options += ["--model", str(interchange.SHIPPED), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["discover", str(source), *options])
    assert done.exit_code == 0, done.stderr
    assert told in done.stdout
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["select"] == options[1]
    assert told in record["circuit"]["selection"]


def _rows(pairs):
    columns = (pairs.clean, pairs.corrupted, pairs.answer, pairs.counterfactual)
    names = ("clean", "corrupted", "answer", "counterfactual")
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield dict(zip(names, row, strict=True))


def test_a_choice_that_is_not_there_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, words in (
        (["--select", "tops"], "did you mean 'top'?"),
        (["--ablation", "meen"], "did you mean 'mean'?"),
        (["--method", "secant,igg"], "did you mean 'ig'?"),
    ):
        done = CliRunner().invoke(app, ["discover", "ioi", *options])
        assert done.exit_code == 2
        assert words in done.stderr
        assert list(tmp_path.iterdir()) == []
