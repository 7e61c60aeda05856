"""Running a circuit: every edge outside it carries what stands in for its sender.

Each receiver reads the residual stream of the ablated model plus, for every edge of the circuit
into it, what that sender now writes more than what stands in for it. With all edges this is the
clean run; with none, every sender is ablated. By default the corrupted run stands in (the
definition used by EAP-IG and the MIB benchmark); any other ablation does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.ablation.kinds import Ablation, outside
from patching.ablation.means import MeanActivations
from patching.ablation.values import Replace, StandIns
from patching.anatomy import Anatomy
from patching.forward import Record, chain, no_tap
from patching.frame import Frame
from patching.metrics import Metric, check_metric
from patching.model import Model
from patching.ops import Point
from patching.progress import Progress
from patching.runs import Batch
from patching.sites import PORTS, Edge, Site, parse_edge, ports, reaches, senders
from patching.sweep import PLAIN, Sweep, sweep
from patching.wired_run import Watch, WiredRun, read_on
from tasks.pairs import PromptPairs

KINDS = (
    *("input", "resid_pre", "q", "k_read", "v_read", "z", "attn_raw", "mlp_in", "mlp_out"),
    "final_in",
)


@dataclass(frozen=True)
class Wiring:
    """Which sender each port reads from the circuit: a boolean row per port.

    ``heads[layer]`` is ``[3, n_heads, senders]`` in the order q, k, v; ``mlps[layer]`` and
    ``logits`` are ``[senders]``.
    """

    heads: tuple[Bool[np.ndarray, "3 h u"], ...]
    mlps: tuple[Bool[np.ndarray, " u"], ...]
    logits: Bool[np.ndarray, " u"]

    @classmethod
    def of(cls, edges: Iterable[str | Edge], anatomy: Anatomy) -> Wiring:
        """The wiring of a set of edges.

        Raises:
            SiteError: an edge that this model cannot have.
        """
        index = {site: i for i, site in enumerate(senders(anatomy))}
        layers, count = anatomy.n_layers, len(index)
        heads = np.zeros((layers, 3, anatomy.n_heads, count), dtype=bool)
        mlps = np.zeros((layers + 1, count), dtype=bool)
        for edge in edges:
            found = parse_edge(edge if isinstance(edge, str) else edge.name, anatomy)
            sender = index[found.sender]
            receiver = found.receiver
            if receiver.kind == "head":
                assert found.port is not None
                heads[receiver.layer, PORTS.index(found.port), receiver.unit, sender] = True
            else:
                mlps[layers if receiver.kind == "logits" else receiver.layer, sender] = True
        return cls(tuple(heads), tuple(mlps[:-1]), mlps[-1])

    @classmethod
    def full(cls, anatomy: Anatomy) -> Wiring:
        """All edges that the model can have."""
        sending, layers = senders(anatomy), range(anatomy.n_layers)

        def reading(receiver: Site) -> Bool[np.ndarray, " u"]:
            return np.array([reaches(sender, receiver, anatomy) for sender in sending])

        shape = (3, anatomy.n_heads, len(sending))
        return cls(
            tuple(np.broadcast_to(reading(Site("head", layer, 0)), shape) for layer in layers),
            tuple(reading(Site("mlp", layer)) for layer in layers),
            reading(Site("logits")),
        )

    def without(self, edges: Iterable[str | Edge], anatomy: Anatomy) -> Wiring:
        """The wiring less some edges.

        Raises:
            SiteError: an edge that this model cannot have.
        """
        cut = Wiring.of(edges, anatomy)
        return Wiring(
            tuple(mine & ~its for mine, its in zip(self.heads, cut.heads, strict=True)),
            tuple(mine & ~its for mine, its in zip(self.mlps, cut.mlps, strict=True)),
            self.logits & ~cut.logits,
        )


def induced_edges(nodes: Iterable[Site], anatomy: Anatomy) -> list[Edge]:
    """All edges among some nodes, with the logits among the receivers."""
    kept = set(nodes)
    return [
        Edge(sender, receiver, port)
        for receiver, port in ports(anatomy)
        if receiver in kept or receiver.kind == "logits"
        for sender in senders(anatomy)
        if sender in kept and reaches(sender, receiver, anatomy)
    ]


class CircuitRunner:
    """Runs circuits on one batch whose ablated run is computed once.

    ``standing_in`` holds what stands in for every sender, at the points of :func:`sender_points`;
    without it the corrupted run does.
    """

    @torch.no_grad()
    def __init__(
        self, model: Model, batch: Batch, standing_in: Mapping[Point, Tensor] | None = None
    ) -> None:
        self.model = model
        self.batch = batch
        self.frame: Frame = model.frame(batch.mask)
        kept = Record(KINDS)
        tap = chain(no_tap if standing_in is None else Replace(standing_in), kept)
        x = model.embed(batch.corrupted, self.frame)
        model.run_from(0, tap("input", 0, x), self.frame, tap)
        self.off: dict[Point, Tensor] = kept.values
        self.clean_input = model.embed(batch.clean, self.frame)

    @torch.no_grad()
    def logits(self, wiring: Wiring) -> Float[Tensor, "b v"]:
        """Logits at the last position with only the wired edges carrying the clean run."""
        return self.run(wiring)

    def run(
        self, wiring: Wiring, strength: float = 1.0, watch: Watch = read_on
    ) -> Float[Tensor, "b v"]:
        """The same where every wired edge carries ``strength`` of its change, with gradients.

        ``watch`` is told of everything that ports read, and returns what they read instead.
        """
        model, frame, off = self.model, self.frame, self.off
        return WiredRun(model, frame, off, self.clean_input, wiring, strength, watch).logits()


def run_circuits(
    model: Model,
    pairs: PromptPairs,
    circuits: Sequence[Iterable[str | Edge]],
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 32,
    progress: Progress | None = None,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, "circuits n"]:
    """The metric of every prompt in every circuit, everything outside it ablated.

    Means are those of the pairs' clean prompts unless ``means`` of another prompt set are given.

    Raises:
        SiteError: an edge that this model cannot have.
        MethodError: an ablation that does not exist or cannot stand in for every sender, or means
            that do not fit.
    """
    wirings = [Wiring.of(edges, model.anatomy) for edges in circuits]
    options = Sweep.of(batch_size, progress)
    return run_wirings(model, pairs, wirings, metric, options, ablation, means)


def settled_runner(
    model: Model,
    pairs: PromptPairs,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
    options: Sweep = PLAIN,
) -> Callable[[Batch], CircuitRunner]:
    """Makes a runner of a batch, with what stands in outside its circuits settled for all pairs.

    Raises:
        MethodError: as for :func:`run_circuits`.
    """
    if (kind := outside(ablation)).kind == "corrupted":
        return lambda batch: CircuitRunner(model, batch)
    standing = StandIns.of(model, pairs, kind, sender_points(model.anatomy), means, options)
    return lambda batch: CircuitRunner(model, batch, standing.at(batch))


def run_wirings(
    model: Model,
    pairs: PromptPairs,
    wirings: Sequence[Wiring],
    metric: str | Metric = "logit_diff",
    options: Sweep = PLAIN,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, "circuits n"]:
    """As :func:`run_circuits`, for circuits that are wirings already."""
    checked = check_metric(metric)
    runner_of = settled_runner(model, pairs, ablation, means, options)
    options = options.counting(len(wirings) * len(pairs), "running circuits")

    def work(batch: Batch) -> Float[np.ndarray, "circuits b"]:
        runner, rows = runner_of(batch), []
        for wiring in wirings:
            rows.append(checked(runner.logits(wiring), batch.pairs))
            options.tell(len(batch))
        return torch.stack(rows).double().cpu().numpy()

    return np.concatenate([*sweep(model, pairs, work, options, len(wirings))], axis=1)


def sender_points(anatomy: Anatomy) -> list[Point]:
    """The points that hold what every sender writes: the input, all heads, all MLPs."""
    inner = [(kind, layer) for layer in range(anatomy.n_layers) for kind in ("z", "mlp_out")]
    return [("input", 0), *inner]


def run_circuit(
    model: Model,
    pairs: PromptPairs,
    edges: Iterable[str | Edge],
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 32,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, " n"]:
    """The metric of every prompt in one circuit, everything outside it ablated."""
    return run_circuits(model, pairs, [edges], metric, batch_size, None, ablation, means)[0]
