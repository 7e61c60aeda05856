"""Running a circuit: every edge outside it carries the corrupted run.

Each receiver reads the corrupted residual stream plus, for every edge of the circuit into it, what
that sender now writes more than it did in the corrupted run. With all edges this is the clean run;
with none, the corrupted run (the definition used by EAP-IG and the MIB benchmark).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching import writes
from patching.anatomy import Anatomy
from patching.blocks import Block
from patching.forward import Record, head_outputs, write_mlp
from patching.frame import Frame
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.ops import Point
from patching.runs import Batch, batches
from patching.sites import PORTS, Edge, Site, parse_edge, ports, reaches, senders
from tasks.pairs import PromptPairs

Progress = Callable[[int, int, str], None]

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
    """Runs circuits on one batch whose corrupted run is computed once."""

    @torch.no_grad()
    def __init__(self, model: Model, batch: Batch) -> None:
        self.model = model
        self.batch = batch
        self.frame: Frame = model.frame(batch.mask)
        tap = Record(KINDS)
        x = model.embed(batch.corrupted, self.frame)
        model.run_from(0, tap("input", 0, x), self.frame, tap)
        self.off: dict[Point, Tensor] = tap.values
        self.clean_input = model.embed(batch.clean, self.frame)

    @torch.no_grad()
    def logits(self, wiring: Wiring) -> Float[Tensor, "b v"]:
        """Logits at the last position with only the wired edges carrying the clean run."""
        change = [(self.clean_input - self.off["input", 0])[:, None]]
        for block in self.model.blocks:
            layer = block.layer
            so_far = torch.cat(change, dim=1)
            heads = self._heads(block, wiring.heads[layer], so_far)
            if not self.model.anatomy.parallel:
                so_far = torch.cat([so_far, heads], dim=1)
            change += [heads, self._mlp(block, wiring.mlps[layer], so_far)]
        last = self.model.anatomy.n_layers
        at_end = torch.cat(change, dim=1)[:, :, -1]
        chosen = self._tensor(wiring.logits).to(at_end.dtype)
        return self.model.unembed(
            self.off["final_in", last] + torch.einsum("bud,u->bd", at_end, chosen)
        )

    def _tensor(self, mask: np.ndarray) -> Tensor:
        return torch.as_tensor(mask, device=self.model.device)

    def _heads(
        self, block: Block, wired: Bool[np.ndarray, "3 h u"], change: Float[Tensor, "b u s d"]
    ) -> Float[Tensor, "b h s d"]:
        """What every head of a layer writes more than in the corrupted run."""
        layer, running = block.layer, np.flatnonzero(wired.any((0, 2)))
        z_off = self.off["z", layer]
        if len(running) == 0:
            return z_off.new_zeros(len(z_off), z_off.shape[2], z_off.shape[1], change.shape[-1])
        q, k, v = (
            self._port(block, port, kind, wired[i], running, change)
            for i, (port, kind) in enumerate((("q", "q"), ("k", "k_read"), ("v", "v_read")))
        )
        z = z_off.clone()
        z[:, :, running] = head_outputs(block, q, k, v, self.frame)
        if block.ln1_post is None:
            return writes.head_writes(block, z - z_off, None)
        raw = block.attention_output(z)
        return writes.head_writes(block, z, raw) - writes.head_writes(
            block, z_off, self.off["attn_raw", layer]
        )

    def _port(
        self,
        block: Block,
        port: str,
        kind: str,
        wired: Bool[np.ndarray, "h u"],
        running: np.ndarray,
        change: Float[Tensor, "b u s d"],
    ) -> Float[Tensor, "b s r e"]:
        """Queries, keys or values of the running heads."""
        values = self.off[kind, block.layer][:, :, running]
        fed = np.flatnonzero(wired[running].any(1))
        if len(fed) == 0:
            return values
        heads = running[fed]
        chosen = self._tensor(wired[heads][:, : change.shape[1]]).to(change.dtype)
        x = self.off["resid_pre", block.layer][:, None] + torch.einsum(
            "busd,hu->bhsd", change, chosen
        )
        made = torch.einsum("bhsd,hde->bshe", block.ln1(x), block.input_weight(port)[heads])
        bias = block.input_bias(port)
        values = values.clone()
        values[:, :, fed] = made if bias is None else made + bias[heads]
        return values

    def _mlp(
        self, block: Block, wired: Bool[np.ndarray, " u"], change: Float[Tensor, "b u s d"]
    ) -> Float[Tensor, "b 1 s d"]:
        off = self.off["mlp_out", block.layer]
        if not wired.any():
            return torch.zeros_like(off)[:, None]
        chosen = self._tensor(wired[: change.shape[1]]).to(change.dtype)
        x = self.off["mlp_in", block.layer] + torch.einsum("busd,u->bsd", change, chosen)
        return (write_mlp(block, x) - off)[:, None]


def run_circuits(
    model: Model,
    pairs: PromptPairs,
    circuits: Sequence[Iterable[str | Edge]],
    metric: str | Metric = "logit_diff",
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Float[np.ndarray, "circuits n"]:
    """The metric of every prompt in every circuit, everything outside it corrupted."""
    wirings = [Wiring.of(edges, model.anatomy) for edges in circuits]
    checked: CheckedMetric = check_metric(metric)
    found = []
    done = 0
    for batch in batches(model, pairs, batch_size):
        runner = CircuitRunner(model, batch)
        rows = [checked(runner.logits(wiring), batch.pairs) for wiring in wirings]
        found.append(torch.stack(rows).double().cpu().numpy())
        done += len(batch)
        if progress:
            progress(done, len(pairs), "running circuits")
    return np.concatenate(found, axis=1)


def run_circuit(
    model: Model,
    pairs: PromptPairs,
    edges: Iterable[str | Edge],
    metric: str | Metric = "logit_diff",
    batch_size: int = 32,
) -> Float[np.ndarray, " n"]:
    """The metric of every prompt in one circuit, everything outside it corrupted."""
    return run_circuits(model, pairs, [edges], metric, batch_size)[0]
