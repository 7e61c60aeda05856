"""Edits of latents against a loop over tokens, in plans, at positions, and through generation."""

import pytest
import torch

import circuits
from circuits.edits.latents import latent_edit
from circuits.edits.plan import EditPlan, plan_for, read_plan
from patching.dictionaries.read import read_dictionary, write_dictionary
from patching.dictionaries.readings import value_at
from patching.forward import Record, Write
from tasks.errors import EditError, SiteError
from tests.patching.dictionaries.build import dictionary

TEXTS = ("When Mary and John went to the park,", "John gave the ball to")


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def batch(nano):
    rows = [nano.tokenizer.encode(text) for text in TEXTS]
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        tokens[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = True
    return tokens, mask


@pytest.fixture(scope="module", params=["sae", "transcoder"])
def folder(request, tmp_path_factory):
    made = {
        "sae": dictionary("resid_post.1", "topk", 128, 40, dtype=torch.float32),
        "transcoder": dictionary(
            "mlp_out.2", "topk", 128, 40, reads="mlp_normed.2", skip=True, dtype=torch.float32
        ),
    }[request.param]
    out = tmp_path_factory.mktemp("latents") / request.param
    out.mkdir()
    write_dictionary(made, out)
    return out


@pytest.fixture(scope="module")
def fires(nano, batch, folder):
    """A latent that fires on some tokens of one text, and on none of the other."""
    d = read_dictionary(folder)
    amounts = _amounts(nano, d, batch)
    some = (amounts > 0).any(1)
    return int((some[0] & ~some[1]).nonzero()[0])


def _amounts(nano, d, batch):
    tokens, mask = batch
    record = Record(("mlp_in", "resid_post"))
    with torch.no_grad():
        nano.run(tokens, mask, record)
        amounts = d.amounts(value_at(nano, d.reads, record.values))
    return amounts * mask[..., None]


def slowly(nano, d, batch, latent, new, allowed):
    """Token by token: the latent's direction times the change of its amount."""
    amounts = _amounts(nano, d, batch)[..., latent]
    change = torch.zeros(*batch[0].shape, d.W_dec.shape[1])
    for row in range(len(amounts)):
        for at in range(amounts.shape[1]):
            if allowed(amounts, batch[1], row, at):
                a = float(amounts[row, at])
                change[row, at] = (new(a) - a) * d.W_dec[latent]
    with torch.no_grad():
        return nano.run(*batch, Write({d.writes.point: lambda x: x + change}))


TIERS = {
    "always": lambda amounts, mask, row, at: mask[row, at],
    "text": lambda amounts, mask, row, at: mask[row, at] and (amounts[row] > 0).any(),
    "token": lambda amounts, mask, row, at: amounts[row, at] > 0,
}
CHANGES = {
    "ablated": ({"factor": 0}, lambda a: 0.0),
    "set": ({"value": 2.5}, lambda a: 2.5),
    "scaled": ({"factor": -3}, lambda a: -3 * a),
    "added to": ({"add": 4}, lambda a: a + 4),
    "clamped": ({"low": 0.5, "high": 0.75}, lambda a: min(max(a, 0.5), 0.75)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("tier", TIERS)
def test_an_edit_is_a_loop_over_tokens(nano, batch, folder, fires, tier, change):
    given, new = CHANGES[change]
    d = read_dictionary(folder)
    edit = latent_edit(d.latent(fires), str(folder), where=tier, **given)
    with circuits.editing(nano, edit) as edited:
        found = edited.run(*batch)
    expected = slowly(nano, d, batch, fires, new, TIERS[tier])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        plain = nano.run(*batch)
    assert (found[0] - plain[0]).abs().max() > 1e-3
    if tier != "always":
        torch.testing.assert_close(found[1], plain[1], atol=1e-5, rtol=1e-5)


def test_an_edit_at_a_position_stays_there(nano, batch, folder, fires):
    d = read_dictionary(folder)
    edit = latent_edit(f"{d.latent(fires)}@-1", str(folder), value=3)
    with circuits.editing(nano, edit) as edited:
        found = edited.run(*batch)
    last = batch[0].shape[1] - 1
    expected = slowly(nano, d, batch, fires, lambda a: 3.0, lambda *where: where[3] == last)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tier", ["always", "token"])
def test_generation_is_edited_at_every_step(nano, batch, folder, fires, tier):
    """Each new token is the most likely one of a run of the whole text so far."""
    d = read_dictionary(folder)
    edit = latent_edit(d.latent(fires), str(folder), add=6, where=tier)
    tokens, mask = batch
    with circuits.editing(nano, edit) as edited:
        found = edited.generate(tokens, mask, 4)
        for step in range(4):
            best = edited.run(tokens, mask).argmax(-1)
            assert torch.equal(best, found[:, step])
            tokens = torch.cat([tokens, best[:, None]], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)


def test_two_latents_of_one_place_do_not_mind_their_order(nano, batch, folder):
    d = read_dictionary(folder)
    edits = [latent_edit(d.latent(j), str(folder), value=2 + j) for j in (3, 4)]
    with circuits.editing(nano, edits) as one, circuits.editing(nano, edits[::-1]) as other:
        torch.testing.assert_close(one.run(*batch), other.run(*batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_plans_hold_edits_of_latents(nano, batch, folder, fires, suffix, tmp_path):
    d = read_dictionary(folder)
    edit = latent_edit(d.latent(fires), str(folder), factor=0, where="token")
    plan_for(nano, (edit,)).save(tmp_path / f"plan{suffix}")
    plan = read_plan(tmp_path / f"plan{suffix}")
    assert plan.edits == (edit,)
    assert not plan.weights_only
    with plan.applied(nano) as edited, circuits.editing(nano, edit) as same:
        assert torch.equal(edited.run(*batch), same.run(*batch))
    with pytest.raises(EditError, match="no saved model can hold"):
        plan.check(nano, tmp_path / "out")


@pytest.mark.parametrize(
    ("site", "changes", "told"),
    [
        ("resid_post.1", {"factor": 0}, "is no latent"),
        ("resid_post.9.f1", {"factor": 0}, "layers are 0 to 3"),
        ("resid_post.1.f1", {}, "nothing is changed"),
        ("resid_post.1.f1", {"low": 2, "high": 1}, "low 2.0 is above high 1.0"),
        ("resid_post.1.f1", {"add": float("inf")}, "add is inf"),
    ],
)
def test_edits_that_cannot_be_made(nano, site, changes, told):
    edits = (latent_edit(site, "nowhere", **changes),)
    with pytest.raises(EditError, match=told):
        EditPlan(model=nano.hash, basis="raw", edits=edits).check(nano)


def test_a_latent_twice_and_an_unknown_one(nano, folder):
    d = read_dictionary(folder)
    twice = [latent_edit(d.latent(1), str(folder), add=v) for v in (1, 2)]
    with pytest.raises(EditError, match="both change"), circuits.editing(nano, twice):
        pass
    far = latent_edit(d.latent(40), str(folder), factor=0)
    with pytest.raises(SiteError, match="has no latent"), circuits.editing(nano, far):
        pass
    with pytest.raises(EditError, match="not both"):
        latent_edit(d.latent(1), str(folder), value=1, factor=2)
    with pytest.raises(EditError, match="where"):
        latent_edit(d.latent(1), str(folder), add=1, where="sometimes")
