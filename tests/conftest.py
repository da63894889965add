"""One BLAS thread, a headless matplotlib, and a random generator seeded from the name of the test."""

import os

# before the first import of numpy: on shared cores more threads only wait for each other
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

import zlib  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import threadpoolctl  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("lowrankflow", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("lowrankflow")


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """For a BLAS that a plugin loaded before the variables were set."""
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture
def rng(request):
    """A generator of its own for each test and case, the same in every run (crc32, not the salted hash)."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def torch():
    """PyTorch with a seed of its own."""
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield torch


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def pytest_collection_modifyitems(items):
    """Frameworks are gigabytes: what needs them is run in an environment of its own."""
    for item in items:
        if {"torch", "jax"}.intersection(item.fixturenames):
            item.add_marker("frameworks")


def pytest_runtest_setup(item):
    if item.get_closest_marker("frameworks") and not {"torch", "jax"}.intersection(item.fixturenames):
        pytest.importorskip("torch")
