"""axe-core finds no serious fault on a page: as it opens, and with a head's details open."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from graphs.inside import Inside, InsidePrompt, Promoted, Word, packed
from graphs.page import beside, to_html
from tests.graphs import chromium
from tests.graphs.strategies import large
from tests.graphs.test_page_in_browser import browser, node, sample, show  # noqa: F401

AXE = Path(__file__).parent / "axe" / "axe.min.js"
DIGEST = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
FOUND = """axe.run(document, { resultTypes: ["violations"] }).then((result) => result.violations
    .filter((fault) => ["serious", "critical"].includes(fault.impact))
    .map((fault) => [fault.id, fault.help, fault.nodes.map((each) => each.html.slice(0, 200))]))"""
pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason="no Chromium on the PATH; Debian's package chromium has one"
)


def test_the_checker_is_the_one_that_its_readme_names():
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == DIGEST
    assert AXE.read_text(encoding="utf-8").startswith("/*! axe v4.14.1")


def faults(page):
    """Serious and critical faults of what is shown."""
    page.run(AXE.read_text(encoding="utf-8"))
    return page.run(FOUND)


def seen():
    """What a run keeps of a model at work, with text that means harm."""
    tokens = ["<b>", " Mary", "</script><script>alert(1)</script>", ' "onload="alert(1)']
    words = [
        Word(token=1, text=tokens[2], role="answer", clean=0.5, corrupted=0.1, circuit=0.4),
        Word(token=2, text=tokens[3], role="counterfactual", clean=0.1, corrupted=0.5, circuit=0.2),
    ]
    pattern = packed(np.tril(np.full((4, 4), 0.25)))
    attention = {"a0.h0": {"clean": pattern, "corrupted": pattern}}
    effects = {"a0.h0": {"clean": (1.0, -1.0), "corrupted": (0.5, 0.5)}}
    promotes = {"a0.h0": Promoted(more=((tokens[2], 1.0),), less=((tokens[3], 1.0),))}
    prompt = InsidePrompt(
        clean=tokens,
        corrupted=tokens[::-1],
        positions={"S1": 1},
        words=words,
        effects=effects,
        promotes=promotes,
        attention=attention,
    )
    return Inside(prompts=[prompt])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 375])
def test_a_page_has_no_serious_fault(show, width, scheme):  # noqa: F811
    page = show(to_html(sample(task="ioi"), seen()))
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=feature)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    try:
        assert faults(page) == []
        page.run(node("a0.h0"))
        assert page.run("document.querySelectorAll('#attention .cell').length") > 0
        assert faults(page) == []
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])


def test_a_large_page_and_pages_beside_each_other_have_none(show):  # noqa: F811
    assert faults(show(to_html(large(200)))) == []
    both = beside([to_html(sample()), to_html(large(25))], "two", ["what they share"])
    assert faults(show(both)) == []


def test_the_checker_sees_a_fault(show):  # noqa: F811
    page = show("<!DOCTYPE html><title>bad</title><button></button><p>no language, no name</p>")
    assert {fault[0] for fault in faults(page)} >= {"html-has-lang", "button-name"}


def test_hostile_tokens_words_and_names_stay_text(show):  # noqa: F811
    page = show(to_html(sample(task="<img src=x onerror=alert(1)>"), seen()))
    page.run(node("a0.h0"))
    text = page.run("document.body.textContent")
    assert "</script><script>alert(1)</script>" in text
    assert page.run("document.scripts.length") == to_html(sample()).count("<script")
    assert page.run("document.querySelectorAll('img, [onload], [onerror]').length") == 0
