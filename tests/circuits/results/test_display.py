"""Every public result shows itself in a notebook, loading nothing, and gives a data frame."""

import base64
import inspect
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import circuits
from circuits.dictionaries.meaning import Context
from circuits.edits import edit, plan
from circuits.held_out.comparison import Comparison
from circuits.held_out.evaluation import evaluate_held_out
from circuits.results.tables import Table
from circuits.studies.bias import mitigate, recipes
from circuits.studies.bias.report import report_card
from circuits.studies.bias.report_card import ReportCard
from circuits.studies.emotion.pipeline import Settings, study
from circuits.studies.emotion.prompts import emotions
from circuits.sweeps.table import Row as SweepRow
from circuits.sweeps.table import SweepTable
from patching.capture import Prompts
from tests import planted
from tests.families import make_pairs, opened
from tests.known import interchange

SCRIPT = "<script>alert(1)</script>"
NO_RESULTS = {
    "Model": "what is asked, which says its shape in one line",
    "Task": "what can be asked, which says its claim",
    "Scale | Circuit": "an edit; the table of edits is that of its plan",
    "Circuit": "an edit; the table of edits is that of its plan",
    "Latent": "an edit; the table of edits is that of its plan",
    "Plan": "what a discovery takes: a report of a few lines",
    "Iterator[EditedModel]": "a model for the length of a with block",
    "Path": "a folder of the caller's own",
    "Dictionary": "directions, which say their place and number in one line",
    "MeanActivations": "what ablations put elsewhere, which says what it is of in one line",
    "Consensus": "a circuit of its own, with its test: tested where it is made",
    "Installation": "versions, devices and models that are there: a report without numbers",
    "Run": "a folder: its circuit, scores and record are results of their own",
    "RunEvaluation": "the evaluation of a run, and the files it was written to",
    "list[Row]": "a list of what there is to choose from, as plain values",
    "list[Ability]": "plain values, one for each task",
    "dict[str, Any]": "a JSON schema",
}


@cache
def graph():
    model, pairs = interchange.opened(), interchange.pairs(12)
    found = circuits.discover(pairs, model=model, top=8)
    return found.with_info(task=SCRIPT, model=SCRIPT)


@cache
def scores():
    return circuits.score(interchange.opened(), interchange.pairs(12), level="edge")


@cache
def pairs():
    made = interchange.pairs(6)
    return replace(made, task=SCRIPT, texts=((SCRIPT, "$x_1$ & </table>"),) * len(made))


def evaluation():
    found = circuits.evaluate(graph(), interchange.opened(), interchange.pairs(12))
    return replace(found, metric=SCRIPT)


@cache
def examination():
    found = evaluate_held_out(
        graph(), scores(), interchange.opened(), interchange.pairs(20, 2), reference=graph()
    )
    return replace(
        found, curves=tuple(replace(c, name=f"{SCRIPT} {c.name} $") for c in found.curves)
    )


def ablated():
    found = circuits.ablate(interchange.opened(), interchange.pairs(12), ["m0", "m1"])
    return replace(found, what=(SCRIPT, "$x_1$ & </table>"), metric=SCRIPT)


def comparison():
    seen = examination()
    two = (*seen.curves[:2], *seen.curves[:2])
    sizes, names = (8, 8), (SCRIPT, "$b")
    outcomes = seen.outcomes.part([0, 0])
    return Comparison(names, sizes, outcomes, two, (1.0, 1.0), ({}, {}), {})


def validation():
    found = circuits.validate(
        interchange.opened(), interchange.pairs(12), ("secant",), ("mlp_out",)
    )
    return replace(found, comparisons=(replace(found.comparisons[0], method=SCRIPT),))


def all_for_one():
    found = circuits.af1(planted.opened(), planted.pairs(), alternatives=False)
    return replace(found, task=f"{SCRIPT} $", model=SCRIPT)


@cache
def bias():
    model = circuits.load_model("nano")
    questions = circuits.load_task("mcq_bias").pairs(model.tokenizer, n=4, seed=0)
    found = circuits.localise_bias(model, questions, top=2)
    return replace(found, parts=tuple(replace(part, tokens=(SCRIPT, "\n")) for part in found.parts))


def edit_plan():
    edits = (edit.add("m3.n1", {SCRIPT: 1.0}), edit.scale("a0.h0", 0.0))
    return plan.EditPlan(model="0" * 64, model_name=SCRIPT, basis="raw", edits=edits, note=SCRIPT)


@cache
def mitigation():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "COUNTS", (1,))
        patch.setattr(recipes, "STRENGTHS", (1.0,))
        settings = mitigate.Settings(train=4, test=12, others=9)
        return mitigate.find_mitigation(circuits.load_model("nano"), settings)


@cache
def card():
    found = report_card(circuits.load_model("nano"), mitigation())
    first = next(iter(found["conditions"].values()))
    hostile = {SCRIPT: first, "$": first}
    return ReportCard(found | {"plan": SCRIPT, "conditions": found["conditions"] | hostile})


@cache
def emotion_study():
    settings = Settings(groups=2, tests=2, new_tokens=3)
    return study(circuits.load_model("nano"), emotions(), settings, name=SCRIPT)


def probes():
    prompts = Prompts.of(np.random.default_rng(0).integers(0, 8, (12, 4)).tolist())
    labels = [SCRIPT, "$"] * 6
    return circuits.probe(interchange.opened(), prompts, labels, positions={SCRIPT: -1})


def nano_pairs():
    return circuits.load_task("ioi").pairs(circuits.load_model("nano").tokenizer, n=4, seed=0)


@cache
def trained():
    small = {"latents": 64, "k": 8, "steps": 40, "tokens": 2000, "n": 4, "tasks": ["ioi"]}
    return circuits.train_dictionary("nano", **small)


def meaning():
    model, given = circuits.load_model("nano"), [trained().dictionary]
    found = circuits.latent(model, given, "resid_post.1.f3", tokens=500, top=2)
    context = Context(1.0, SCRIPT, "$", "</table>")
    return replace(found, contexts=(context,), out=((SCRIPT, 1.0),))


def latent_study():
    given = {"n": 4, "held_out": 4, "sizes": (5, 20), "force_dictionary": True}
    return circuits.latents("nano", "ioi", [trained().dictionary], **given)


def steering():
    small = {"strengths": [4.0], "n": 4, "tokens": 500}
    given = "nano", "resid_post.1.f3", nano_pairs(), [trained().dictionary]
    return replace(circuits.steer_latent(*given, **small), name=SCRIPT)


def traced():
    small = {"latents": 64, "k": 8, "steps": 40, "tokens": 2000, "n": 4, "tasks": ["ioi"]}
    made = circuits.train_dictionary("nano", "m1", kind="transcoder", **small)
    found = circuits.trace("nano", "When Mary and John went to the park,", [made.dictionary])
    return replace(found, circuit=found.circuit.with_info(task=SCRIPT, model=SCRIPT))


def track():
    given = {"tasks": ["ioi"], "methods": ["attribution"], "n": 4, "test": 4}
    return replace(circuits.mib("nano", **given), model=SCRIPT)


def swept():
    row = {"model": SCRIPT, "task": "$", "method": "secant", "seed": 0}
    failed = SweepRow("b", **row, state="failed", fault=SCRIPT)
    return SweepTable((SweepRow(SCRIPT, **row, state="done", edges=3), failed))


def instrument(name):
    return getattr(circuits, name)(circuits.load_model("nano"), nano_pairs())


RESULTS = {
    "Trained": trained,
    "Quality": lambda: trained().quality,
    "Meaning": meaning,
    "LatentStudy": latent_study,
    "AttentionScores": lambda: instrument("attention"),
    "DirectEffects": lambda: instrument("direct_logit_attribution"),
    "LogitLens": lambda: instrument("logit_lens"),
    "PatchingMap": lambda: instrument("heat_map"),
    "PathEffects": lambda: instrument("path_patching"),
    "Steering": steering,
    "Trace": traced,
    "Track": track,
    "SweepTable": swept,
    "CircuitGraph": graph,
    "CircuitDiff": lambda: graph().diff(graph().top(4)),
    "Scores": scores,
    "HeatMap": lambda: scores().heat_map(),
    "PromptPairs": pairs,
    "AblationResult": ablated,
    "Evaluation": evaluation,
    "HeldOutEvaluation": examination,
    "Curve": lambda: examination().curves[0],
    "Comparison": comparison,
    "Validation": validation,
    "AllForOne": all_for_one,
    "Bias": bias,
    "EditPlan": edit_plan,
    "Mitigation": mitigation,
    "Search": lambda: mitigation().search,
    "ReportCard": card,
    "Study": emotion_study,
    "Probes": probes,
    "Routing": lambda: circuits.routing(opened("mixtral"), make_pairs()),
}


@cache
def result(name):
    return RESULTS[name]()


def shown(value):
    """What a notebook is given: type -> content."""
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(value)
    return data


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", circuits.__all__)
def test_what_a_public_function_gives_is_a_result_tested_here(name):
    value = getattr(circuits, name)
    if inspect.isroutine(value):
        given = str(inspect.signature(value).return_annotation)
        assert given in {*RESULTS, *NO_RESULTS}, f"{name} gives {given}"
    elif not issubclass(value, Exception):
        assert name in {*RESULTS, *NO_RESULTS}


@pytest.mark.parametrize("name", RESULTS)
def test_it_shows_itself_escaped_with_nothing_to_load(name):
    assert type(result(name)).__name__ == name
    data = shown(result(name))
    page = data.get("text/html") or data["image/svg+xml"]
    assert not re.search(
        r"https?:|\bhref=|@import|url\((?!#)", re.sub(r'xmlns\S*="[^"]*"', "", page)
    )
    if "text/html" in data:
        tags = {tag for tag, _ in Elements(page).found}
        assert tags <= {"table", "caption", "tr", "th", "td", "code", "br", "p", "img", "div"} | {
            *("thead", "tbody", "style")
        }
    assert SCRIPT not in page
    assert len(page) < 400_000


@pytest.mark.parametrize("name", RESULTS)
def test_it_says_what_it_is_in_a_line(name):
    told = shown(result(name))["text/plain"]
    assert name in told
    assert len(told) < 400


@pytest.mark.parametrize("name", RESULTS)
def test_it_gives_a_data_frame(name):
    frame = result(name).to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame)
    assert frame.index.is_unique


def test_pictures_are_whole_and_always_the_same():
    for name in ("Curve", "HeldOutEvaluation", "Comparison", "AllForOne", "ReportCard", "Study"):
        page = result(name)._repr_html_()
        assert page == result(name)._repr_html_()
        pictures = [attrs for tag, attrs in Elements(page).found if tag == "img"]
        assert pictures
        for picture in pictures:
            assert picture["alt"]
            head, data = picture["src"].split(",")
            assert head == "data:image/svg+xml;base64"
            assert base64.b64decode(data).rstrip().endswith(b"</svg>")


def test_an_evaluation_s_row_says_what_its_table_says():
    (row,) = result("Evaluation").to_frame().to_dict("records")
    assert row["low"] <= row["faithfulness"] <= row["high"]
    assert row["n"] == len(interchange.pairs(12))


def test_an_examination_s_frame_has_the_areas_with_their_intervals():
    frame = result("HeldOutEvaluation").to_frame()
    areas = frame[frame.index.str.startswith("cpr")]
    assert len(areas) == 3
    assert (areas.low <= areas.value).all()
    assert (areas.value <= areas.high).all()
    assert frame.value["Jaccard"] == 1.0


def test_where_nothing_is_recoverable_a_curve_says_so():
    curve = examination().curves[0]
    outcomes = curve.outcomes
    alike = replace(outcomes, metric=np.zeros_like(outcomes.metric))
    nothing = replace(curve, outcomes=alike)
    assert "does not distinguish the two" in nothing._repr_html_()
    assert nothing.to_frame().faithfulness.isna().all()


def test_all_for_one_s_frame_has_every_point_of_every_grid():
    found = result("AllForOne")
    frame = found.to_frame()
    assert len(frame) == sum(len(grid) for grid in found.grids.values())
    point = frame.loc[("cama, abp", found.chosen.wait, found.chosen.transfer)]
    assert point["share"] == found.faithfulness.value


def test_a_report_card_is_the_plain_values_of_its_file():
    assert json.loads(json.dumps(card())).keys() == card().keys()
    value = card()["conditions"]["no edit"]["accuracy"]["value"]
    assert card().to_frame().value["no edit", "accuracy"] == value


def test_long_frames_say_how_much_is_left_out():
    frame = pd.DataFrame({"x": [1.0, float("nan"), 3.0]}, index=["<a>", "b", "c"])
    told = Table.of(frame, "numbers", most=2).html()
    assert "<td style='text-align:left'>&lt;a&gt;</td><td>1.000</td>" in told
    assert "<td></td>" in told
    assert "and 1 more" in told
