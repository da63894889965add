"""``python tests/without.py EXTRA``: where that extra is not installed, all else works, and what needs it says so.

For an environment that lacks it (``nox -s without``). Nothing is hidden: a package that is there after all is a failure.
"""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import lowrankflow as lrf
from lowrankflow import cli

PACKAGES = {
    "accel": ("numba",),
    "data": ("sklearn",),  # pandas comes with xarray too
    "dist": ("dask", "distributed"),
    "io": ("xarray", "h5netcdf", "h5py"),
    "jax": ("jax", "flax"),
    "safetensors": ("safetensors",),
    "torch": ("torch",),
}
ONLY_WITH = {"lowrankflow.sweeps.cluster": "dist"}  #: modules that an extra alone imports


def small_run():
    loss = lrf.losses.LeastSquares(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
    return lrf.integrate(flow, lrf.random_point(4, 4, 2, rng=0), t_span=(0, 1))


def verify(folder):
    """The main job on files of one's own."""
    rng = np.random.default_rng(0)
    np.savetxt(folder / "x.csv", rng.standard_normal((40, 4)), delimiter=",")
    np.savetxt(folder / "y.csv", rng.standard_normal((40, 3)), delimiter=",")
    files = ["--inputs", str(folder / "x.csv"), "--targets", str(folder / "y.csv")]
    return cli.main(["verify", *files, "--rank", "2", "--natural-end", "5", "--quiet", "--out", str(folder / "report")])


def sweep(folder, to, **options):
    problem = {"inputs": str(folder / "x.csv"), "targets": str(folder / "y.csv"), "rank": 2, "natural_end": 1.0}
    return lrf.sweeps.sweep(lrf.sweeps.Grid.of(problem=problem, grid={"depth": [2, 3]}), to, **options)


def weights(path):
    path.write_bytes(b"weights")
    return lrf.data.read_network(path)


def needing(extra, folder):
    """What cannot be done without an extra; None where all can be done, and is slower."""
    return {
        "data": lambda: lrf.data.load("digits"),
        "io": lambda: small_run().to_netcdf(folder / "path.nc"),
        "dist": lambda: sweep(folder, folder / "cluster", scheduler="tcp://127.0.0.1:1"),
        "safetensors": lambda: weights(folder / "net.safetensors"),
        "torch": lambda: weights(folder / "net.pt"),
        "accel": None,
        "jax": None,  # trees are dicts
    }[extra]


def main(extra):
    found = [name for name in PACKAGES[extra] if importlib.util.find_spec(name)]
    assert not found, f"{found} are installed"
    for module in pkgutil.walk_packages(lrf.__path__, "lowrankflow."):
        if not module.name.endswith("__main__") and ONLY_WITH.get(module.name) != extra:
            importlib.import_module(module.name)
    with TemporaryDirectory() as name:
        folder = Path(name)
        small_run().save(folder / "path.npz")
        assert verify(folder) == 0, "verify"
        assert sweep(folder, folder / "sweep").complete, "sweep"
        work = needing(extra, folder)
        if work is not None:
            try:
                work()
            except ImportError as error:
                assert f'pip install "lowrankflow[{extra}]"' in str(error), error
            else:
                raise AssertionError(f"what needs {extra} went through")
    print(f"without {extra}: all else works")


if __name__ == "__main__":
    main(sys.argv[1])
