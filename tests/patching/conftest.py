"""Models, pairs and settings that the tests of the engine share."""

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import families

# The same examples on every run, and no time limits: a busy machine is not a fault.
settings.register_profile(
    "patching",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patching")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors gain nothing from threads, and workers would compete for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=families.FAMILIES, scope="session")
def family(request):
    """Each family in turn."""
    return request.param


@pytest.fixture(scope="session")
def model(family):
    """The tiny random model of each family."""
    return families.opened(family)


@pytest.fixture(scope="session")
def pairs():
    """Five ragged pairs that share their first four columns."""
    return families.make_pairs()


@pytest.fixture(scope="session")
def gpt2():
    """One small model, where the family does not matter."""
    return families.opened("gpt2")


@pytest.fixture(params=["noising", "denoising"])
def direction(request):
    """Both directions."""
    return request.param
