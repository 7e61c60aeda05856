"""The numbers of a model that is small enough to work out by hand."""

import pytest

from patching.nodes.edges import edges
from tests.known.micro import ANATOMY, OUTPUTS, STEPS, run


@pytest.mark.parametrize(("count", "output"), list(enumerate(OUTPUTS)))
def test_the_numbers_of_the_micro_model(count, output):
    assert run(STEPS[:count]) == pytest.approx(output, abs=1e-5)


def test_with_every_edge_cut_it_is_the_other_run():
    every = [edge.name for edge in edges(ANATOMY) if edge.name not in STEPS]
    assert run([*STEPS, *every]) == pytest.approx([25, 49], abs=1e-5)
