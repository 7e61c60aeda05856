"""A run's page on this machine alone, that can ask the model: attention, and what a cut changes.

    /            the page
    /attention   a head's patterns on a prompt, computed when they are asked for
    /cut         the words' probabilities and the metric with parts of the model cut

Every request needs the token that was printed, and comes from this machine: the server listens at
the loopback address, and refuses other names for it.
"""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from circuits.view import Viewed, opened_run
from graphs.page import to_html
from tasks.errors import CircuitsError, RunError, SiteError

if TYPE_CHECKING:
    from circuits.config import Config
    from patching.model import Model
    from patching.nodes.edges import EdgeSet
    from patching.nodes.layout import Layout
    from tasks import PromptPairs

HOST = "127.0.0.1"
MOST_PARTS, LONGEST = 100, 8192


@dataclass
class Desk:
    """A run with its model, opened at the first question; questions are answered one by one."""

    viewed: Viewed
    model_name: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    lock: Lock = field(default_factory=Lock)

    @cached_property
    def opened(self) -> tuple[Model, Config, PromptPairs]:
        """Model, choices and prompts."""
        return opened_run(self.viewed, self.model_name)

    @cached_property
    def page(self) -> str:
        """The page, without the attention patterns: they are asked for."""
        inside = self.viewed.inside
        prompts = [prompt.model_copy(update={"attention": {}}) for prompt in inside.prompts]
        light = inside.model_copy(update={"prompts": tuple(prompts)})
        return to_html(self.viewed.graph, light, served=self.token)

    def attention(self, head: str, prompt: int) -> dict[str, str]:
        """A head's pattern in both runs of a prompt pair, in the page's form.

        Raises:
            SiteError: it is no head of the model.
        """
        from circuits.inside import attention
        from patching.runs import Batch
        from patching.sites import parse_site

        model, _, pairs = self.opened
        site = parse_site(head, model.anatomy)
        if site.kind != "head":
            raise SiteError(f"'{head}' is not a head, and only heads attend")
        row = _row(prompt, pairs)
        batch = Batch.of(model, pairs[row : row + 1], row)
        return attention(model, batch, [site])[site.name]

    def cut(self, parts: Sequence[str], prompt: int) -> dict[str, Any]:
        """Probabilities of the page's words, and the metric before and after, on one prompt pair.

        What the cut parts carry is replaced as outside the run's circuit; of a node everything
        that it sends. All else carries the clean run.

        Raises:
            SiteError: parts that the model does not have.
        """
        from circuits.evaluate import edges_of
        from patching.circuit_run import settled_runner
        from patching.metrics import check_metric
        from patching.nodes.edges import EdgeSet
        from patching.runs import Batch

        model, config, pairs = self.opened
        row = _row(prompt, pairs)
        batch = Batch.of(model, pairs[row : row + 1], row)
        layout = EdgeSet.of(edges_of(self.viewed.graph), model.anatomy).layout
        whole = EdgeSet.all(layout)
        left = whole - parts_cut(parts, layout)
        runner = settled_runner(model, pairs, config.ablation, nodes=layout.nodes)(batch)
        metric = check_metric(self.viewed.graph.info.metric or pairs.metric)
        logits = runner.logits(whole), runner.logits(left)
        shares = logits[1][0].double().softmax(-1)
        kept = self.viewed.inside.prompts
        ids = [word.token for word in kept[row].words] if row < len(kept) else []
        return {
            "metric": [float(metric(found, batch.pairs)) for found in logits],
            "words": [float(shares[token]) for token in ids],
        }


def parts_cut(parts: Sequence[str], layout: Layout) -> EdgeSet:
    """The edges that are cut with some edges and nodes: of a node all that it sends.

    Raises:
        SiteError: parts that the model does not have, or that send nothing.
    """
    import numpy as np

    from patching.nodes.edges import EdgeSet
    from patching.sites import parse_edge, parse_site

    if not parts or len(parts) > MOST_PARTS:
        raise SiteError(f"{len(parts)} parts to cut; give 1 to {MOST_PARTS}")
    edges = [parse_edge(part, layout.anatomy) for part in parts if "->" in part]
    numbers = [layout.number(edge) for edge in edges]
    cut = EdgeSet.numbered(layout, np.array(numbers, dtype=np.int64))
    senders, _ = layout.ends(np.arange(layout.n_edges))
    for part in parts:
        if "->" in part:
            continue
        site = parse_site(part, layout.anatomy)
        if site.kind in ("logits", "input"):
            raise SiteError(f"'{part}' is an end of the model; cut what lies between them")
        number = layout.sender_number(site.at(None))
        cut |= EdgeSet(layout, senders == number)
    return cut


def _row(prompt: int, pairs: PromptPairs) -> int:
    if not 0 <= prompt < len(pairs):
        raise RunError(f"there is no prompt {prompt + 1}; this run has {len(pairs)}")
    return prompt


class _Handler(BaseHTTPRequestHandler):
    """Answers the three addresses; everything else is not found."""

    server: Served

    def do_GET(self) -> None:
        """Answer, or say what is wrong; a question without the token gets nothing."""
        address = urlsplit(self.path)
        words = {name: values[-1] for name, values in parse_qs(address.query).items()}
        if self.headers.get("Host", "") not in self.server.names or len(self.path) > LONGEST:
            return self._send(400, {"error": "this server answers its own address alone"})
        if not secrets.compare_digest(words.get("token", "").encode(), self.server.secret):
            return self._send(
                403, {"error": "the token is missing or wrong; use the whole address"}
            )
        if address.path == "/":
            return self._reply(200, "text/html; charset=utf-8", self.server.desk.page.encode())
        answer = self.server.answers.get(address.path)
        if answer is None:
            return self._send(404, {"error": f"there is nothing at {address.path}"})
        try:
            with self.server.desk.lock:
                return self._send(200, answer(words))
        except (CircuitsError, KeyError, ValueError) as error:
            return self._send(400, {"error": str(error)})

    def _send(self, code: int, values: Any) -> None:
        self._reply(code, "application/json", json.dumps(values).encode())

    def _reply(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: addresses hold the token."""


class Served(ThreadingHTTPServer):
    """The server of one run."""

    daemon_threads = True

    def __init__(self, desk: Desk, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.desk = desk
        self.secret = desk.token.encode()
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.answers: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
            "/attention": lambda words: desk.attention(words["head"], int(words["prompt"])),
            "/cut": lambda words: desk.cut(_parts(words["parts"]), int(words["prompt"])),
        }

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_port}/?token={self.desk.token}"


def _parts(text: str) -> list[str]:
    parts = json.loads(text)
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise SiteError("parts are a list of names")
    return parts


def served(viewed: Viewed, model: str | None = None, port: int = 0) -> Served:
    """A server of a run's page, not yet running; port 0 is any that is free.

    Raises:
        RunError: the port is in use, or may not be used.
    """
    try:
        return Served(Desk(viewed, model), port)
    except OverflowError:
        raise RunError(f"there is no port {port}; ports are 0 to 65535") from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used"
        raise RunError(
            f"port {port} {why}; choose another with --port, or leave it out for a free one"
        ) from None
