"""Attribution graphs from Python: which tokens and latents make the next token, and how.

1. Every MLP is taken apart by its transcoder, at one prompt or at a pair of prompts.
2. Direct effects between tokens, active latents, error terms and the likely next tokens are
   computed; they are exact (:mod:`patching.traces.replaced`).
3. The most influential nodes and edges are kept (:mod:`patching.traces.influence`), as a circuit
   that is drawn, saved and exported as any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.dictionaries.study import read_all
from circuits.dictionaries.trace_result import KIND, Trace
from circuits.output import Output, written
from tasks.errors import MethodError, TaskError, all_faults

if TYPE_CHECKING:
    import numpy as np

    from circuits.clock import Progress
    from graphs import CircuitGraph
    from patching.dictionaries.dictionary import Dictionary
    from patching.model import Model
    from patching.traces.graph import Traced
    from patching.traces.influence import Pruned

REPORT = "trace.json"
FORMATS = {"circuit.json": "json", "circuit.html": "html", "neuronpedia.json": "neuronpedia"}
FILES = re.compile("|".join(re.escape(name) for name in (REPORT, *FORMATS)))
OUTPUT = Output("trace", REPORT, KIND, FILES)


def trace(
    model: Model | str,
    prompt: str | Sequence[int],
    dictionaries: Iterable[str | Dictionary],
    *,
    corrupted: str | Sequence[int] | None = None,
    targets: Sequence[str | int] = (),
    bos: bool | None = None,
    most: int = 7500,
    node_share: float = 0.8,
    edge_share: float = 0.98,
    batch_size: int = 32,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """The attribution graph of what a model says after a prompt.

    ``dictionaries`` are transcoders of MLPs; an MLP without one counts as error. With ``corrupted``
    (as many tokens) the graph is of the difference between the two prompts, with paths through
    queries and keys in it. ``targets`` are next tokens to explain, as text or ids; without any, the
    likeliest. Nodes and edges that together have ``node_share`` and ``edge_share`` of the influence
    are kept. ``most`` latents get a row; what the others write counts as error.

    >>> made = circuits.train_dictionary(
    ...     model, "m1", kind="transcoder", latents=64, k=8, steps=40, tokens=2000, n=8
    ... )
    >>> circuits.trace(model, "When Mary and John went to the park,", [made.dictionary])
    Trace(... nodes, ... edges, replacement ...)

    Raises:
        SiteError, FormatError: a dictionary that is no transcoder, does not fit or cannot be read.
        MethodError: a share or a number that cannot be meant.
        TaskError: a prompt that the model cannot read, prompts of different lengths, or a target
            that is not one token.
        RunError: a folder that exists and may not be replaced.
    """
    from circuits.models import load_model
    from patching.traces.graph import trace_prompt
    from patching.traces.replaced import Replaced, as_ids

    _check(most, node_share, edge_share, batch_size)
    read = read_all(dictionaries)
    with OUTPUT.reserved(None if out is None else Path(out), force):
        opened = load_model(model)
        rows = [_ids(opened, text, bos) for text in (prompt, corrupted) if text is not None]
        other = as_ids(opened, rows[1]) if len(rows) > 1 else None
        replaced = Replaced.of(opened, as_ids(opened, rows[0]), read, other)
        logits = [_target(opened, each) for each in targets]
        traced = trace_prompt(replaced, logits, most, batch_size, progress)
        if progress is not None:
            progress(0, 0, "pruning")
        found = _result(opened, traced, prompt, corrupted, node_share, edge_share)
        if out is not None:
            _write(Path(out), found)
    return found


def _check(most: int, node_share: float, edge_share: float, batch_size: int) -> None:
    from tasks.errors import number_faults

    faults = number_faults(("most", most, 1), ("batch size", batch_size, 1))
    for name, share in (("nodes", node_share), ("edges", edge_share)):
        if not 0 < share <= 1:
            faults.append(f"the share of {name} is {share}; it is above 0 and at most 1")
    if faults:
        raise MethodError(all_faults("a prompt cannot be traced so:", faults))


def _ids(model: Model, text: str | Sequence[int], bos: bool | None) -> list[int]:
    from tasks.tokenize import encode

    if not isinstance(text, str):
        return [int(token) for token in text]
    if model.tokenizer is None:
        raise TaskError("a prompt is text, and this model has no tokenizer; give token ids")
    return list(encode(model.tokenizer, text, bos))


def _target(model: Model, target: str | int) -> int:
    from tasks.tokenize import single_token, why_not_single

    if isinstance(target, int):
        if not 0 <= target < model.vocabulary_size:
            raise TaskError(
                f"token {target} is outside this model's vocabulary of {model.vocabulary_size}"
            )
        return target
    if model.tokenizer is None:
        raise TaskError("a target is text, and this model has no tokenizer; give token ids")
    token = single_token(model.tokenizer, target)
    if token is None:
        raise TaskError(why_not_single(model.tokenizer, target))
    return token


def _result(
    model: Model,
    traced: Traced,
    prompt: str | Sequence[int],
    corrupted: str | Sequence[int] | None,
    node_share: float,
    edge_share: float,
) -> Trace:
    from patching.traces.influence import folded, graph_scores, prune

    whole = traced.adjacency
    pruned, scores = prune(whole, node_share, edge_share), graph_scores(whole)
    part = graph_scores(folded(whole, pruned.kept))
    names = {int(i): whole.nodes.site(int(i)).name for i in pruned.kept.nonzero()[0]}
    about = {"prompt": _text(model, prompt), "node_share": node_share}
    options = {
        "edge_share": edge_share,
        "corrupted": None if corrupted is None else _text(model, corrupted),
        "dictionaries": _origins(traced),
    }
    return Trace(
        circuit=_circuit(model, traced, pruned, names, about, options),
        influence={name: float(pruned.influence[i]) for i, name in names.items()},
        replacement=scores.replacement,
        completeness=scores.completeness,
        pruned_replacement=part.replacement,
        gap=whole.gap,
        active=traced.active,
        paired=traced.replaced.paired,
        whole=whole,
    )


def _text(model: Model, prompt: str | Sequence[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    return "".join(_word(model, token) for token in prompt)


def _word(model: Model, token: int) -> str:
    if model.tokenizer is None:
        return f"#{int(token)}"
    return str(model.tokenizer.decode([int(token)]))


def _origins(traced: Traced) -> list[dict[str, Any]]:
    layers = [layer.dictionary for layer in traced.replaced.clean.layers]
    return [
        {"place": each.name, "latents": each.n_latents, "sha256": each.origin.get("sha256", "")}
        for each in layers
        if each is not None
    ]


def _circuit(
    model: Model,
    traced: Traced,
    pruned: Pruned,
    names: dict[int, str],
    about: dict[str, Any],
    options: dict[str, Any],
) -> CircuitGraph:
    """The pruned graph as a circuit, with notes on its nodes."""
    from circuits.models import name_of
    from graphs import CircuitGraph
    from graphs.info import CircuitInfo, Selection
    from graphs.parts import ScoredEdge, ScoredNode
    from graphs.trace_notes import FIELD, TraceNotes
    from patching.sites import Edge

    nodes, paired = traced.adjacency.nodes, traced.replaced.paired
    sites = {number: nodes.site(number) for number in names}
    edges = [
        ScoredEdge(Edge(sites[source], sites[target]), float(effect))
        for target, source, effect in zip(
            pruned.rows.tolist(), pruned.columns.tolist(), pruned.effects, strict=True
        )
    ]
    tokens = [_word(model, token) for token in traced.replaced.ids.tolist()]
    notes = TraceNotes(
        tokens=tuple(tokens),
        nodes={name: _numbers(traced, pruned, number) for number, name in names.items()},
        words=_words(model, traced, names),
        **about,
    )
    info = CircuitInfo(
        anatomy=model.anatomy,
        task="trace",
        method="direct effects, two-run secants" if paired else "direct effects",
        metric="change of what is read" if paired else "part of what is read",
        prompts=1,
        model=name_of(model.path),
        model_hash=model.hash,
        options={
            **options,
            "places": {str(at): token for at, token in enumerate(tokens)},
            FIELD: notes.to_json(),
        },
        selection=Selection(
            "influence", considered=int((traced.adjacency.effects != 0).sum()), kept=len(edges)
        ),
    )
    return CircuitGraph(info, edges, [ScoredNode(site) for site in sites.values()])


def _numbers(traced: Traced, pruned: Pruned, number: int) -> dict[str, float]:
    from patching.traces.nodes import LOGIT, TOKEN

    nodes = traced.adjacency.nodes
    kind, value = int(nodes.kind[number]), float(nodes.value[number])
    found = {"influence": float(pruned.reached[number])}
    if kind == LOGIT:
        found["probability"] = value
    elif kind != TOKEN:
        found["activation"] = value
    return found


def _words(model: Model, traced: Traced, names: dict[int, str]) -> dict[str, str]:
    """The texts of tokens and logits."""
    from patching.traces.nodes import LOGIT, TOKEN

    nodes = traced.adjacency.nodes
    kinds: np.ndarray = nodes.kind
    return {
        name: _word(model, int(nodes.unit[number]))
        for number, name in names.items()
        if int(kinds[number]) in (TOKEN, LOGIT)
    }


def _write(folder: Path, found: Trace) -> None:
    with written(folder, OUTPUT.check) as partial:
        text = json.dumps(found.to_json(), indent=2)
        (partial / REPORT).write_text(text + "\n", encoding="utf-8")
        for name, form in FORMATS.items():
            found.circuit.save(partial / name, form)
