"""What is said of a mitigation's time beforehand, beside the work that is then done."""

from types import SimpleNamespace

import pytest

from circuits.clock import Whole
from circuits.studies.bias import mitigate, report
from circuits.studies.bias.forecast import Forecast, forecast
from tests.circuits.studies.bias.conftest import SETTINGS


class Counter:
    """Tokens that go through the MLP of any block, and tokens that are unembedded."""

    def __init__(self):
        self.blocks = self.ends = 0

    def block(self, _module, given, _out):
        self.blocks += given[0][..., 0].numel()


@pytest.fixture
def work(biased, monkeypatch):
    """Counts what the model does."""
    counter, unembed = Counter(), biased.unembed

    def counted(x, *rest, **named):
        counter.ends += x[..., 0].numel()
        return unembed(x, *rest, **named)

    monkeypatch.setattr(biased, "unembed", counted)
    hooks = [block.up.register_forward_hook(counter.block) for block in biased.blocks]
    yield counter
    for hook in hooks:
        hook.remove()


def test_the_work_is_about_what_was_said(biased, material, work):
    expected = forecast(biased, material, SETTINGS)
    assert expected.seconds > 0
    work.blocks = work.ends = 0
    steps = []
    progress = Whole(lambda done, total, what: steps.append((done, total, what)), expected.steps)
    mitigation = mitigate.find_mitigation(biased, SETTINGS, progress, material)
    report.report_card(biased, mitigation, progress)
    block = sum(matrix.numel() for matrix in biased.blocks[0].matrices())
    done = work.blocks + work.ends * biased.unembedding.numel() / block
    # The forecast counts the last block's tokens, where only the last position goes through it.
    assert 0.5 < sum(expected.steps.values()) / done < 2
    shares = [done for done, _, _ in steps]
    assert shares == sorted(shares)
    assert list(dict.fromkeys(what for _, _, what in steps)) == list(expected.steps)


def test_where_it_is_long_a_smaller_setting_is_named():
    settings = mitigate.Settings(train=48, test=400, others=200)
    short = Forecast({"one": 600.0}, 1.0, 400)
    long = Forecast({"one": 1200.0, "two": 1200.0}, 1.0, 400)
    assert short.lines(settings) == ["This takes about 10 minutes."]
    assert long.lines(settings) == [
        "This takes about 40 minutes.",
        "--train 24 --test 200 --others 100 takes about 20 minutes.",
    ]


@pytest.mark.parametrize(
    ("weights", "asked", "n"),
    [
        (1_000_000, None, 400),
        (134_515_008, None, 200),
        (268_000_000, None, 100),
        (8_000_000_000, None, 100),
        (8_000_000_000, 400, 400),
    ],
)
def test_large_models_are_tested_on_fewer_questions_unless_they_are_asked_for(weights, asked, n):
    matrix = SimpleNamespace(numel=lambda: weights)
    model = SimpleNamespace(hf=SimpleNamespace(parameters=lambda: [matrix]))
    assert mitigate.Settings(test=asked).questions_to_test(model) == n


def test_a_whole_is_shared_out_by_what_steps_cost():
    said = []
    whole = Whole(lambda *at: said.append(at), {"one": 30.0, "two": 70.0})
    whole(0, 0, "before")
    whole(1, 2, "one")
    whole(0, 5, "two")
    whole(1, 2, "one")
    whole(5, 5, "two")
    assert said == [
        (0, 1000, "before"),
        (150, 1000, "one"),
        (300, 1000, "two"),
        (300, 1000, "one"),
        (1000, 1000, "two"),
    ]
