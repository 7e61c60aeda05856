"""AutoCircuit's MicroModel, whose patched outputs can be worked out by hand.

Two layers of two heads each multiply what they read by [1, 2] and by [3, 4] and add it to the
stream: 1 becomes [5, 7], then [25, 49]. There is one position, so attention is the identity, and
neither a norm nor an MLP that does anything.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch import nn

from patching.anatomy import Anatomy
from patching.blocks import Block
from patching.forward import Record, run_block
from patching.frame import make_frame
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from patching.norms import NoNorm
from patching.wired_run import WiredRun

ANATOMY = Anatomy(n_layers=2, n_heads=2, n_kv_heads=2, d_model=2, d_head=2, d_mlp=1)
STEPS = ("a0.h1->logits", "a0.h0->a1.h1<v>", "input->a0.h0<v>")
OUTPUTS = ([-25, -49], [-19, -41], [-13, -25], [-9, -13])
"""What comes out when none, one, two and all of the steps are cut."""


def run(cut):
    """The output when the input is -1, and the cut edges carry the run of the input 1."""
    blocks = [_block(0), _block(1)]
    frame = make_frame(torch.ones(1, 1, dtype=torch.bool))
    tap = Record(("input", "resid_pre", "q", "k_read", "v_read", "z", "mlp_in", "mlp_out"))
    x = tap("input", 0, torch.ones(1, 1, 2))
    for each in blocks:
        x = run_block(each, x, frame, tap)
    off = tap.values | {("final_in", 2): x[:, -1]}
    how = {"unembed": lambda x: x, "reading": nullcontext}
    model = SimpleNamespace(anatomy=ANATOMY, blocks=blocks, **how)
    wiring = EdgeSet.all(layout_of(ANATOMY)) - EdgeSet.of(cut, ANATOMY)
    return WiredRun(model, frame, off, -torch.ones(1, 1, 2), wiring).logits()[0].tolist()


def _block(layer):
    both = torch.eye(2).repeat(2, 1)
    out = torch.cat([torch.diag(torch.tensor([1.0, 2.0])), torch.diag(torch.tensor([3.0, 4.0]))], 1)
    nothing = {"ln1_post": None, "ln2_post": None, "q_norm": None, "k_norm": None, "gate": None}
    parts = {"q": _linear(both), "k": _linear(both), "v": _linear(both), "o": _linear(out)}
    up, down = _linear(torch.zeros(1, 2)), _linear(torch.zeros(2, 1))
    mlp = {"up": up, "down": down, "act": nn.Identity()}
    rest = {"attention_scale": 1.0, "softcap": None, "window": None}
    norms = {"ln1": NoNorm(), "ln2": NoNorm()}
    return Block(layer, ANATOMY, **norms, **nothing, **parts, **mlp, **rest)


def _linear(weight):
    layer = nn.Linear(*reversed(weight.shape), bias=False)
    layer.weight.data = weight
    return layer.requires_grad_(False)
