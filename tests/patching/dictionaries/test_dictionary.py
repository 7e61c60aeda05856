"""Encoders against their formulas, and special dictionaries whose parts are known."""

import pytest
import torch

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.latents import latent_scores
from patching.dictionaries.places import parse_place
from patching.dictionaries.splice import Splice, reconstruction
from patching.scoring import score
from tasks.errors import FormatError
from tests import families
from tests.patching.dictionaries.build import dictionary, slow_encode

KINDS = ("relu", "topk", "jumprelu", "gated")


@pytest.mark.parametrize("scaling", ["none", "constant_norm_rescale", "layer_norm"])
@pytest.mark.parametrize("kind", KINDS)
def test_encoders_are_their_formulas(kind, scaling):
    d = dictionary(activation=kind, scaling=scaling)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slow = torch.tensor([slow_encode(d, row) for row in x], dtype=torch.float64)
    torch.testing.assert_close(d.encode(x), slow, atol=1e-12, rtol=1e-12)
    assert (slow > 0).any()


@pytest.mark.parametrize("scaling", ["none", "constant_norm_rescale", "layer_norm"])
def test_a_reconstruction_is_turned_back_as_it_was_scaled(scaling):
    d = dictionary(scaling=scaling)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made = d.encode(x) @ d.W_dec + d.b_dec
    if scaling == "constant_norm_rescale":
        made = made * x.norm(dim=-1, keepdim=True) / 32**0.5
    elif scaling == "layer_norm":
        made = made * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)
    torch.testing.assert_close(d.decode(d.amounts(x), x), made, atol=1e-12, rtol=1e-12)


def identity(width=32):
    """Every coordinate as two latents, its positive and its negative part."""
    eye = torch.eye(width, dtype=torch.float64)
    zeros = torch.zeros(width, dtype=torch.float64)
    return Dictionary(
        reads=parse_place("resid_post.0"),
        writes=parse_place("resid_post.0"),
        activation="relu",
        W_enc=torch.cat([eye, -eye], dim=1),
        b_enc=torch.zeros(2 * width, dtype=torch.float64),
        W_dec=torch.cat([eye, -eye]),
        b_dec=zeros,
        b_in=zeros,
    )


def test_the_identity_leaves_no_error(gpt2, pairs):
    found = latent_scores(gpt2, pairs, [identity()], "secant")
    assert found["resid_post.0.err"] == pytest.approx(0, abs=1e-12)
    whole = score(gpt2, pairs, "secant", "site", sites="resid_post")["resid_post.0"]
    assert found.values.sum() == pytest.approx(whole, abs=1e-9)


def test_a_decoder_of_zeros_puts_everything_on_the_error(gpt2, pairs):
    d = dictionary("resid_post.0")
    empty = Dictionary(**{**vars(d), "W_dec": torch.zeros_like(d.W_dec)})
    found = latent_scores(gpt2, pairs, [empty], "secant")
    whole = score(gpt2, pairs, "secant", "site", sites="resid_post")["resid_post.0"]
    assert found["resid_post.0.err"] == pytest.approx(whole, abs=1e-9)
    assert list(found) == ["resid_post.0.err"]


def test_an_mlp_with_relu_is_a_transcoder_without_error():
    hf = families.build("gpt2", activation_function="relu").double()
    from patching.model import Model

    model, pairs = Model.open(hf, dtype=torch.float64), families.make_pairs()
    block = model.blocks[0]
    own = Dictionary(
        reads=parse_place("mlp_normed.0"),
        writes=parse_place("mlp_out.0"),
        activation="relu",
        W_enc=hf.transformer.h[0].mlp.c_fc.weight.data.clone(),
        b_enc=hf.transformer.h[0].mlp.c_fc.bias.data.clone(),
        W_dec=block.W_out.detach().clone(),
        b_dec=hf.transformer.h[0].mlp.c_proj.bias.data.clone(),
        b_in=torch.zeros(32, dtype=torch.float64),
    )
    found = latent_scores(model, pairs, [own], "secant")
    neurons = score(model, pairs, "secant", "site", sites="neuron")
    assert found["m0.err"] == pytest.approx(0, abs=1e-12)
    assert all(
        found[name] == pytest.approx(neurons[name.replace(".f", ".n")], abs=1e-9)
        for name in found
        if name != "m0.err"
    )


def test_a_splice_with_its_error_changes_nothing(gpt2, pairs):
    tokens, mask = torch.tensor(pairs.clean), torch.tensor(pairs.mask)
    given = (dictionary("resid_post.0", "topk"), dictionary("mlp_out.1", reads="mlp_in.1"))

    def whole(d, x, y):
        made = reconstruction(d, x, y)
        return made + (y - made)

    with torch.no_grad():
        plain = gpt2.run(tokens, mask)
        kept = gpt2.run(tokens, mask, Splice(gpt2, given, whole))
        lost = gpt2.run(tokens, mask, Splice(gpt2, given))
    torch.testing.assert_close(plain, kept, atol=1e-9, rtol=1e-9)
    assert (plain - lost).abs().max() > 0.1


def test_contradictions_are_refused():
    d = dictionary(activation="topk")
    for change, told in (
        ({"k": 99}, "k is 99"),
        ({"b_enc": torch.zeros(3)}, "b_enc has the shape"),
        ({"W_enc": d.W_enc * float("nan")}, "not finite"),
        ({"activation": "gated"}, "needs gate"),
    ):
        with pytest.raises(FormatError, match=told):
            Dictionary(**{**vars(d), **change})
