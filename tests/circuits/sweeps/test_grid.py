"""A sweep's file: every cell is checked before any is begun, and all faults are said at once."""

import pytest

from circuits.sweeps.grid import read_grid
from tasks.errors import FormatError

PLAIN = """
models = ["nano"]
tasks = ["ioi", "greater_than"]
methods = ["attribution", "ig:steps=3"]
seeds = [0, 1, 2]
[options]
n = 4
top = 20
"""


def written(folder, text):
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def test_there_is_a_cell_for_every_combination(tmp_path):
    grid = read_grid(written(tmp_path, PLAIN))
    assert len(grid.cells) == len({cell.name for cell in grid.cells}) == 12
    assert grid.cells[0].name == "nano-ioi-attribution-0"
    asked = {(c.config.task, c.config.method, c.config.seed) for c in grid.cells}
    assert len(asked) == 12
    assert {(cell.config.n, cell.config.top) for cell in grid.cells} == {(4, 20)}
    assert grid.evaluate is None
    assert grid.cell(grid.cells[7].name) is grid.cells[7]


def test_a_single_value_needs_no_brackets_and_defaults_are_those_of_discover(tmp_path):
    (cell,) = read_grid(written(tmp_path, 'models = "nano"\ntasks = "ioi"\n')).cells
    assert (cell.config.method, cell.config.seed) == ("secant", 0)


def test_an_unknown_model_in_cell_7_is_refused_before_anything_begins(tmp_path):
    text = PLAIN.replace('["nano"]', '["nano", "./gone"]').replace('"greater_than"', '"capitals"')
    text = text.replace('"ioi", "capitals"', '"ioi"')
    with pytest.raises(FormatError) as caught:
        read_grid(written(tmp_path, text))
    message = str(caught.value)
    assert "nothing was begun" in message
    assert "cell 7 (./gone, ioi" in message
    assert "and 5 more" in message
    assert "there is no directory './gone'" in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('models = ["nano"]\n', "", "models is missing"),
        ("seeds", "seed", "unknown field 'seed'"),
        ("[0, 1, 2]", '["a"]', "seeds is ['a']; write a list of whole numbers"),
        ("[0, 1, 2]", "[0, 0]", "seeds has '0' twice"),
        ("n = 4", 'n = "four"', "options.n is 'four', of the kind str; give int"),
        ("n = 4", "many = 4", "options: unknown field 'many'"),
        ("[options]", "[evaluate]\nk = 2\n[options]", "evaluate: unknown field 'k'"),
        ("ig:steps=3", "ig:step=3", "unknown option of ig 'step'"),
        ('"ig:steps=3"', '"secant", "auto"', "it is the same as cell"),
        ("top = 20", "top = 0", "top"),
        ("top = 20", "top = ", "sweep.toml"),
    ],
)
def test_what_is_no_sweep_is_refused_in_words(tmp_path, old, new, said):
    assert old in PLAIN
    with pytest.raises(FormatError) as caught:
        read_grid(written(tmp_path, PLAIN.replace(old, new)))
    assert said in str(caught.value)


def test_folders_of_equal_names_are_distinguished(tmp_path):
    text = PLAIN.replace('"ig:steps=3"', '"ig:steps=3,secant", "ig:steps=3_secant"')
    with pytest.raises(FormatError):
        read_grid(written(tmp_path, text))
    text = PLAIN.replace('"ioi", "greater_than"', '"ioi:style=a_b", "ioi:style=a b"')
    with pytest.raises(FormatError, match="style"):
        read_grid(written(tmp_path, text))
