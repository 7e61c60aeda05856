"""What a killed command left: read back in order, cut where it ends, never taken for another's."""

import subprocess
import sys

import numpy as np
import pytest

from patching.journal import Journal, Shard, kept
from tasks.errors import RunError

WORK, OTHER = b"w" * 32, b"o" * 32
VALUES = (
    np.arange(6.0).reshape(2, 3),
    (np.array([True, False]), np.float64(0.1)),
    (np.zeros((0, 3), np.int64),),
)


def shard(at, value=VALUES[0]):
    return Shard(at, at + 2, value, 0.5)


def write(path, values, about="a command"):
    journal = Journal(path, about)
    for at, value in enumerate(values):
        journal.append(WORK, shard(2 * at, value))
    journal.close(done=False)


def read(path, count, about="a command", work=WORK):
    journal = Journal(path, about)
    found = [journal.recall(work, 2 * at) for at in range(count)]
    journal.close(done=False)
    return found, journal


def test_shards_come_back_as_they_were(tmp_path):
    write(tmp_path / "journal", VALUES)
    found, journal = read(tmp_path / "journal", 4)
    assert found[3] is None
    assert journal.saved == 1.5
    for each, value in zip(found, VALUES, strict=False):
        assert type(each.value) is type(value)
        mine, its = (
            np.atleast_1d(v) if isinstance(v, np.ndarray) else v for v in (each.value, value)
        )
        for one, other in zip(mine, its, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.asarray(one).dtype == np.asarray(other).dtype


def test_a_file_cut_off_anywhere_gives_the_shards_before_it(tmp_path):
    """As a kill leaves it: every prefix of the file."""
    path = tmp_path / "journal"
    write(path, VALUES)
    whole = path.read_bytes()
    ends = []
    for count in range(1, 4):
        write(tmp_path / f"{count}", VALUES[:count])
        ends.append(len((tmp_path / f"{count}").read_bytes()))
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        found, _ = read(path, 3)
        complete = sum(end <= length for end in ends)
        assert [each is not None for each in found] == [at < complete for at in range(3)]
        write_on(path, complete)
        assert path.read_bytes() == whole


def write_on(path, complete):
    journal = Journal(path, "a command")
    for at, value in enumerate(VALUES):
        if journal.recall(WORK, 2 * at) is None:
            assert at >= complete
            journal.append(WORK, shard(2 * at, value))
    journal.close(done=False)


@pytest.mark.parametrize("at", [40, 120])
def test_a_changed_byte_ends_the_reading(tmp_path, at):
    path = tmp_path / "journal"
    write(path, VALUES)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert read(path, 3)[0] == [None] * 3


def test_another_command_or_other_work_begins_anew(tmp_path):
    path = tmp_path / "journal"
    write(path, VALUES)
    assert read(path, 1, work=OTHER)[0] == [None]
    write(path, VALUES)
    assert read(path, 1, about="another command")[0] == [None]
    write(path, VALUES[:1])
    assert read(path, 1)[0][0] is not None


def test_two_processes_do_not_write_one_journal(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path, "a command")
    journal.append(WORK, shard(0))
    before = path.read_bytes()
    code = (
        "import sys, pathlib; from patching.journal import *; import numpy as np\n"
        "j = Journal(pathlib.Path(sys.argv[1]), 'a command')\n"
        "assert j.recall(b'w' * 32, 0) is None\n"
        "j.append(b'w' * 32, Shard(0, 2, np.zeros(3), 0.0)); j.close(True)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.read_bytes() == before
    journal.close(done=True)
    assert not path.exists()


@pytest.mark.parametrize("error", [RunError("no"), KeyboardInterrupt(), None])
def test_a_command_that_ends_leaves_no_journal(tmp_path, error):
    folder = tmp_path / "runs"
    try:
        with kept(folder / "ioi", "a command") as journal:
            journal.append(WORK, shard(0))
            assert [entry.name for entry in folder.iterdir()] == [".ioi.journal"]
            if error is not None:
                raise error
    except (RunError, KeyboardInterrupt):
        pass
    assert list(folder.iterdir()) == []


def test_a_command_that_fails_leaves_what_it_computed(tmp_path):
    with pytest.raises(OSError, match="full"), kept(tmp_path / "ioi", 1) as journal:
        journal.append(WORK, shard(0))
        raise OSError("disk full")
    with kept(tmp_path / "ioi", 1) as journal:
        assert journal.recall(WORK, 0) is not None
    with kept(None, 1) as journal:
        assert journal is None
