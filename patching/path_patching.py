"""Path patching: the effect of one sender by its direct ways into chosen receivers, exactly.

    E(s -> R) = m(clean) - m(clean, every port of R reads s's output of the corrupted run)

for noising, and the mirror image for denoising (:mod:`patching.activation`). All ports of ``R``
change in the same run; what they change is computed on from there. Nothing else reads the sender's
other output: other heads and MLPs after the sender see it only as far as receivers pass it on
(Goldowsky-Dill et al. 2023; in Wang et al. 2022 the MLPs in between are recomputed as well, which
here are receivers of their own). With one port in ``R`` this is the exact effect of one edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from patching.activation import EDGE_KINDS, ExactSweep
from patching.anatomy import Anatomy
from patching.blocks import Block
from patching.forward import run_block, run_block_end
from patching.nodes.layout import layout_of
from patching.setting import Setting
from patching.sites import PORTS, Edge, Site, check_site, parse_site, reaches, stage
from tasks.errors import SiteError, all_faults

Port = tuple[Site, str | None]
_READS = {"q": "q", "k_read": "k", "v_read": "v"}


def receivers_of(names: str | Iterable[str], anatomy: Anatomy) -> tuple[Port, ...]:
    """Ports by their names: ``a9.h6<q>``, ``a9.h6`` for all three, ``m3``, ``logits``.

    Raises:
        SiteError: listing every name that is no receiver in this model, or nothing was named.
    """
    given = [names] if isinstance(names, str) else [*names]
    found: dict[Port, None] = {}
    faults = [] if given else ["name at least one, such as logits or a3.h0<q>"]
    for name in given:
        try:
            found |= dict.fromkeys(_ports(str(name), anatomy))
        except SiteError as error:
            faults.append(str(error))
    if faults:
        raise SiteError(all_faults("these receivers cannot be patched:", faults))
    return tuple(found)


def _ports(name: str, anatomy: Anatomy) -> list[Port]:
    base, _, rest = name.partition("<")
    port = rest.removesuffix(">") or None
    site = parse_site(base)
    if site.kind not in ("head", "mlp", "logits") or site.position is not None:
        raise SiteError(f"'{name}' is no receiver; receivers are heads, MLPs and logits")
    if port is not None and (site.kind != "head" or port not in PORTS or not name.endswith(">")):
        raise SiteError(f"'{name}': only heads have ports, which are written <q>, <k> and <v>")
    check_site(site, anatomy)
    if site.kind != "head":
        return [(site, None)]
    return [(site, each) for each in ([port] if port else PORTS)]


def senders_to(receivers: Sequence[Port], anatomy: Anatomy) -> tuple[Site, ...]:
    """What at least one of the receivers reads, in order of computation."""
    every = layout_of(anatomy).sending
    return tuple(s for s in every if any(reaches(s, site, anatomy) for site, _ in receivers))


@dataclass
class _Through:
    """A tap: the ports of some receivers read the stream without ``deltas``.

    ``stream`` is what the block that runs reads, at all positions.
    """

    block: Block
    stream: Float[Tensor, "rb s d"]
    deltas: Float[Tensor, "rb s d"]
    heads: dict[str, list[int]]
    mlp: bool

    def wants(self, kind: str, layer: int) -> bool:
        """Nothing that is costly to make."""
        del kind, layer
        return False

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """Change what the receivers of this block read."""
        del layer
        if kind == "mlp_in" and self.mlp:
            return (value - self.deltas[:, -value.shape[1] :]).to(value.dtype)
        heads = self.heads.get(_READS.get(kind, ""), [])
        if not heads:
            return value
        normed = self.block.ln1((self.stream - self.deltas).to(self.stream.dtype))
        made = {
            "q": self.block.queries,
            "k_read": lambda n: self.block.share(self.block.keys(n)),
            "v_read": lambda n: self.block.share(self.block.values(n)),
        }[kind](normed)
        changed = value.clone()
        changed[:, :, heads] = made[:, -value.shape[1] :, heads]
        return changed


class PathSweep(ExactSweep):
    """The exact effect of every sender by its ways into some receivers, on one batch."""

    def __init__(self, setting: Setting, receivers: Sequence[Port]) -> None:
        super().__init__(setting, EDGE_KINDS)
        self.receivers = tuple(receivers)

    @torch.no_grad()
    def effects(self) -> Float[Tensor, "senders b"]:
        """In the order of :func:`senders_to`. Senders of one stage share a forward pass."""
        anatomy, deltas = self.setting.model.anatomy, self._deltas()
        numbers = {site: i for i, site in enumerate(layout_of(anatomy).sending)}
        found = []
        every = senders_to(self.receivers, anatomy)
        for _, sites in groupby(every, key=lambda site: stage(site, anatomy)):
            some = [*sites]
            reached = [r for r in self.receivers if reaches(some[0], r[0], anatomy)]
            for chunk in deltas[[numbers[site] for site in some]].split(self.rows):
                found.append(self._patched(chunk, reached))
        return self.effect(torch.cat(found))

    def _patched(
        self, deltas: Float[Tensor, "r b s d"], reached: Sequence[Port]
    ) -> Float[Tensor, "r b"]:
        """The metric where the receivers read the stream without ``deltas``."""
        model, count = self.setting.model, deltas.shape[0]
        end = model.anatomy.n_layers
        start = min((site.layer for site, _ in reached if site.kind != "logits"), default=end)
        flat = deltas.flatten(0, 1)
        kind, layer = ("resid_pre", start) if start < end else ("resid_post", end - 1)
        x = self.kept.tail(kind, layer).repeat(count, 1, 1)
        for block in model.blocks[start:]:
            x = self._through(block, x, flat, reached, count)
        final = x[:, -1]
        if any(site.kind == "logits" for site, _ in reached):
            final = (final - flat[:, -1]).to(final.dtype)
        return self.kept.go_on("final_in", end, final.unflatten(0, (count, -1)))

    def _through(
        self, block: Block, x: Tensor, deltas: Tensor, reached: Sequence[Port], count: int
    ) -> Tensor:
        here = [(site, port) for site, port in reached if site.layer == block.layer]
        heads = {
            port: [site.unit for site, other in here if other == port and site.kind == "head"]
            for port in PORTS
        }
        mlp = any(site.kind == "mlp" for site, _ in here)
        tap = _Through(block, x, deltas, heads, mlp)
        frame, past = self.kept.frame.repeat(count), self.kept.past(block.layer, count)
        if block.layer == self.setting.model.anatomy.n_layers - 1:
            return run_block_end(block, x, frame, tap, past=past)
        return run_block(block, x, frame, tap, past=past)


def edges_to(receivers: Sequence[Port], anatomy: Anatomy) -> Iterator[Edge]:
    """The edges that are patched, sender by sender."""
    for sender in senders_to(receivers, anatomy):
        for site, port in receivers:
            if reaches(sender, site, anatomy):
                yield Edge(sender, site, port)
