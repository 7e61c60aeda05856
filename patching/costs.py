"""What scoring costs, counted in block passes: the forward pass of one layer over one whole prompt.

With ``L`` layers, prompts of ``w`` tokens whose runs first differ at token ``f``, and a point in
layer ``l``:

    exact      each site goes on from its layer and from ``f``:   (L - l) (w - f) / w
    estimate   ``ig`` on activations goes on from the layer, ``steps`` times there and back:
               steps (1 + B) (L - l) for each point, whatever the number of its sites

``B`` is a backward pass in forward passes. Counts depend on the model and the prompts and not on
the machine, so that a choice made by them is the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patching.anatomy import Anatomy
from patching.choice import ESTIMATE, Chosen
from patching.written import read_method
from tasks.pairs import PromptPairs

if TYPE_CHECKING:
    from patching.sitesets import SiteSet

BACKWARD = 2.0


def exact_blocks(sites: SiteSet, pairs: PromptPairs, anatomy: Anatomy) -> float:
    """Block passes of the exact effects of some sites, in one direction, per prompt."""
    width, first = pairs.clean.shape[1], first_token(pairs)
    total = 0.0
    for group, meant in sites.parts():
        reached = [not isinstance(at, int) or at < 0 or at >= first for at in sites.labels]
        total += float(meant[:, reached].sum()) * (anatomy.n_layers - group.point[1])
    return total * (width - first) / width


def estimate_blocks(sites: SiteSet, anatomy: Anatomy, steps: int) -> float:
    """Block passes of ``ig`` on activations for the same sites."""
    layers = [anatomy.n_layers - group.point[1] for group, _ in sites.parts()]
    return steps * (1 + BACKWARD) * float(sum(layers))


def first_token(pairs: PromptPairs) -> int:
    """The first column in which any prompt differs between its runs; 0 if none does."""
    return int((pairs.clean != pairs.corrupted).any(0).argmax())


def choose(wanted: SiteSet, pairs: PromptPairs, anatomy: Anatomy) -> Chosen:
    """Kind by kind, the exact effects where they cost no more than the estimate."""
    steps = int(read_method(ESTIMATE)[1]["steps"])
    ways: dict[bool, list[str]] = {True: [], False: []}
    cost = cost_exact = 2.0 * anatomy.n_layers
    for kind in wanted.kinds:
        some, _ = wanted.split([kind])
        exact = exact_blocks(some, pairs, anatomy)
        estimate = estimate_blocks(some, anatomy, steps)
        ways[exact <= estimate].append(kind)
        cost, cost_exact = cost + min(exact, estimate), cost_exact + exact
    return Chosen(tuple(ways[True]), tuple(ways[False]), cost, cost_exact)
