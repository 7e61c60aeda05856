"""Random dictionaries of every kind, and plain definitions of what is computed from them."""

import torch

from patching.dictionaries.dictionary import Dictionary, Gate
from patching.dictionaries.places import Place, parse_place


def dictionary(
    writes="resid_post.0",
    activation="relu",
    width=32,
    latents=24,
    *,
    reads=None,
    read_width=None,
    seed=0,
    scaling="none",
    skip=False,
    dtype=torch.float64,
):
    """A dictionary whose numbers are drawn; about half of its latents fire."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    place: Place = parse_place(writes)
    d_in = read_width or width
    gate = (
        Gate(draw(latents), draw(latents), 0.3 * draw(latents)) if activation == "gated" else None
    )
    return Dictionary(
        reads=parse_place(reads) if reads else place,
        writes=place,
        activation=activation,
        W_enc=draw(d_in, latents) / d_in**0.5,
        b_enc=0.1 * draw(latents),
        W_dec=draw(latents, width) / width**0.5,
        b_dec=0.1 * draw(width),
        b_in=0.1 * draw(d_in),
        threshold=0.3 * draw(latents).abs() if activation == "jumprelu" else None,
        k=7 if activation == "topk" else None,
        gate=gate,
        skip=draw(width, d_in) / d_in**0.5 if skip else None,
        scaling=scaling,
    )


def slow_encode(d, x):
    """One token, one latent after the other, from the formulas of the papers."""
    if d.scaling == "constant_norm_rescale":
        x = x * len(x) ** 0.5 / x.norm()
    elif d.scaling == "layer_norm":
        x = x - x.mean()
        x = x / (x.std() + 1e-5)
    x = x - d.b_in
    pres = [float(x @ d.W_enc[:, j] + d.b_enc[j]) for j in range(d.n_latents)]
    if d.activation == "topk":
        best = sorted(range(d.n_latents), key=lambda j: -pres[j])[: d.k]
        return [max(pre, 0.0) if j in best else 0.0 for j, pre in enumerate(pres)]
    if d.activation == "jumprelu":
        return [p if p > float(d.threshold[j]) and p > 0 else 0.0 for j, p in enumerate(pres)]
    if d.activation == "gated":
        out = []
        for j in range(d.n_latents):
            dot = float(x @ d.W_enc[:, j])
            size = dot * float(d.gate.r_mag[j].exp()) + float(d.gate.b_mag[j])
            out.append(max(size, 0.0) if dot + float(d.gate.b_gate[j]) > 0 else 0.0)
        return out
    return [max(p, 0.0) for p in pres]
