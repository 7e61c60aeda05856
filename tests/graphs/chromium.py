"""A headless Chromium spoken to through a pipe: no driver and no socket is needed."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path


def find():
    """The program, or None where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    """One browser with one page. Every request and every complaint of the page is kept.

    No host is found but those that ``hosts`` leaves out.
    """

    def __init__(self, folder: Path, hosts: str = "MAP * ~NOTFOUND"):
        to_read, to_write = os.pipe(), os.pipe()
        self._out, self._in = to_read[1], to_write[0]
        command = [
            find(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--host-resolver-rules={hosts}",
            f"--user-data-dir={folder}",
            "--window-size=1400,1000",
            "--remote-debugging-pipe",
            "about:blank",
        ]

        # The browser reads from descriptor 3 and answers on 4; ours are kept clear of both.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read[0], to_write[1])]

        def arrange():
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=arrange,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*theirs, to_read[0], to_write[1]):
            os.close(end)
        self._buffer, self._count, self._session = b"", 0, None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        # Sandboxed frames live in a process and a session of their own.
        self.call(
            "Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True
        )
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method, session=None, **params):
        """Send a command and wait for its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == self._count:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def _receive(self, seconds=300):
        """The next message; a busy machine may take long to send one."""
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            self._buffer += os.read(self._in, 1 << 20)
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def open(self, path: Path):
        """Load a file and wait until it is there."""
        self.visit(path.as_uri())

    def visit(self, address: str):
        """Load an address and wait until that very page is there.

        The empty page that a browser begins with may still report that it is loaded while the
        next one is on its way, so reports of other pages do not count.
        """
        self.events.clear()
        loader = self.call("Page.navigate", url=address)["loaderId"]

        def loaded(event):
            told = event.get("params", {})
            return (event.get("method"), told.get("name"), told.get("loaderId")) == (
                *("Page.lifecycleEvent", "load"),
                loader,
            )

        while not any(map(loaded, self.events)):
            self.events.append(self._receive())

    def run(self, expression, session=None):
        """The value of a JavaScript expression, awaited if it is a promise."""
        options = {"returnByValue": True, "awaitPromise": True}
        told = self.call("Runtime.evaluate", session, expression=expression, **options)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def frame(self):
        """The session of the page's sandboxed frame, once its page is there."""
        while True:
            for event in self.events:
                if event.get("method") == "Target.attachedToTarget":
                    session = event["params"]["sessionId"]
                    for domain in ("Runtime", "Log", "Network"):
                        self.call(f"{domain}.enable", session)
                    if self.run("document.readyState", session) == "complete":
                        return session
            self.events.append(self._receive())

    def complaints(self):
        """Console errors, uncaught exceptions and log entries."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(params)
            elif event.get("method") == "Runtime.consoleAPICalled":
                found += [params] if params["type"] in ("error", "warning", "assert") else []
        return found

    def requests(self):
        """Addresses asked for."""
        asked = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def close(self):
        """End the browser."""
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
