"""Every field of every file that a command writes is in circuits/FILES.md, and no other is."""

import csv
import json
import re

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.edits import edit as e
from circuits.edits.latents import latent_edit
from circuits.edits.plan import EditPlan
from circuits.studies.emotion.folder import write
from circuits.studies.emotion.side_effects import other_tasks
from circuits.studies.emotion.trial import Harness, untouched
from tests import families, tiny_emotion
from tests.graphs.strategies import circuit

ROW = re.compile(r"^\| `([^`]+)` \| (.+) \|$", re.MULTILINE)
SHAPE = re.compile(r"\]\(#([\w-]+)\)")
COMMANDS = (
    "discover ioi --n 4 --top 60 --method ig --set steps=2 --out run",
    "discover ioi --n 8 --top 9 --level node --out nodes",
    "evaluate run --n 4 --rediscoveries 2 --reference run --ablation mean",
    "compare run run --n 4 --rediscoveries 2 --ablation mean --by template --out compared",
    "discover ioi --n 8 --top 30 --clusters 2 --out clustered",
    "consensus run run --n 4 --ablation mean --out agreed",
    "mib --task ioi --task arithmetic_addition --n 4 --test 4 --method attribution "
    "--reference ioi=run/circuit.json --least 1 --out track",
    "validate ioi --n 4 --method attribution --kind z --out validated",
    "means ioi --n 4 --out means.safetensors",
    "af1 mental_math --n 8 --samples 8 --set form=+ --out search",
    "discover ioi --n 4 --top 9 --model MIXTURE --out mixture",
    "train-dictionary --latents 64 --k 6 --steps 60 --batch 256 --tokens 3000 --n 8 --out learnt",
    "latents ioi --dictionary learnt --n 8 --held-out 8 --force-dictionary --edges 5 --out latents",
    "train-dictionary --site m1 --kind transcoder --latents 64 --k 6 --steps 60 --batch 256 "
    "--tokens 3000 --n 8 --out across",
    "trace Mary,John,Mary --dictionary across --out traced",
    "sweep sweep.toml --out swept",
)
SWEEP = """
models = "nano"
tasks = "ioi"
methods = "attribution"
[options]
n = 4
top = 9
"""
RECIPES = "least squares", "unibias heads"
FILES = {
    "run.json": [f"{run}/run.json" for run in ("run", "nodes", "search", "mixture")],
    "scores.safetensors": [
        f"{run}/scores.safetensors" for run in ("run", "nodes", "search", "mixture")
    ],
    "circuit.json": [f"{run}/circuit.json" for run in ("run", "nodes", "study", "mixture")],
    "inside.json": ["run/inside.json", "nodes/inside.json", "mixture/inside.json"],
    "evaluation.json": ["run/evaluation.json"],
    "card.json": ["learnt/card.json"],
    "latents.json": ["latents/latents.json"],
    "trace.json": ["traced/trace.json"],
    "comparison.json": ["compared/comparison.json"],
    "clusters.json": ["clustered/clusters.json"],
    "consensus.json": ["agreed/consensus.json"],
    "mib.json": ["track/mib.json"],
    "sweep.json": ["swept/sweep.json"],
    "validation.json": ["validated/validation.json"],
    "validation.csv": ["validated/validation.csv"],
    "means.safetensors": ["means.safetensors", "search/means.safetensors"],
    "af1.json": ["search/af1.json"],
    "report.json of a study": ["study/report.json", "elsewhere.json"],
    "report.json of a mitigation": ["letters/report.json"],
    "directions.safetensors": ["study/directions.safetensors"],
    "plan.json": ["plan.json", "letters/plan.json", "letters/model/edit_plan.json"],
}


@pytest.fixture(scope="module")
def sections(root):
    """Tables of fields by heading."""
    text = (root / "circuits" / "FILES.md").read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {heading: dict(ROW.findall(body)) for heading, body in pairs}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which every command that is quick has written its files."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mixture = tmp_path_factory.mktemp("mixture")
        save_mixture(mixture)
        (folder / "sweep.toml").write_text(SWEEP, encoding="utf-8")
        for command in COMMANDS:
            done = CliRunner().invoke(app, command.replace("MIXTURE", str(mixture)).split())
            assert done.exit_code == 0, (command, done.output)
    write(folder / "study", tiny_emotion.found())
    circuits.mitigate("nano", folder / "letters", train=4, test=4, others=9, recipes=RECIPES)
    (folder / "elsewhere.json").write_text(json.dumps(of_other_tasks()), encoding="utf-8")
    plan_of_everything().save(folder / "plan.json")
    return folder


def save_mixture(folder):
    """A random mixture of experts that reads the embedded model's tokens."""
    tokenizer = circuits.load_model("nano").tokenizer
    changes = {"num_hidden_layers": 3, "mlp_only_layers": [1], "vocab_size": len(tokenizer)}
    families.build("qwen2_moe", **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def of_other_tasks():
    """What a study says of other tasks; the tiny one's tokenizer can write none of them."""
    study = tiny_emotion.found()
    harness = Harness(
        model=circuits.load_model("nano"),
        concept=study.concept,
        directions=study.directions,
        chosen=study.chosen,
        layers=(0,),
        positions="last",
        new_tokens=1,
        batch_size=2,
    )
    return {"side_effects": {"other_tasks": other_tasks(harness, {"none": [untouched]}, 2, 0)}}


def plan_of_everything():
    """An edit of every kind, with directions of both kinds."""
    graph = circuit(("input->m0", 1.0), ("m0->logits", 1.0))
    edits = (
        e.add("m0.n1", {" A": -1.0}),
        e.project("m0.n1", [1.0, 0.0]),
        e.scale("a0.h0", 0.5),
        e.RankOne(site="m0", keys=(1.0, 0.0), direction=e.as_direction({" A": 1.0})),
        e.swap_attention("a0.h0", "S1", "S2"),
        e.steer("resid_post.0", {" A": 1.0}),
        e.clamp("resid_post.0", {" A": 1.0}, low=-1.0),
        e.affine("resid_post.0", offset=[1.0, 0.0]),
        latent_edit("resid_post.1.f3", "sae", factor=0),
        e.keep(graph),
    )
    return EditPlan(model="0" * 64, basis="raw", edits=edits)


def anchor(heading):
    """What a link to a heading is called."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def documented(sections, heading):
    """The paths of a file's table, with those of the shapes that it refers to."""
    shapes = {anchor(name): name for name in sections}
    paths = set()
    for name, meaning in sections[heading].items():
        path = tuple(name.split("."))
        paths.add(path)
        if link := SHAPE.search(meaning):
            paths |= {(*path, *rest) for rest in documented(sections, shapes[link[1]])}
    return paths


def content(path):
    """A file as JSON values: of tensors and columns the names count."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return dict.fromkeys(next(csv.reader(file)))
    with safe_open(str(path), framework="numpy") as file:
        header, names = file.metadata(), dict.fromkeys(file.keys())
    told = {name: json.loads(text) if text[0] in "{[" else text for name, text in header.items()}
    return names | told


def filled(value, known, path=()):
    """The paths of a JSON value; a name that the table lacks is ``*`` where the table has that."""
    yield path
    if isinstance(value, list):
        for item in value:
            yield from filled(item, known, path)
    elif isinstance(value, dict):
        for name, item in value.items():
            step = name if (*path, name) in known or (*path, "*") not in known else "*"
            yield from filled(item, known, (*path, step))


def differences(sections, made, heading):
    """Fields of a file's table that no such file has, and fields that the table lacks."""
    rows = documented(sections, heading)
    known = {row[:length] for row in rows for length in range(len(row) + 1)}
    found = set()
    for name in FILES[heading]:
        found |= set(filled(content(made / name), known))
    return [sorted(".".join(path) for path in paths) for paths in (rows - found, found - known)]


def test_the_files_and_fields_written_are_those_documented(root, sections, made):
    # One test, since several workers would each carry all commands out.
    for heading in FILES:
        made_up, missing = differences(sections, made, heading)
        assert not made_up, f"{heading} has no such fields"
        assert not missing, f"fields of {heading} that circuits/FILES.md does not explain"
    text = (root / "circuits" / "FILES.md").read_text(encoding="utf-8")
    written = {path.name for path in made.glob("*/*") if path.is_file()}
    assert written - set(re.findall(r"`([\w-]+\.\w+)`", text)) == {"circuit-1.json"}


def test_a_field_that_is_missing_or_made_up_is_seen(sections):
    rows = documented(sections, "validation.csv")
    known = {row[:length] for row in rows for length in range(len(row) + 1)}
    found = set(filled({"method": 1, "new": {"inner": [2]}}, known))
    assert found - known == {("new",), ("new", "inner")}
    assert ("kind",) in rows - found
