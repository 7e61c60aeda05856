"""The page of a run made anew, beside another's, or served with its model."""

import json
import shutil
import socket
from threading import Thread
from urllib.parse import urlencode, urlsplit

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.discover import run
from circuits.serve import served
from circuits.view import looked, page_of, pages_beside, read_viewed
from graphs import CircuitGraph
from graphs.inside import RUNS, unpacked
from graphs.view import View
from patching.runs import Batch
from tasks.errors import RunError
from tests import definitions
from tests.graphs import chromium
from tests.graphs.test_page import embedded
from tests.graphs.test_page_in_browser import PANEL, browser, node, show  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of nano."""
    place = tmp_path_factory.mktemp("runs") / "ioi"
    run(Config("ioi", n=5, top=30).settled(), place)
    return place


@pytest.fixture(scope="module")
def server(folder):
    """The run, served."""
    with served(read_viewed(folder)) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def ask(server, path, token=None, host=None, **words):
    """The status and the JSON, or the text, of an answer, over a pair of sockets and no network."""
    token = server.desk.token if token is None else token
    target = f"{path}?{urlencode({'token': token, **words})}"
    asked = f"GET {target} HTTP/1.0\r\nHost: {host or urlsplit(server.address).netloc}\r\n\r\n"
    ours, theirs = socket.socketpair()

    def answer():
        with theirs:
            server.RequestHandlerClass(theirs, ("127.0.0.1", 0), server)

    with ours:
        ours.sendall(asked.encode())
        thread = Thread(target=answer)
        thread.start()
        raw = b"".join(iter(lambda: ours.recv(65536), b""))
        thread.join()
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, body.decode() if path == "/" and status == 200 else json.loads(body)


def test_a_run_s_page_is_made_anew_from_its_files(folder):
    viewed = read_viewed(folder)
    assert viewed.note == ""
    kept = (folder / "circuit.html").read_text(encoding="utf-8")
    assert embedded(page_of(viewed)) == embedded(kept)


def test_what_a_reader_marks_stays_with_the_run_s_prompts(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    graph = CircuitGraph.load(copy / "circuit.json")
    graph.with_info(view=View(("m0",))).save(copy / "circuit.json")
    viewed = read_viewed(copy)
    assert viewed.note == ""
    assert embedded(page_of(viewed))["view"]["pinned"] == ["m0"]


def test_a_run_of_an_older_version_is_seen_and_can_be_looked_into(folder, tmp_path):
    copy = tmp_path / "old"
    shutil.copytree(folder, copy)
    (copy / "inside.json").unlink()
    done = CliRunner().invoke(app, ["view", str(copy), "--no-open"])
    assert done.exit_code == 0
    assert "before prompts and attention were kept" in done.stderr
    found = looked(read_viewed(copy))
    assert found.inside == read_viewed(folder).inside
    done = CliRunner().invoke(app, ["view", str(copy), "--look", "--no-open"])
    assert done.exit_code == 0, done.output
    assert (copy / "inside.json").read_bytes() == (folder / "inside.json").read_bytes()


def test_two_runs_stand_beside_each_other(folder):
    left = read_viewed(folder)
    right = read_viewed(folder / "circuit.json")
    page = pages_beside(left, right)
    assert page.count("<iframe") == 2
    assert "<h1>ioi on nano</h1>" in page


def test_the_command_writes_where_it_is_told_and_refuses_what_is_not_there(folder, tmp_path):
    path = tmp_path / "page.html"
    asked = ["view", str(folder), "-o", str(path), "--no-open"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    for wrong, told in (("nothing", "there is no run"), (str(tmp_path), "holds no circuit")):
        done = CliRunner().invoke(app, ["view", wrong])
        assert done.exit_code == 2
        assert told in done.stderr
    alone = CliRunner().invoke(app, ["view", str(folder / "circuit.json"), "--serve"])
    assert alone.exit_code == 2
    assert "a circuit without one" in alone.stderr


def test_a_port_in_use_is_named(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} is in use; choose another"):
            served(read_viewed(folder), port=port)
    with pytest.raises(RunError, match="no port 99999"):
        served(read_viewed(folder), port=99999)


def test_nobody_is_answered_without_the_token_or_by_another_name(server):
    assert server.server_address[0] == "127.0.0.1"
    for path in ("/", "/attention", "/cut", "/etc/passwd"):
        for token in ("", "x", server.desk.token[:-1]):
            assert ask(server, path, token)[0] == 403
    assert ask(server, "/", host="example.org")[0] == 400
    assert ask(server, "/nothing")[0] == 404
    status, page = ask(server, "/")
    assert status == 200
    assert not any(prompt["attention"] for prompt in embedded(page)["prompts"])


def test_attention_is_asked_for_head_by_head(server):
    model, _, pairs = server.desk.opened
    status, found = ask(server, "/attention", head="a2.h3", prompt=4)
    assert status == 200
    batch = Batch.of(model, pairs[4:5])
    for each in RUNS:
        pattern = definitions.values(model, batch, each)["pattern", 2][0, 3].numpy()
        assert abs(unpacked(found[each]) - pattern).max() < 1e-5
    for words in ({"head": "a9.h0"}, {"head": "m0"}, {"head": "a0.h0", "prompt": 99}):
        assert ask(server, "/attention", **{"prompt": 0, **words})[0] == 400
    assert ask(server, "/attention", prompt=0)[0] == 400


@pytest.mark.parametrize("parts", [["a3.h0"], ["m0->a3.h0<v>", "a2.h3->logits"], ["m1"]])
def test_a_cut_changes_the_answer_as_ablating_does(server, parts):
    model, _, pairs = server.desk.opened
    status, found = ask(server, "/cut", parts=json.dumps(parts), prompt=2)
    assert status == 200
    exact = circuits.ablate(model, pairs[2:3], parts)
    assert found["metric"] == [
        pytest.approx(float(exact.clean[0]), abs=1e-3),
        pytest.approx(float(exact.ablated[0]), abs=1e-3),
    ]
    assert len(found["words"]) == len(server.desk.viewed.inside.prompts[2].words)
    assert 0 < sum(found["words"]) <= 1 + 1e-6


@pytest.mark.parametrize("parts", ["[]", '["logits"]', '["a9.h9"]', "{", '"a0.h0"', "[1]"])
def test_a_cut_of_nothing_or_of_what_is_not_there_is_refused(server, parts):
    status, found = ask(server, "/cut", parts=parts, prompt=0)
    assert status == 400
    assert found["error"]


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on the PATH")
def test_a_head_is_cut_from_the_page_and_the_answer_changes(server, tmp_path_factory):
    hosts = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    page = chromium.Browser(tmp_path_factory.mktemp("profile"), hosts)
    try:
        page.visit(server.address)
        assert page.run("document.querySelectorAll('.node').length") > 0
        page.run(node("a3.h0"))
        shown = """new Promise((go) => {
            const look = () => (%s ? go(true) : setTimeout(look, 50));
            look();
        })"""
        assert page.run(shown % "document.querySelector('#attention .cell')")
        page.run("document.getElementById('cut').click()")
        assert page.run(shown % "state.cut")
        told = page.run(PANEL)
        assert "cut: a3.h0, metric" in told
        assert (
            page.run("[...document.querySelectorAll('#words thead th')].at(-1).textContent")
            == "cut"
        )
        page.run("document.getElementById('uncut').click()")
        assert "cut: a3.h0" not in page.run(PANEL)
        assert page.complaints() == []
    finally:
        page.close()
