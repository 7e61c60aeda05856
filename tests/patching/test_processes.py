"""Loops over prompts in several processes: the same bits as in one, and never a hang."""

import os
import signal
import socket
from collections import Counter

import numpy as np
import pytest
import torch

from patching import process_group, processes
from patching.journal import kept
from patching.messages import packed, unpacked
from patching.scoring import score
from patching.sweep import Sweep, shards
from tasks.errors import CircuitsError, MethodError, RunError
from tests import families
from tests.patching.test_sweep import LIVE, WORK, flat, gpt2, pairs
from tests.ranks import environment, free_port, on_ranks


def same(one, other):
    """Every bit, and every type."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for each in zip(one, other, strict=True):
            same(*each)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        same([*one.values()], [*other.values()])
    else:
        assert one == other


VALUES = [
    None,
    [True, False, 3, -2.5, float("inf"), "text with \u00e9"],
    (np.arange(6).reshape(2, 3) / 7, np.float64(0.1), np.zeros((2, 0)), np.array(["ab", "c"])),
    {("z", 3): torch.randn(2, 3, 4), ("m", 0): torch.ones(3, dtype=torch.bfloat16)[::2]},
    [torch.tensor(True), torch.zeros(0, 4, dtype=torch.long), torch.randn(3, 2).T],
]


@pytest.mark.parametrize("value", VALUES)
def test_a_message_says_what_was_put_in(value):
    same(value, unpacked(np.frombuffer(packed(value), dtype=np.uint8)))


def test_what_would_have_to_be_pickled_is_refused():
    with pytest.raises(TypeError, match="a Sweep cannot go"):
        packed([Sweep()])


def everything():
    """Every loop over prompts that there is, with shards of two and of one."""
    return {name: flat(work(Sweep(2))) for name, work in (WORK | LIVE).items()}


@pytest.mark.parametrize("count", [2, 4])
def test_every_loop_gives_the_bits_of_one_process(count, tmp_path):
    expected = everything()
    codes, found = on_ranks(count, everything, tmp_path)
    assert codes == [0] * count
    for each in found:
        for name, values in expected.items():
            np.testing.assert_array_equal(each[name], values, err_msg=name)


@pytest.mark.parametrize("level", ["edge", "node"])
def test_learned_masks_are_those_of_one_process(level, tmp_path, monkeypatch):
    from patching.learned import training

    monkeypatch.setattr(training, "STACK_BYTES", 1)
    many = families.make_pairs(12)

    def work():
        found = score(gpt2(), many, "learned", level, batch_size=3, steps=13, batch=4)
        return found.totals, found.clean, found.options["held_out_losses"]

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [0, 0]
    for each in found:
        same(work(), each)


def rows_of(size=2):
    done = []

    def work(rows):
        done.append((rows.start, rows.stop))
        return np.arange(rows.start, rows.stop)

    return [*shards(11, work, Sweep(size))], done


def test_whole_batches_are_dealt_in_turns(tmp_path):
    _, found = on_ranks(3, rows_of, tmp_path)
    one, _ = rows_of()
    for rank, (values, done) in enumerate(found):
        same(one, values)
        assert done == [(at, min(at + 2, 11)) for at in (0, 2, 4, 6, 8, 10)][rank::3]


def test_where_memory_runs_out_in_one_process_all_go_on_with_half(tmp_path):
    def work():
        def rows_given(rows):
            if processes.rank() == 1 and rows.stop - rows.start > 2:
                raise MemoryError
            return np.arange(rows.start, rows.stop)

        return [*shards(20, rows_given, Sweep(4))]

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [0, 0]
    same(found[0], found[1])
    assert [len(part) for part in found[0]] == [4, *[2] * 8]
    np.testing.assert_array_equal(np.concatenate(found[0]), np.arange(20))


def test_a_loop_within_a_dealt_one_is_the_process_s_own(tmp_path):
    def work():
        def outer(rows):
            return sum(shards(5, lambda inner: inner.stop * (rows.start + 1), Sweep(1)))

        return [*shards(3, outer, Sweep(1))]

    _, found = on_ranks(2, work, tmp_path)
    assert found == [work(), work()]


def test_shards_that_follow_from_one_another_are_those_of_the_first(tmp_path):
    def work():
        state = 1.0

        def step(rows):
            return np.array(state * 2 + processes.rank() / 8)

        states = []
        for found in shards(4, step, Sweep(1), chained=True):
            state = float(found)
            states.append(state)
        return states

    _, found = on_ranks(2, work, tmp_path)
    assert found == [[2.0, 4.0, 8.0, 16.0]] * 2


def test_what_a_journal_holds_no_process_computes_again(tmp_path):
    def work(last):
        done = []
        with kept(tmp_path / "run", "about") as journal:

            def rows_given(rows):
                done.append(rows.start)
                if rows.start >= last:
                    raise OSError("the disk is full")
                return np.arange(rows.start, rows.stop) / 3

            return [*shards(10, rows_given, Sweep(1, journal=journal))], done

    codes, _ = on_ranks(2, lambda: work(6), tmp_path)
    assert codes == [1, 2] or codes == [1, 1]
    assert (tmp_path / ".run.journal").stat().st_size
    codes, found = on_ranks(2, lambda: work(20), tmp_path)
    assert codes == [0, 0]
    assert [done for _, done in found] == [[6, 8], [7, 9]]
    same(found[0][0], [np.arange(i, i + 1) / 3 for i in range(10)])
    same(found[0][0], found[1][0])
    assert not (tmp_path / ".run.journal").exists()


def words(found):
    return sorted(str(error) for error in found)


def test_an_error_in_one_process_ends_all_and_is_said_once(tmp_path):
    said = tmp_path / "said"

    def work():
        try:

            def rows_given(rows):
                if rows.start == 5:
                    raise MethodError("a number that is not finite")
                return np.zeros(1)

            return [*shards(12, rows_given, Sweep(1))]
        except CircuitsError as error:
            other = isinstance(error, processes.OtherProcessError)
            if not other and processes.speaks(str(error)):
                with said.open("a") as file:
                    file.write(f"{error}\n")
            raise

    codes, found = on_ranks(3, work, tmp_path)
    assert codes == [2, 2, 2]
    assert said.read_text() == "a number that is not finite\n"
    assert words(found)[1:] == ["process 2 of 3 has failed; it says itself why"] * 2


def test_the_same_error_in_all_is_said_by_one(tmp_path):
    _, found = on_ranks(3, lambda: processes.speaks("no such task"), tmp_path)
    assert Counter(found) == {True: 1, False: 2}


def test_another_model_in_one_process_is_refused(tmp_path):
    models = families.opened("gpt2"), families.opened("llama")

    def work():
        return score(models[processes.rank()], pairs(), batch_size=2).totals

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [2, 2]
    for message in words(found):
        assert "process 1 of 2 is at something else than process 0 (model " in message
        assert "start all of them with the same command" in message


def test_another_program_in_one_process_is_refused(tmp_path, monkeypatch):
    def program():
        return {"the source": f"{processes.rank()}23", "the version of torch": "2"}

    monkeypatch.setattr(process_group, "program", program)
    codes, found = on_ranks(2, rows_of, tmp_path)
    assert codes == [2, 2]
    assert (
        "process 1 of 2 runs another program than process 0: the source is 123" in words(found)[0]
    )


def test_a_process_that_is_killed_is_named(tmp_path):
    def work():
        def rows_given(rows):
            if rows.start == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.zeros(1)

        return [*shards(12, rows_given, Sweep(1))]

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [-9, 2]
    assert "process 1 of 2" in str(found[0])


def test_a_process_that_stands_still_is_named(tmp_path):
    def work():
        def rows_given(rows):
            if rows.start == 3:
                # As a stopped process, which does nothing more: not even give signs of life.
                processes._group()._ended.set()
                signal.pause()
            return np.zeros(1)

        if processes.rank() == 1:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
            signal.alarm(20)
        return [*shards(6, rows_given, Sweep(1))]

    codes, found = on_ranks(2, work, tmp_path, CIRCUITS_TIMEOUT="2")
    assert codes == [2, 7]
    assert str(found[0]) == "process 1 of 2 has given no sign of life for 2 seconds"


def test_a_process_that_never_begins_is_named(tmp_path):
    def work():
        return rows_of() if processes.leads() else None

    codes, found = on_ranks(2, work, tmp_path, CIRCUITS_TIMEOUT="1")
    assert codes == [0, 2]
    assert "process 1 of 2 did not begin within 1 seconds" in str(found[0])


def test_a_process_that_ends_early_is_named(tmp_path):
    def work():
        one = rows_of()
        return rows_of() if processes.leads() else one

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [0, 2]
    assert "process 1 of 2 has ended before the others" in str(found[0])


def test_a_port_in_use_is_said(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in environment(0, 2, port, CIRCUITS_TIMEOUT="2").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RunError, match=f"port {port} is in use; give another"):
            process_group._store(2.0)


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "")
    with pytest.raises(RunError, match="start with torchrun --nproc-per-node 2 -m -- circuits"):
        process_group._store(2.0)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(RunError, match="WORLD_SIZE is 'two'"):
        processes.count()


def test_processes_can_be_left_out_of_account(monkeypatch):
    for name, value in environment(1, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    assert (processes.count(), processes.rank(), processes.dealt()) == (2, 1, True)
    with processes.alone():
        assert not processes.dealt()
    monkeypatch.setenv("CIRCUITS_PROCESSES", "off")
    assert (processes.count(), processes.rank(), processes.leads()) == (1, 0, True)


def test_cuda_without_a_number_is_the_process_s_own(monkeypatch):
    from patching.loading import check_device
    from tasks.errors import ModelError

    for name, value in environment(3, 4, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert str(check_device("cuda")) == "cuda:3"
    assert str(check_device("cuda:0")) == "cuda:0"
    assert str(check_device("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match="no device 'cuda:3' on this machine"):
        check_device("cuda")
