"""The instruments against slow definitions, on models of several families."""

import inspect
import json

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.results.pictures import rendered
from circuits.studies.instruments.attention import AttentionScores
from circuits.studies.instruments.head_weights import (
    copying_scores,
    known_sequences,
    successor_scores,
)
from circuits.studies.instruments.measured import Measured
from patching.forward import run_block, write_mlp
from patching.metrics import check_metric
from patching.norms import NoNorm
from patching.runs import Batch
from patching.sites import head
from tasks.errors import MethodError, SiteError
from tests import definitions, families

FAMILIES = ("gpt2", "gemma2", "gpt_neox", "qwen3_moe")


@pytest.fixture(scope="module")
def nano():
    model = circuits.load_model("nano")
    return model, circuits.load_task("ioi").pairs(model.tokenizer, n=6, seed=0)


def repeating(n=4):
    """Random pairs in which tokens come again, so that every score is defined."""
    return families.make_pairs(n, vocabulary=6)


def slow_scores(pattern, ids, answers, others):
    """The scores of one head on one prompt without padding, cell by cell."""
    found = {"previous": [], "duplicate": [], "induction": [], "first": []}
    for q in range(1, len(ids)):
        found["previous"].append(pattern[q, q - 1])
        found["first"].append(pattern[q, 0])
        places = [j for j in range(q) if ids[j] == ids[q]]
        if places:
            found["duplicate"].append(sum(pattern[q, j] for j in places))
        after = [j + 1 for j in places if j + 1 < q]
        if after:
            found["induction"].append(sum(pattern[q, j] for j in after))
    means = {name: np.mean(values) if values else np.nan for name, values in found.items()}
    at = [k for k, token in enumerate(ids) if token in answers]
    against = [k for k, token in enumerate(ids) if token in others]
    means["answer"] = sum(pattern[-1, k] for k in at) if at else np.nan
    return means | {"other": sum(pattern[-1, k] for k in against) if against else np.nan}


@pytest.mark.parametrize(
    ("family", "run"), [("gpt2", "clean"), ("llama", "corrupted"), ("gemma2", "clean")]
)
def test_scores_of_attention_are_what_the_definitions_say(family, run):
    model, pairs = families.opened(family), repeating()
    found = circuits.attention(model, pairs, run=run, batch_size=3)
    defined = dict.fromkeys(found.measures, 0)
    for row in range(len(pairs)):
        batch = Batch.of(model, pairs[row : row + 1])
        values = definitions.values(model, batch, run)
        ids, answers = batch.tokens(run)[0].tolist(), set(pairs.answer[row].tolist())
        others = set(pairs.counterfactual[row].tolist())
        for number, name in enumerate(found.heads):
            site = head(*(int(part[1:]) for part in name.split(".")))
            pattern = values["pattern", site.layer][0, site.unit].numpy()
            for kind, value in slow_scores(pattern, ids, answers, others).items():
                told = found.measures[kind].values[row, number]
                assert told == pytest.approx(value, abs=1e-12, nan_ok=True)
                defined[kind] += value == value
    assert all(defined[kind] for kind in ("previous", "duplicate", "induction", "answer", "other"))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_between_named_positions_is_the_mean_over_prompts(family):
    model, pairs = families.opened(family), repeating()
    found = circuits.attention(model, pairs)
    batch = Batch.of(model, pairs)
    values = definitions.values(model, batch, "clean")["pattern", 1][:, 2]
    at = {name: places - batch.dropped for name, places in pairs.positions.items()}
    for i, query in enumerate(found.positions):
        for j, key in enumerate(found.positions):
            mean = np.mean([float(values[b, at[query][b], at[key][b]]) for b in range(len(pairs))])
            assert found.between[found.heads.index("a1.h2"), i, j] == pytest.approx(mean, abs=1e-12)


def test_copying_scores_are_those_of_the_whole_matrix():
    model = families.opened("gpt2")
    embedding = model.parts.tokens.weight.detach()
    scores = []
    for block in model.blocks:
        for h in range(model.anatomy.n_heads):
            x = block.ln1.centre(embedding) * block.ln1.weight
            written = x @ block.input_weight("v")[h] @ block.W_O[h]
            read = model.final_norm.centre(written) * model.final_norm.weight
            # Of the matrix from each token to each token's logit, words by words.
            values = torch.linalg.eigvals(read @ model.unembedding.T)
            scores.append(float(values.real.sum() / values.abs().sum()))
    assert np.allclose(copying_scores(model), scores, atol=1e-6)
    assert not isinstance(model.final_norm, NoNorm)


def test_successor_scores_are_those_of_every_word_on_its_own(nano):
    """Word by word, through the whole unembedding; the scale of the norm changes no order."""
    model, _ = nano
    known = known_sequences(model.tokenizer)
    assert known
    assert all(len(ids) >= 3 for ids in known)
    right = {}
    for ids in known:
        for place, token in enumerate(ids[:-1]):
            alone = torch.tensor([[token]])
            frame = model.frame(torch.ones_like(alone, dtype=torch.bool))
            x = model.embed(alone, frame)
            x = x + write_mlp(model.blocks[0], x)
            for block in model.blocks:
                for h in range(model.anatomy.n_heads):
                    value = block.share(block.values(block.ln1(x)))[0, 0, h]
                    read = model.final_norm.centre(value @ block.W_O[h]) * model.final_norm.weight
                    logits = (model.unembedding @ read)[ids]
                    logits[place] = -np.inf
                    said = int(logits.argmax()) == place + 1
                    right.setdefault(f"a{block.layer}.h{h}", []).append(said)
    assert np.allclose(successor_scores(model), [np.mean(each) for each in right.values()])


def test_without_a_tokenizer_there_are_no_successors():
    assert np.isnan(successor_scores(families.opened("gpt2"))).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_is_the_model_cut_off_after_each_layer(family):
    model, pairs = families.opened(family), families.make_pairs(4)
    found = circuits.logit_lens(model, pairs, batch_size=3)
    metric = check_metric("logit_diff")
    for row in range(len(pairs)):
        batch = Batch.of(model, pairs[row : row + 1])
        frame = model.frame(batch.mask)
        x = model.embed(batch.clean, frame)
        for number in range(model.anatomy.n_layers + 1):
            logits = model.unembed(x[:, -1])
            told = found.metrics["clean"].values[row, number]
            assert told == pytest.approx(float(metric(logits, batch.pairs)), abs=1e-10)
            share = float(logits.softmax(-1)[0, pairs.answer[row, 0]])
            assert found.probability.values[row, number] == pytest.approx(share, abs=1e-10)
            if number < model.anatomy.n_layers:
                x = run_block(model.blocks[number], x, frame)


@pytest.mark.parametrize("family", FAMILIES)
def test_direct_effects_add_up_to_the_logit_difference(family):
    model, pairs = families.opened(family), families.make_pairs(4)
    found = circuits.direct_logit_attribution(model, pairs, batch_size=3)
    batch, cap = Batch.of(model, pairs), model.parts.logit_cap
    for run in ("clean", "corrupted"):
        logits = model.run(batch.tokens(run), batch.mask)
        logits = logits if cap is None else cap * torch.atanh(logits / cap)
        whole = check_metric("logit_diff")(logits, pairs).numpy()
        assert np.allclose(found.effects[run].values.sum(axis=1), whole, atol=1e-9)


def test_a_heat_map_is_exact_patching_by_layer_and_position(nano):
    model, pairs = nano
    found = circuits.heat_map(model, pairs)
    from patching.sites import parse_site

    batch = Batch.of(model, pairs)
    runs = definitions.Runs.of(model, batch, "noising")
    columns = torch.tensor(pairs.positions["S2"] - batch.dropped)
    exact = definitions.exact_site(runs, parse_site("resid_pre.2"), columns)
    assert found.to_frame().loc["resid_pre.2", "S2"] == pytest.approx(float(exact.mean()), abs=1e-4)
    assert list(found.to_frame().columns) == list(pairs.positions)


def planted(**means):
    """Scores of two heads, of which the first has some means."""
    heads = ("a0.h0", "a0.h1")
    noise = np.linspace(-0.01, 0.01, 8)
    measures = {
        name: Measured(heads, np.stack([means.get(name, 0.0) + noise, noise], axis=1))
        for name in ("previous", "duplicate", "induction", "first", "answer", "other", "direct")
    }
    between = np.zeros((2, 0, 0))
    return AttentionScores("clean", 8, heads, measures, np.zeros(2), np.zeros(2), (), between)


@pytest.mark.parametrize(
    ("means", "role"),
    [
        ({"previous": 0.8}, "previous-token head"),
        ({"induction": 0.5, "duplicate": 0.4}, "induction head, duplicate-token head"),
        ({"answer": 0.7, "direct": 1.0}, "name mover"),
        ({"answer": 0.7, "direct": -1.0}, "negative name mover"),
        ({"other": 0.6}, "S-inhibition head"),
        ({"other": 0.6, "direct": -1.0}, None),
        ({"other": 0.6, "direct": 1.0}, "copy-suppression head"),
        ({"other": 0.3, "answer": 0.6}, None),
        ({"answer": 0.7}, None),
        ({"direct": 5.0}, None),
    ],
)
def test_heads_are_named_by_what_they_do(means, role):
    assert planted(**means).roles().get("a0.h0") == role
    assert "a0.h1" not in planted(**means).roles()


def test_intervals_hold_the_mean_and_single_prompts_have_none(nano):
    model, pairs = nano
    many = circuits.logit_lens(model, pairs).metrics["clean"]
    low, high = many.intervals()
    assert (low <= many.mean()).all()
    assert (many.mean() <= high).all()
    assert np.isnan(circuits.logit_lens(model, pairs[:1]).metrics["clean"].intervals()).all()


def test_everything_shows_itself(nano):
    model, pairs = nano
    found = circuits.attention(model, pairs)
    title = found.pattern("a3.h0").axes[0].get_title()
    assert title == "a3.h0, clean run: mean of 6 prompts by named position"
    for result in (found, circuits.heat_map(model, pairs)):
        assert b"<svg" in rendered(result.figure())
        assert "<img" in result._repr_html_()
        json.dumps(result.to_json(), allow_nan=False)


def test_what_cannot_be_asked_is_refused(nano):
    model, pairs = nano
    with pytest.raises(MethodError, match="unknown run 'both'"):
        circuits.attention(model, pairs, run="both")
    found = circuits.attention(model, pairs)
    with pytest.raises(SiteError, match="unknown head"):
        found.pattern("a9.h0")
    with pytest.raises(MethodError, match="name no positions"):
        planted().pattern("a0.h0")


INSTRUMENTS = (
    *("attention", "logit-lens", "direct-logit-attribution", "heat-map", "path-patching"),
)
SHARED = ("batch_size", "seed", "progress")


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_the_same_thing_has_the_same_name_and_place_everywhere(name):
    called = inspect.signature(getattr(circuits, name.replace("-", "_"))).parameters
    assert [*called][:2] == ["model", "pairs"]
    assert tuple(called)[-3:] == SHARED
    known = [part for part in ("direction", "metric", *SHARED) if part in called]
    assert [part for part in called if part in known] == known
    assert [called[part].default for part in SHARED] == [32, 0, None]
    command = typer.main.get_command(app).commands[name]
    options = [option.name for option in command.params]
    tail = ["n", "seed", "batch_size", "bos", "chat", "chat_plain", "skip_bad", "output", "as_json"]
    assert options[-len(tail) :] == tail
    assert options[:3] == ["task", "model", "_device"]
    assert ("metric" in options) == ("metric" in called)


@pytest.mark.parametrize(
    "command", ["attention", "logit-lens", "direct-logit-attribution", "path-patching"]
)
def test_the_commands_print_draw_and_refuse(command, tmp_path):
    path = tmp_path / "drawn.svg"
    asked = [command, "ioi", "--n", "3", "-o", str(path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "3 prompt pairs" in done.stdout
    assert path.is_file()
    done = CliRunner().invoke(app, [command, "ioi", "--n", "3", "--json"])
    assert json.loads(done.stdout)["n"] == 3
    assert CliRunner().invoke(app, [command, "ioy"]).exit_code == 2


def test_a_heat_map_is_drawn_by_its_command(tmp_path):
    path = tmp_path / "map.png"
    done = CliRunner().invoke(app, ["heat-map", "ioi", "--n", "2", "-o", str(path)])
    assert done.exit_code == 0, done.output
    assert path.is_file()
    wrong = CliRunner().invoke(app, ["heat-map", "ioi", "--n", "2", "--site", "nothing"])
    assert wrong.exit_code == 2
