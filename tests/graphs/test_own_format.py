"""A format of one's own is found by name and suffix, and takes no other's place."""

import pytest

from graphs.formats import FORMATS, Format, find_format, register
from graphs.formats.registry import _FORMATS
from tasks.errors import FormatError


@pytest.fixture
def mermaid():
    form = Format("mermaid", ".mmd", "Mermaid", "everything but names", lambda g: b"graph TD")
    yield register(form)
    del _FORMATS["mermaid"]


def test_it_is_found_by_its_name_and_its_suffix(mermaid):
    assert find_format("ioi.mmd") is mermaid
    assert find_format("", "mermaid") is mermaid
    assert register(mermaid) is mermaid


@pytest.mark.parametrize(("name", "suffix"), [("json", ".new"), ("new", ".svg"), ("new", "svg")])
def test_a_name_or_suffix_that_is_taken_is_refused(name, suffix):
    before = dict(FORMATS)
    with pytest.raises(FormatError):
        register(Format(name, suffix, "another", "nothing", lambda g: b""))
    assert dict(FORMATS) == before
