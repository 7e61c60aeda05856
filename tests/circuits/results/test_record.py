"""`run.json`: what it holds, and what is refused when it is read."""

import json

import pytest

from circuits.results.record import read_record
from tasks.errors import FormatError


def test_a_record_reads_back_equal(tmp_path, config, make_record):
    record = make_record(config)
    path = tmp_path / "run.json"
    path.write_text(record.to_json())
    assert read_record(path) == record


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": "2.0"}, r"has schema version '2.0'; this program reads 1.x; use the"),
        ({"kind": "marathon"}, "kind"),
        ({"circuit": {"nodes": "many"}}, "circuit.nodes"),
    ],
)
def test_other_files_are_refused_with_every_fault(tmp_path, config, make_record, changes, words):
    data = json.loads(make_record(config).to_json()) | changes
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match=words):
        read_record(path)


def test_fields_of_a_later_minor_version_are_passed_over(tmp_path, config, make_record):
    record = make_record(config)
    data = json.loads(record.to_json()) | {"schema_version": "1.7", "mood": "sunny"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data))
    assert read_record(path).circuit == record.circuit


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="cannot read"):
        read_record(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(FormatError, match=r"run\.json is not valid JSON"):
        read_record(tmp_path / "run.json")
