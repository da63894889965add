"""Trajectories as labelled arrays and NetCDF files."""

import errno
import json
import os
import sys
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import xarray

import lowrankflow as lrf
from lowrankflow.losses import LeastSquares

M, N, RANK, DEPTH = 4, 3, 2, 3
SUMMARY = """\
Trajectory: FINISHED
  ended            The end of `t_span` was reached. t=0.1 of 0.1, NSTEPS steps, NFEV gradients.
  t                0 to 0.1, KEPT kept
  loss             FIRST to LAST
  singular values  LARGE SMALL, at the end
  stationarity     STATIONARITY, at the end
  method           DOP853
  cost             NFEV gradients, NSTEPS steps, 0 repairs
  columns          dissipated
  events           half (1)"""


@pytest.fixture
def paths(rng):
    """A run of each kind; every size of a dimension of its own, so that a transposed label cannot pass."""
    loss = LeastSquares(rng.standard_normal((N, 9)), rng.standard_normal((M, 9)))
    start = lrf.random_point(M, N, RANK, rng=rng)
    event = lrf.Event("half", lambda t, w: t - 0.05)
    low_rank = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)),
        start,
        t_span=(0, 0.1),
        rtol=1e-4,
        method="DOP853",
        events=[event],
        save=lrf.Save(integrals={"dissipated": lambda at: at.power}),
    )
    net = lrf.LinearNetwork.gaussian((M, N), DEPTH, widths=(5, 6), rng=rng)
    return {
        "low rank": low_rank,
        "network": lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 0.1), rtol=1e-4),
        "one factor": lrf.gradient_descent(
            loss, lrf.LinearNetwork([rng.standard_normal((M, N))]), step_size=0.01, steps=3
        ),
    }


KINDS = ["low rank", "network", "one factor"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_arrays_are_those_of_the_trajectory(kind, paths):
    path = paths[kind]
    data = path.to_xarray()
    np.testing.assert_array_equal(data.time, path.t)
    for name in ("loss", "singular_values", "stationarity"):
        np.testing.assert_array_equal(data[name], getattr(path, name))
    assert ("dissipated" in data) == (path.dissipated is not None)
    for k, w in enumerate(path.points):
        now = data.isel(time=k)
        if kind == "low rank":
            product = now.u.dot(now.s * now.vt, dim="mode")  # xarray sums over names, whatever the order of the axes
        else:
            product = now.W1
            for j in range(2, w.depth + 1):
                product = now[f"W{j}"].dot(product, dim=f"width_{j - 1}")
        # roundoff of two products of at most 3 factors, summed in different orders
        size = w.norm() if kind == "low rank" else np.prod([np.linalg.norm(f) for f in w.factors])
        bound = 100 * DEPTH * np.finfo(float).eps * size
        np.testing.assert_allclose(product.transpose("row", "column"), w.to_dense(), rtol=0, atol=bound)


def test_dimensions_have_names_and_sizes(paths):
    k = {kind: len(path.t) for kind, path in paths.items()}
    low = paths["low rank"].to_xarray()
    assert dict(low.sizes) == {"time": k["low rank"], "row": M, "column": N, "mode": RANK}
    assert (low.u.dims, low.s.dims, low.vt.dims) == (
        ("time", "row", "mode"),
        ("time", "mode"),
        ("time", "mode", "column"),
    )
    net = paths["network"].to_xarray()
    assert dict(net.sizes) == {"time": k["network"], "row": M, "column": N, "mode": N, "width_1": 5, "width_2": 6}
    assert net.W2.dims == ("time", "width_2", "width_1")
    assert paths["one factor"].to_xarray().W1.dims == ("time", "row", "column")


def test_the_kept_times_select(paths):
    path = paths["low rank"]
    near = path.to_xarray().loss.sel(time=path.t[2] * (1 + 1e-9), method="nearest")
    assert near == path.loss[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_and_the_arrays_say_what_they_are(kind, paths):
    path = paths[kind]
    data = path.to_xarray()
    for name in ("nfev", "nsteps", "restarts", "defect", "message"):
        assert data.attrs[name] == getattr(path, name)
    assert data.attrs["status"] == path.status.name
    assert data.attrs["source"] == f"lowrankflow {lrf.__version__}"
    assert json.loads(data.attrs["events"]) == path.events
    for variable in data.variables.values():
        assert set(variable.attrs) == {"long_name", "units"}
    means = data.stationarity.attrs["long_name"]
    assert (
        means == f"Frobenius norm of the {'projected gradient' if kind == 'low rank' else 'gradients of all factors'}"
    )


def test_method_and_passages_are_told_where_a_run_has_them(paths):
    path = paths["low rank"]
    passage = namedtuple("Passage", "t loss rank")
    path.method = "RKC"
    path.passages = [passage(np.float64(0.5), 1, 2)]
    attrs = path.to_xarray().attrs
    assert attrs["method"] == "RKC"
    assert json.loads(attrs["passages"]) == [{"t": 0.5, "loss": 1.0, "rank": 2}]


# ---------------------------------------------------------------------------------------------------------------------
# files


def opened(file):
    with xarray.open_dataset(file, engine="h5netcdf") as data:
        return data.load()


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_netcdf_round_trip(kind, points, paths, tmp_path):
    path = paths[kind]
    path.to_netcdf(tmp_path / "p.nc", points=points)
    back = opened(tmp_path / "p.nc")
    xarray.testing.assert_identical(back, path.to_xarray(points=points))
    assert {"u", "W1"}.isdisjoint(back) != points
    assert "row" in back.dims or not points
    for name in back.variables:
        assert back[name].dtype == np.float64
    assert [f.name for f in tmp_path.iterdir()] == ["p.nc"]


def test_values_that_are_not_finite_come_back(paths, tmp_path):
    path = paths["low rank"]
    path.loss[:3] = np.nan, np.inf, -np.inf
    path.singular_values[-1] = np.nan
    path.defect = float("nan")
    path.to_netcdf(tmp_path / "p.nc")
    back = opened(tmp_path / "p.nc")
    for name in ("loss", "singular_values", "s", "u"):
        assert back[name].values.tobytes() == path.to_xarray()[name].values.tobytes()
    assert np.isnan(back.attrs["defect"])


def test_a_run_without_points_is_written(paths, tmp_path):
    path = replace(paths["network"], points=[])
    path.to_netcdf(tmp_path / "p.nc")
    assert set(opened(tmp_path / "p.nc").data_vars) == {"loss", "singular_values", "stationarity"}


def test_an_error_while_writing_leaves_the_old_file(paths, tmp_path, monkeypatch):
    file = tmp_path / "p.nc"
    paths["low rank"].to_netcdf(file)
    old = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        paths["network"].to_netcdf(file)
    assert file.read_bytes() == old
    assert [f.name for f in tmp_path.iterdir()] == ["p.nc"]


@pytest.mark.parametrize("missing", ["xarray", "h5netcdf", "h5py"])
def test_without_the_extra_the_line_to_type_is_said(missing, paths, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as caught:
        paths["low rank"].to_netcdf(tmp_path / "p.nc")
    assert str(caught.value) == '`to_netcdf` needs xarray, h5netcdf and h5py. Run: pip install "lowrankflow[io]"'
    assert not list(tmp_path.iterdir())
    if missing == "xarray":
        with pytest.raises(ImportError) as caught:
            paths["low rank"].to_xarray()
        assert str(caught.value) == '`to_xarray` needs xarray. Run: pip install "lowrankflow[io]"'
    else:
        paths["low rank"].to_xarray()


def test_passages_come_back_from_a_file(tmp_path):
    loss = LeastSquares(np.eye(4), np.diag([4.0, 2.0, 0, 0]))
    start = lrf.random_point(4, 4, 2, rng=np.random.default_rng(0), singular_values=[1e-3, 1e-3])
    path = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 100), rtol=1e-4)
    assert len(path.passages) == 2
    path.save(tmp_path / "p.npz")
    assert lrf.Trajectory.load(tmp_path / "p.npz").passages == path.passages


def test_a_repr_is_a_summary(paths, tmp_path):
    path = paths["low rank"]
    numbers = {
        "NSTEPS": path.nsteps, "NFEV": path.nfev, "KEPT": path.t.size, "FIRST": f"{path.loss[0]:.6g}",
        "LAST": f"{path.loss[-1]:.6g}", "LARGE": f"{path.singular_values[-1, 0]:.4g}",
        "SMALL": f"{path.singular_values[-1, 1]:.4g}", "STATIONARITY": f"{path.stationarity[-1]:.3g}",
    }  # fmt: skip
    expected = SUMMARY
    for name, number in numbers.items():
        expected = expected.replace(name, str(number))
    assert repr(path) == str(path) == expected
    path.save(tmp_path / "path.npz")
    assert repr(lrf.Trajectory.load(tmp_path / "path.npz")) == expected


def test_a_repr_fits_a_screen_whatever_is_in_it(paths):
    long = [lrf.flow.Passage(t / 3, 1.0, 1) for t in range(1000)]
    for path in paths.values():
        wide = np.tile(np.geomspace(1, 1e-9, 1000), (path.t.size, 1))
        much = {f"column {i}": np.zeros(path.t.size) for i in range(1000)}
        full = replace(path, singular_values=wide, columns=much, passages=long, events={"e" * 500: [0.0] * 99}, method="m" * 999)
        lines = repr(full).splitlines()
        assert len(lines) <= 12 and max(map(len, lines)) <= 120
        assert "and 992 smaller" in lines[4]
    none = {name: getattr(paths["low rank"], name)[:0] for name in ("t", "loss", "singular_values", "stationarity")}
    nothing = replace(paths["low rank"], points=[], **none)
    assert len(repr(nothing).splitlines()) == 6  # no kept time: nothing to say of it
