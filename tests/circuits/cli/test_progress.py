"""What is said of work in progress, on a terminal and elsewhere."""

import io
import threading

import pytest
from rich.console import Console

from circuits.cli import progress
from circuits.clock import Clock
from patching.progress import Count


def test_time_left_is_that_of_the_pace_so_far():
    assert progress.time_left(1, 4, 10.0) == 30.0
    assert progress.time_left(4, 4, 10.0) == 0.0
    for unknown in ((0, 4), (2, 0), (2, None), (5, 4)):
        assert progress.time_left(*unknown, 10.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (760, "12:40"), (3720, "1:02:00")]
)
def test_times_are_told_as_a_clock_shows_them(seconds, text):
    assert progress.told_time(seconds) == text


def test_where_there_is_no_terminal_lines_say_what_is_left():
    said, now = io.StringIO(), 100.0
    printed = threading.Event()

    class Paper(io.StringIO):
        def write(self, text):
            said.write(text)
            printed.set()
            return len(text)

    def next_line():
        printed.clear()
        assert printed.wait(20)

    with progress._lines(Console(file=Paper(), width=200), 0.01, lambda: now) as tell:
        tell(0, 0, "opening the model")
        next_line()
        tell(0, 600, "localising")
        now = 140.0
        tell(120, 600, "localising")
        next_line()
        next_line()
    assert "opening the model, 0:00 so far\n" in said.getvalue()
    assert "localising: 120 of 600, 0:40 so far, about 2:40 left\n" in said.getvalue()


def test_on_a_terminal_every_step_is_a_bar_that_ends_full():
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=120, color_system=None)
    with progress._bars(console) as tell:
        tell(0, 0, "opening the model")
        for done in range(1, 4):
            tell(done, 12, "running circuits")
        tell(1, 2, "running circuits")
    last = said.getvalue().replace("\x1b[2K", "").split("opening the model")[-1]
    assert "12/12" in last
    assert "2/2" in last


def test_of_a_whole_there_is_one_bar_and_one_pace():
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=120, color_system=None)
    with progress._bars(console, whole=True) as tell:
        tell(100, 1000, "localising")
        tell(400, 1000, "trying edits")
    last = said.getvalue().split("localising")[-1]
    assert "trying edits" in last
    assert "localising" not in said.getvalue().split("trying edits")[-1]
    now = 100.0
    step = progress._Step("trying edits", 340, 1000, now, whole=True)
    assert step.line(440.0) == "trying edits: 34% of the whole, 5:40 so far, about 11:00 left"


def test_lines_of_a_whole_count_from_its_beginning():
    lines, now = [], 0.0

    class Paper(io.StringIO):
        def write(self, text):
            lines.append(text)
            return len(text)

    console = Console(file=Paper(), width=200)
    with progress._lines(console, 0.01, lambda: now, whole=True) as tell:
        tell(100, 1000, "localising")
        now = 60.0
        tell(500, 1000, "trying edits")
        deadline = threading.Event()
        while not any("trying" in line for line in lines):
            assert not deadline.wait(0.01)
    assert "trying edits: 50% of the whole, 1:00 so far, about 1:00 left\n" in "".join(lines)


def test_a_count_says_the_whole_before_anything_is_done():
    seen = []
    count = Count(lambda *at: seen.append(at), 5, "pages")
    count()
    count(4)
    assert seen == [(0, 5, "pages"), (1, 5, "pages"), (5, 5, "pages")]
    Count(None, 5, "pages")()


def test_a_clock_tells_of_every_step():
    seen = []
    clock = Clock(lambda *at: seen.append(at))
    with clock("reading"):
        pass
    assert seen == [(0, 0, "reading")]
    assert clock.seconds["reading"] >= 0
