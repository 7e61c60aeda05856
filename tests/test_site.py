"""The site: built without a network and without a warning, and everything public is in it."""

import os
import re
import subprocess
import sys

import pytest
import typer

import circuits
import tasks
from circuits.cli.app import EXIT_CODES, app
from circuits.selectors import SELECTORS
from graphs.formats import FORMATS
from patching.ablation.kinds import ABLATIONS, CUTS
from patching.methods import METHODS


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The site with its notebooks unrun, built in a process of its own with no way out."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    offline = {"CIRCUITS_DOCS_RUN": "off", "http_proxy": "http://127.0.0.1:9", "NO_COLOR": "1"}
    offline["https_proxy"] = offline["http_proxy"]
    where = [str(root / "docs"), str(out / "html"), "-d", str(out / "trees")]
    done = subprocess.run(
        [*command, *where], cwd=root, env=os.environ | offline, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = (out / "html").rglob("*.html")
    return {str(page.relative_to(out / "html")): page.read_text("utf-8") for page in pages}


def missing(page, names):
    return [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}\b", page)]


def commands(group, above="circuits "):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def test_everything_is_in_the_site(site, root):
    """One test, since every worker would build the site for itself."""
    api = site["generated/api.html"]
    assert [name for name in circuits.__all__ if f'id="circuits.{name}"' not in api] == []
    page = site["generated/commands.html"]
    for name, command in commands(typer.main.get_command(app)):
        assert name in page
        options = [option for each in command.params for option in each.opts]
        assert [option for option in options if option.lower() not in page.lower()] == []
    errors = site["generated/errors.html"]
    public = [name for name in circuits.__all__ if name.endswith("Error")]
    assert missing(errors, [*public, *map(str, EXIT_CODES)]) == []
    assert missing(site["generated/tasks.html"], tasks.names()) == []
    assert missing(site["generated/methods.html"], METHODS) == []
    assert missing(site["generated/selectors.html"], SELECTORS) == []
    assert missing(site["generated/ablations.html"], [*ABLATIONS, *CUTS]) == []
    assert missing(site["generated/formats.html"], FORMATS) == []
    every_page_can_be_reached(site, root)
    nothing_is_fetched(site)


def every_page_can_be_reached(site, root):
    front = site["index.html"]
    of_search = {"genindex.html", "search.html", "index.html", "py-modindex.html"}
    inner = [page for page in site if page not in of_search and not page.startswith("_")]
    tours = {f"notebooks/{file.stem}.html" for file in root.glob("notebooks/*.ipynb")}
    assert {page for page in inner if page.startswith("notebooks/")} == tours
    assert [page for page in inner if f'href="{page}"' not in front] == []


def nothing_is_fetched(site):
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]*?\bsrc="(https?:[^"]*)"|<link[^>]*?"(https?:[^"]*)"'
    )
    found = {match[0] for page in site.values() for match in loaded.finditer(page)}
    assert {text for text in found if "canonical" not in text} == set()
