"""Heat maps show every score once, in its place, and escape what they are given."""

import numpy as np

from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.nodes.layout import nodes
from patching.scores import Scores

ANATOMY = Anatomy(n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_head=4, d_mlp=16)


def scores(names, level):
    totals = np.arange(1.0, len(names) + 1) * np.where(np.arange(len(names)) % 2, -1, 1)
    return Scores(tuple(names), totals, 1, level, "activation", "noising", "logit_diff", ANATOMY)


def test_nodes_stand_by_layer_and_unit():
    found = scores([node.name for node in nodes(ANATOMY) if node.kind != "logits"], "node")
    table = found.heat_map()
    for layer in range(2):
        row = table.values[table.rows.index(f"layer {layer}")]
        for column, name in (("h0", "h0"), ("h1", "h1")):
            assert row[table.columns.index(column)] == found[f"a{layer}.{name}"]
        assert row[table.columns.index("MLP")] == found[f"m{layer}"]
    assert np.isfinite(table.values).sum() == len(found)


def test_sites_at_positions_stand_by_position_with_their_tokens():
    names = [f"resid_pre.{layer}@{at}" for layer in range(2) for at in range(3)]
    found = scores(names, "site")
    table = found.heat_map({0: "<script>", 1: " Mary"})
    assert table.columns == ("0 <script>", "1  Mary", "2")
    assert table.values.ravel().tolist() == found.values.tolist()
    html = table._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<td") == 6


def test_parts_of_heads_streams_and_neurons_have_columns_of_their_own():
    found = scores(["a0.h1.q", "a1.h0.v", "attn_out.1", "m1.n3"], "site").heat_map()
    assert found.rows == ("layer 0", "layer 1")
    assert found.columns == ("h1.q", "h0.v", "attn_out", "n3")


def test_edges_are_summed_by_layers():
    found = scores([edge.name for edge in edges(ANATOMY)], "edge")
    table = found.heat_map()
    assert np.isclose(np.nansum(table.values), np.abs(found.values).sum())
    assert table.columns[-1] == "logits"


def test_scores_show_the_strongest():
    found = scores([node.name for node in nodes(ANATOMY) if node.kind != "logits"], "node")
    html = found._repr_html_()
    for name in found.ranked()[:10]:
        assert f"{found[name]:+.4f}" in html
    assert "Scores(activation, node" in html
