"""Notebooks show a bar by default; nothing else does."""

import sys
from types import SimpleNamespace

import pytest
import tqdm.auto

from patching.notebook_bar import in_notebook
from patching.progress import Count
from patching.sweep import Sweep


class Bars:
    """Stands in for tqdm and keeps what it is told."""

    def __init__(self):
        self.made = []

    def __call__(self, **options):
        bar = SimpleNamespace(options=options, n=0, closed=False)
        bar.update = lambda more: setattr(bar, "n", bar.n + more)
        bar.close = lambda: setattr(bar, "closed", True)
        self.made.append(bar)
        return bar


@pytest.fixture
def bars(monkeypatch):
    found = Bars()
    monkeypatch.setattr(tqdm.auto, "tqdm", found)
    return found


def shell(monkeypatch, **config):
    inside = SimpleNamespace(get_ipython=lambda: SimpleNamespace(config=config))
    monkeypatch.setitem(sys.modules, "IPython", inside)


def test_a_kernel_of_a_notebook_shows_a_bar_until_the_work_is_done(monkeypatch, bars):
    shell(monkeypatch, IPKernelApp={})
    options = Sweep().counting(10, "scoring")
    options.tell(4)
    (bar,) = bars.made
    assert (bar.n, bar.closed) == (4, False)
    assert bar.options == {"total": 10, "desc": "scoring", "leave": False, "delay": 1.0}
    options.tell(6)
    assert (bar.n, bar.closed) == (10, True)


def test_other_places_and_work_with_a_progress_of_its_own_show_none(monkeypatch, bars):
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert in_notebook() is None
    Count(None, 3, "scoring")(3)
    shell(monkeypatch, TerminalIPythonApp={})
    assert in_notebook() is None
    shell(monkeypatch, IPKernelApp={})
    heard = []
    Count(lambda *said: heard.append(said), 3, "scoring")(3)
    assert heard == [(0, 3, "scoring"), (3, 3, "scoring")]
    assert bars.made == []
