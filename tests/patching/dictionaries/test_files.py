"""Files of every format: round trips, files as others write them, and refusals by name."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from patching.dictionaries.places import hook_name, hook_place, module_place, parse_place
from patching.dictionaries.read import read_dictionaries, read_dictionary, write_dictionary
from tasks.errors import CircuitsError, FormatError
from tests.patching.dictionaries.build import dictionary

X = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))


def same(one, two, x=X):
    torch.testing.assert_close(one.amounts(x), two.amounts(x), atol=1e-5, rtol=1e-5)
    made = one.decode(one.amounts(x), x), two.decode(two.amounts(x), x)
    torch.testing.assert_close(*made, atol=1e-5, rtol=1e-5)
    assert (one.reads, one.writes) == (two.reads, two.writes)


@pytest.mark.parametrize(
    "given",
    [
        *(
            dictionary(activation=kind, dtype=torch.float32)
            for kind in ("relu", "topk", "jumprelu")
        ),
        dictionary(scaling="layer_norm", dtype=torch.float32),
        dictionary("mlp_out.1", reads="mlp_scaled.1", dtype=torch.float32),
        dictionary("mlp_out.1", "jumprelu", reads="mlp_normed.1", skip=True, dtype=torch.float32),
        dictionary("mlp_out.1", "topk", reads="mlp_normed.1", skip=True, dtype=torch.float32),
    ],
    ids=repr,
)
def test_what_is_written_is_read_back(given, tmp_path):
    write_dictionary(given, tmp_path)
    same(given, read_dictionary(tmp_path))


def lens_folder(folder, settings, **arrays):
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file(arrays, folder / "sae_weights.safetensors")
    return folder


def arrays_of(d):
    return {"W_enc": d.W_enc, "b_enc": d.b_enc, "W_dec": d.W_dec, "b_dec": d.b_dec}


def test_sae_lens_before_version_6_has_its_settings_flat(tmp_path):
    d = dictionary(activation="topk", dtype=torch.float32)
    settings = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 7},
        "hook_name": "blocks.3.hook_resid_pre",
        "apply_b_dec_to_input": False,
    }
    found = read_dictionary(lens_folder(tmp_path / "sae", settings, **arrays_of(d)))
    assert (found.k, found.activation, str(found.writes)) == (7, "topk", "resid_pre.3")
    assert not found.b_in.any()


def test_latents_rescaled_by_their_rows_count_in_those_units(tmp_path):
    d = dictionary(activation="topk", dtype=torch.float32)
    settings = {
        "architecture": "topk",
        "k": 7,
        "rescale_acts_by_decoder_norm": True,
        "apply_b_dec_to_input": True,
        "metadata": {"hook_name": "blocks.0.hook_resid_post"},
    }
    found = read_dictionary(lens_folder(tmp_path / "sae", settings, **arrays_of(d)))
    pre = ((X - d.b_dec) @ d.W_enc + d.b_enc) * d.W_dec.norm(dim=-1)
    best = pre.topk(7)
    f = torch.zeros_like(pre).scatter(-1, best.indices, best.values.relu())
    torch.testing.assert_close(found.encode(X), f, atol=1e-5, rtol=1e-5)
    made = (f / d.W_dec.norm(dim=-1)) @ d.W_dec + d.b_dec
    torch.testing.assert_close(found.decode(found.amounts(X), X), made, atol=1e-5, rtol=1e-5)


def test_gated_dictionaries_of_sae_lens(tmp_path):
    d = dictionary(activation="gated", dtype=torch.float32)
    arrays = {"W_enc": d.W_enc, "W_dec": d.W_dec, "b_dec": d.b_dec}
    arrays |= {"b_gate": d.gate.b_gate, "b_mag": d.gate.b_mag, "r_mag": d.gate.r_mag}
    settings = {"architecture": "gated", "metadata": {"hook_name": "blocks.0.hook_resid_post"}}
    found = read_dictionary(lens_folder(tmp_path / "sae", settings, **arrays))
    x = X - d.b_dec
    gate = (x @ d.W_enc + d.gate.b_gate) > 0
    size = (x @ (d.W_enc * d.gate.r_mag.exp()) + d.gate.b_mag).relu()
    torch.testing.assert_close(found.encode(X), gate * size, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "place"), [("layers.3", "resid_post.3"), ("h.0.mlp", "mlp_out.0")]
)
def test_sparsify_is_placed_by_its_folder(tmp_path, name, place):
    d = dictionary(activation="topk", dtype=torch.float32)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({"d_in": 32, "k": 7, "num_latents": 24}))
    arrays = {"encoder.weight": d.W_enc.T.contiguous(), "encoder.bias": d.b_enc}
    save_file({**arrays, "W_dec": d.W_dec, "b_dec": d.b_dec}, folder / "sae.safetensors")
    found = read_dictionary(folder)
    assert str(found.writes) == place
    torch.testing.assert_close(found.pre(X), (X - d.b_dec) @ d.W_enc + d.b_enc)


def test_gemma_scope_says_where_it_belongs_in_its_path(tmp_path):
    d = dictionary(activation="jumprelu", dtype=torch.float32)
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_5" / "width_16k" / "average_l0_20"
    folder.mkdir(parents=True)
    arrays = {name: value.numpy() for name, value in arrays_of(d).items()}
    np.savez(folder / "params.npz", threshold=d.threshold.numpy(), **arrays)
    found = read_dictionary(folder / "params.npz")
    assert str(found.writes) == "resid_post.5"
    pre = X @ d.W_enc + d.b_enc
    torch.testing.assert_close(found.encode(X), pre.relu() * (pre > d.threshold))
    (tmp_path / "params.npz").write_bytes((folder / "params.npz").read_bytes())
    with pytest.raises(FormatError, match="nothing in the path"):
        read_dictionary(tmp_path / "params.npz")
    (given,) = read_dictionaries([f"attn_out.2={tmp_path / 'params.npz'}"])
    assert str(given.writes) == "attn_out.2"


def tracer_folder(folder, settings):
    d = dictionary("mlp_out.1", dtype=torch.float32)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(settings)
    arrays = {"W_enc": d.W_enc.T.contiguous(), "b_enc": d.b_enc}
    arrays |= {"W_dec": d.W_dec, "b_dec": d.b_dec}
    save_file(arrays, folder / "layer_1.safetensors")
    return d


def test_transcoders_of_circuit_tracer(tmp_path):
    text = "feature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    d = tracer_folder(tmp_path, text)
    found = read_dictionary(tmp_path / "layer_1.safetensors")
    assert (str(found.reads), str(found.writes)) == ("mlp_normed.1", "mlp_out.1")
    torch.testing.assert_close(found.encode(X), (X @ d.W_enc + d.b_enc).relu())
    assert found.latent(3) == "m1.f3"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model_kind: cross_layer_transcoder\n", "cross-layer transcoders"),
        ("feature_input_hook: ln9.hook\nfeature_output_hook: hook_mlp_out\n", "none that circuits"),
        ("feature_output_hook: hook_mlp_out\n", "does not name its feature_input_hook"),
        ("a: &a [1]\nb: *a\n", "aliases"),
        ("- 1\n", "holds no settings"),
        ("{", "is not a transcoder"),
    ],
)
def test_configurations_that_are_refused(tmp_path, text, told):
    tracer_folder(tmp_path, text)
    with pytest.raises(FormatError, match=told):
        read_dictionary(tmp_path / "layer_1.safetensors")


class Marker:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (open, ("/dev/null",))


def test_pickles_are_refused_unopened(tmp_path):
    (tmp_path / "ae.pt").write_bytes(pickle.dumps(Marker()))
    for path in (tmp_path / "ae.pt", tmp_path):
        with pytest.raises(FormatError, match="can run code"):
            read_dictionary(path)
    np.savez(tmp_path / "params.npz", W_enc=np.array([Marker()], dtype=object))
    with pytest.raises(FormatError, match="Object arrays cannot be loaded"):
        read_dictionary(tmp_path / "params.npz", "resid_post.0")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"architecture": "temporal"}, "unknown architecture 'temporal'"),
        ({"normalize_activations": "expected_average_only_in"}, "not folded"),
        ({"finetuning_scaling_factor": True}, "not folded"),
        ({"architecture": "topk", "hook_name": "blocks.0.hook_resid_post"}, "needs a whole number"),
        ({}, "does not say of which hook"),
        ({"hook_name": "blocks.0.attn.hook_q"}, "none that circuits knows"),
    ],
)
def test_settings_that_are_refused(tmp_path, settings, told):
    d = dictionary(dtype=torch.float32)
    lens_folder(tmp_path / "sae", settings, **arrays_of(d))
    with pytest.raises(FormatError, match=told):
        read_dictionary(tmp_path / "sae")


def test_what_is_not_there_or_no_dictionary_is_said(tmp_path):
    with pytest.raises(FormatError, match="there is no dictionary"):
        read_dictionary(tmp_path / "none")
    with pytest.raises(FormatError, match="circuits reads a folder of SAELens"):
        read_dictionary(tmp_path)
    with pytest.raises(FormatError, match="is no place of a dictionary"):
        read_dictionary(tmp_path, "resid_pots.1")


def test_names_of_places_go_both_ways():
    for text in ("resid_post.3", "resid_pre.0", "mlp_out.2", "z.1", "mlp_normed.4", "input.0"):
        assert hook_place(hook_name(parse_place(text))) == parse_place(text)
    assert str(module_place("model.layers.7.mlp")) == "mlp_out.7"


def test_mutated_files_give_no_other_error(tmp_path):
    write_dictionary(dictionary(activation="topk", dtype=torch.float32), tmp_path)
    rng = random.Random(0)
    originals = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(150):
        path = rng.choice([*originals])
        data = bytearray(originals[path])
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(len(data), 900))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(bytes(data))
        try:
            read_dictionary(tmp_path)
        except CircuitsError:
            pass
        finally:
            path.write_bytes(originals[path])
