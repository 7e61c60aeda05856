"""The slow, plain definitions that the fast code is compared with.

Everything here runs the whole model once for every single patch, with a tap that replaces one
thing, and knows nothing of batching, resuming, tiles or closed forms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from patching.forward import Record, Tap, head_outputs, no_tap, read, write_mlp
from patching.metrics import CheckedMetric, check_metric
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.nodes.layout import layout_of
from patching.ops import PLAIN, Ops
from patching.runs import Batch
from patching.sites import PORTS, Edge, Site, parse_edge
from patching.sitesets import point_of, unit_axis


class Everything(Record):
    """A tap that keeps every value."""

    def __init__(self) -> None:
        super().__init__(())

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        self.values[kind, layer] = value
        return value

    def wants(self, kind: str, layer: int) -> bool:
        return True


def values(model: Model, batch: Batch, run: str) -> dict:
    """Every tapped value of one run."""
    tap = Everything()
    with torch.no_grad():
        model.run(batch.tokens(run), batch.mask, tap)
    return tap.values


def metric_from(
    model: Model,
    batch: Batch,
    start: Tensor,
    tap: Tap = no_tap,
    ops: Ops = PLAIN,
    metric: CheckedMetric | str = "logit_diff",
) -> Tensor:
    """The metric of a run that starts from an embedding."""
    checked = check_metric(metric) if isinstance(metric, str) else metric
    frame = model.frame(batch.mask)
    return checked(model.run_from(0, tap("input", 0, start), frame, tap, ops), batch.pairs)


@dataclass(frozen=True, eq=False)
class Runs:
    """Both runs of a batch, with every value: the one that receives patches, and the other."""

    model: Model
    batch: Batch
    direction: str
    here: dict
    there: dict

    @classmethod
    def of(cls, model: Model, batch: Batch, direction: str) -> Runs:
        """Run both sides."""
        sides = [values(model, batch, run) for run in ("clean", "corrupted")]
        here, there = sides if direction == "noising" else sides[::-1]
        return cls(model, batch, direction, here, there)

    def effect(self, patched: Tensor, base: Tensor) -> Tensor:
        """``E`` from the metric with and without the patch."""
        return base - patched if self.direction == "noising" else patched - base

    def run(self, tap: Tap = no_tap, ops: Ops = PLAIN) -> Tensor:
        """The metric of the receiving run under a tap."""
        with torch.no_grad():
            return metric_from(self.model, self.batch, self.here["input", 0], tap, ops)

    def delta(self, of) -> Tensor:
        """Clean minus corrupted of ``of(values)``."""
        change = of(self.here) - of(self.there)
        return change if self.direction == "noising" else -change


def select(site: Site, like: Tensor, columns: Tensor | None) -> Tensor:
    """Where a site lies in its point: one unit of it or all, at one column per prompt or at all."""
    kind = point_of(site)[0]
    chosen = torch.zeros_like(like, dtype=torch.bool)
    for row in range(len(like)):
        at = slice(None) if columns is None else slice(int(columns[row]), int(columns[row]) + 1)
        unit = slice(None) if site.unit < 0 else slice(site.unit, site.unit + 1)
        if unit_axis(kind) is None:
            chosen[row, at] = True
        elif kind == "pattern":
            chosen[row, unit, at] = True
        else:
            chosen[row, at, unit] = True
    return chosen


def exact_site(runs: Runs, site: Site, columns: Tensor | None = None, ops: Ops = PLAIN) -> Tensor:
    """E(s): the site alone takes its value of the other run."""
    point = point_of(site)

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if (kind, layer) != point:
            return value
        return torch.where(select(site, value, columns), runs.there[point], value)

    return runs.effect(runs.run(tap, ops), runs.run(ops=ops))


def sender_write(model: Model, found: dict, site: Site) -> Tensor:
    """What a sender writes to the residual stream in one run."""
    if site.kind == "input":
        return found["input", 0]
    if site.kind == "mlp":
        return found["mlp_out", site.layer]
    block = model.blocks[site.layer]
    raw = found["attn_raw", site.layer]
    if site.kind == "neuron":
        return neuron_write(block, found["mlp_post", site.layer], site.unit)
    return head_writes(block, found["z", site.layer], raw)[:, site.unit]


def through_edge(
    model: Model, batch: Batch, edge: Edge, here: dict, change: Tensor, ops: Ops = PLAIN
) -> Tap:
    """A tap that adds ``change`` to what the receiver's port, and nothing else, reads."""
    layer, unit = edge.receiver.layer, edge.receiver.unit

    def into_head() -> Tensor:
        block = model.blocks[layer]
        n = ops.norm(block.ln1, here["resid_pre", layer] + change, ("resid_pre", layer))
        parts = {kind: here[kind, layer] for kind in ("q", "k_read", "v_read")}
        if edge.port == "q":
            parts["q"] = read(block, "q", n, ops=ops)
        else:
            parts[f"{edge.port}_read"] = block.share(read(block, edge.port, n, ops=ops))
        frame = model.frame(batch.mask)
        return head_outputs(block, *parts.values(), frame, ops=ops)[:, :, unit]

    def tap(kind: str, at: int, value: Tensor) -> Tensor:
        if edge.receiver.kind == "head" and (kind, at) == ("z", layer):
            value = value.clone()
            value[:, :, unit] = into_head()
        if edge.receiver.kind == "mlp" and (kind, at) == ("mlp_in", layer):
            return value + change
        if edge.receiver.kind == "logits" and kind == "final_in":
            return value + change[:, -1]
        return value

    return tap


def exact_edge(runs: Runs, edge: Edge, ops: Ops = PLAIN) -> Tensor:
    """E(edge): the receiver's port alone reads the sender's output of the other run."""
    there, here = (sender_write(runs.model, v, edge.sender) for v in (runs.there, runs.here))
    with torch.no_grad():
        tap = through_edge(runs.model, runs.batch, edge, runs.here, there - here, ops)
        return runs.effect(runs.run(tap, ops), runs.run(ops=ops))


def slope_site(
    runs: Runs,
    site: Site,
    columns: Tensor | None = None,
    ops: Ops = PLAIN,
    start: Tensor | None = None,
) -> Tensor:
    """``delta . g``: the metric's rate of change as the site moves along clean minus corrupted."""
    point = point_of(site)
    delta = runs.delta(lambda found: found[point])
    step = torch.zeros(len(delta), dtype=delta.dtype, requires_grad=True)
    begin = runs.here["input", 0] if start is None else start

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if (kind, layer) != point:
            return value
        moved = step.view(-1, *[1] * (value.ndim - 1)) * delta
        return value + torch.where(select(site, value, columns), moved, 0.0)

    (rate,) = torch.autograd.grad(metric_from(runs.model, runs.batch, begin, tap, ops).sum(), step)
    return rate


def slope_edge(runs: Runs, edge: Edge, ops: Ops = PLAIN, start: Tensor | None = None) -> Tensor:
    """``delta . g``: the metric's rate of change as the port alone reads a moving sender."""
    delta = runs.delta(lambda found: sender_write(runs.model, found, edge.sender))
    step = torch.zeros(len(delta), dtype=delta.dtype, requires_grad=True)
    begin, here = runs.here["input", 0], runs.here
    if start is not None:
        tap, begin = Everything(), start
        with torch.no_grad():
            metric_from(runs.model, runs.batch, start, tap)
        here = tap.values
    tap = through_edge(runs.model, runs.batch, edge, here, step[:, None, None] * delta, ops)
    (rate,) = torch.autograd.grad(metric_from(runs.model, runs.batch, begin, tap, ops).sum(), step)
    return rate


def along(slope, runs: Runs, target: Site | Edge, steps: int) -> Tensor:
    """A slope averaged over midpoints of the line between the two embeddings."""
    ends = runs.there["input", 0], runs.here["input", 0]
    starts = [torch.lerp(*ends, (step + 0.5) / steps) for step in range(steps)]
    return torch.stack([slope(runs, target, start=start) for start in starts]).mean(0)


class Frozen(Ops):
    """The model with every coefficient kept as it was in one run, which makes it linear.

    Norms keep their scale, activation functions their ratio ``f(x)/x``, gates and attention
    patterns their value; the soft-cap of the logits keeps its tangent.
    """

    def __init__(self, here: dict) -> None:
        self.here = here

    def norm(self, norm, x, point):
        bias = getattr(norm.module, "bias", None)
        out = norm.centre(x) / norm.scale(self.here[point]) * norm.weight
        return out if bias is None else out + bias

    def activation(self, act, x, point):
        kept = self.here[point]
        return x * (act(kept) / kept)

    def gated(self, act, gate, up, point):
        return act(self.here[point]) * up

    def softcap(self, x, cap, point):
        kept = torch.tanh(self.here[point] / cap)
        return cap * kept + (1 - kept**2) * (x - self.here[point])

    def softmax(self, scores, point, sinks=None):
        return self.here["pattern", point[1]]


def neuron_write(block: Block, post: Tensor, unit: int) -> Tensor:
    """One neuron's share of what the MLP writes, with the post-norm's scale of that whole."""
    alone = torch.zeros_like(post)
    alone[..., unit] = post[..., unit]
    share = alone @ block.W_out.to(post.dtype)
    norm = block.ln2_post
    if norm is None:
        return share
    return norm.centre(share) / norm.scale(block.neurons_output(post)) * norm.weight


def circuit_metric(model: Model, batch: Batch, edges: Iterable[Edge | str]) -> Tensor:
    """The metric in a circuit: each part recomputed from what it reads, straight from the words.

    A part reads the corrupted residual stream and, for every edge of the circuit into it, the
    difference between what the sender now writes and what it wrote in the corrupted run.
    """
    wired = {parse_edge(edge) if isinstance(edge, str) else edge for edge in edges}
    off, frame = values(model, batch, "corrupted"), model.frame(batch.mask)
    points = {"mlp": "mlp_in", "neuron": "mlp_in", "head": "resid_pre", "logits": "final_in"}
    fine = any(edge.receiver.kind == "neuron" or edge.sender.kind == "neuron" for edge in wired)
    layout = layout_of(model.anatomy, "neurons" if fine else "heads")
    sending = [group.site(unit) for group in layout.senders for unit in range(group.count)]

    def reads(receiver: Site, port: str | None) -> Tensor:
        layer = model.anatomy.n_layers if receiver.kind == "logits" else receiver.layer
        x = off[points[receiver.kind], layer]
        for sender in sending:
            if Edge(sender, receiver, port) in wired:
                change = output(sender) - sender_write(model, off, sender)
                x = x + (change[:, -1] if receiver.kind == "logits" else change)
        return x

    @cache
    def head_output(head: Site) -> Tensor:
        block = model.blocks[head.layer]
        q, k, v = (block.ln1(reads(head, port)) for port in PORTS)
        parts = block.queries(q), block.share(block.keys(k)), block.share(block.values(v))
        return head_outputs(block, *parts, frame)[:, :, head.unit]

    @cache
    def neuron_output(neuron: Site) -> Tensor:
        tap = Record(["mlp_post"])
        write_mlp(model.blocks[neuron.layer], reads(neuron, None), tap)
        return tap.values["mlp_post", neuron.layer][..., neuron.unit]

    @cache
    def output(sender: Site) -> Tensor:
        layer = sender.layer
        if sender.kind == "input":
            return model.embed(batch.clean, frame)
        block = model.blocks[layer]
        if sender.kind == "mlp":
            return write_mlp(block, reads(sender, None))
        if sender.kind == "neuron":
            every = [Site("neuron", layer, unit) for unit in range(model.anatomy.d_mlp)]
            post = torch.stack([neuron_output(one) for one in every], dim=-1)
            return neuron_write(block, post, sender.unit)
        units = range(model.anatomy.n_heads)
        z = torch.stack([head_output(Site("head", layer, unit)) for unit in units], dim=2)
        return head_writes(block, z, block.attention_output(z))[:, sender.unit]

    with torch.no_grad():
        logits = model.unembed(reads(Site("logits"), None))
        return check_metric("logit_diff")(logits, batch.pairs)


def placed_metric(model: Model, batch: Batch, edges: Iterable[str], at: dict) -> Tensor:
    """The metric in a circuit at places, token by token, straight from the words.

    ``at`` says by label which token of each prompt is in the place: a bool ``[b, s]``.
    """
    stay, cross = set(), set()
    for edge in map(parse_edge, edges):
        ends = edge.sender.at(None), edge.receiver.at(None)
        where = edge.sender.position, edge.receiver.position
        (cross if ends[0] == ends[1] else stay).add((*ends, edge.port, *where))
    off, frame = values(model, batch, "corrupted"), model.frame(batch.mask)
    points = {"mlp": "mlp_in", "head": "resid_pre", "logits": "final_in"}
    layout = layout_of(model.anatomy)
    sending = [group.site(unit) for group in layout.senders for unit in range(group.count)]

    def reads(receiver: Site, port: str | None) -> Tensor:
        layer = model.anatomy.n_layers if receiver.kind == "logits" else receiver.layer
        x = off[points[receiver.kind], layer]
        for sender in sending:
            for label, tokens in at.items():
                if (sender, receiver, port, label, label) not in stay:
                    continue
                change = (output(sender) - sender_write(model, off, sender)) * tokens[:, :, None]
                x = x + (change[:, -1] if receiver.kind == "logits" else change)
        return x

    @cache
    def head_output(head: Site) -> Tensor:
        block = model.blocks[head.layer]
        q, k, v = (block.ln1(reads(head, port)) for port in PORTS)
        parts = block.queries(q), block.share(block.keys(k)), block.share(block.values(v))
        tap = Record(["pattern"])
        head_outputs(block, *parts, frame, tap)
        now = tap.values["pattern", head.layer][:, head.unit], parts[2][:, :, head.unit]
        then = off["pattern", head.layer][:, head.unit], off["v_read", head.layer][:, :, head.unit]
        z = off["z", head.layer][:, :, head.unit].clone()
        for query, into in at.items():
            for source, of in at.items():
                if (head, head, "v", source, query) not in cross:
                    continue
                carried = (into[:, :, None] & of[:, None, :]).to(z.dtype)
                for (pattern, v), sign in ((now, 1), (then, -1)):
                    z += sign * torch.einsum("bqk,bke->bqe", pattern * carried, v)
        return z

    @cache
    def output(sender: Site) -> Tensor:
        layer = sender.layer
        if sender.kind == "input":
            return model.embed(batch.clean, frame)
        block = model.blocks[layer]
        if sender.kind == "mlp":
            return write_mlp(block, reads(sender, None))
        units = range(model.anatomy.n_heads)
        z = torch.stack([head_output(Site("head", layer, unit)) for unit in units], dim=2)
        return head_writes(block, z, block.attention_output(z))[:, sender.unit]

    with torch.no_grad():
        logits = model.unembed(reads(Site("logits"), None))
        return check_metric("logit_diff")(logits, batch.pairs)
