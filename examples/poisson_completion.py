"""Counts with gaps: the Poisson likelihood of a table of which a fifth was never seen.

The table holds the ink in 64 cells of 1797 handwritten digits, whole numbers from 0 to 16, half of them 0. The log of the
expected count is a matrix of low rank, learnt by the depth-3 flow from the seen entries; when to stop is chosen on a tenth
of these, held out. The rival is the usual model of such tables, a rate for the row times a rate for the column, by
maximum likelihood. Both are judged by the Poisson deviance a count on the entries never seen. Needs scikit-learn.
"""

import argparse

import numpy as np
from scipy.special import xlogy
from sklearn.datasets import load_digits

import lowrankflow as lrf
from lowrankflow.losses import Entries, Measured, Poisson

DEPTH, SEEN, HELD_OUT, START = 3, 0.8, 0.1, 30.0


def deviance(rates, counts, mask):
    """Return the mean of 2 (y log(y / rate) - y + rate) over the entries of the mask."""
    y, rate = counts[mask], rates[mask]
    return float(2 * np.mean(xlogy(y, y / rate) - y + rate))


def rows_times_columns(counts, mask):
    """Return the most likely rates a_i b_j; a fixed point of the two conditions of the likelihood."""
    seen, b = np.where(mask, counts, 0), np.ones(counts.shape[1])
    for _ in range(100):
        a = seen.sum(axis=1) / (mask @ b)
        b = seen.sum(axis=0) / (a @ mask)
    return np.outer(a, b)


def flow(counts, mask, rank, units):
    """Return the rates at the given times, in units, learnt from the entries of the mask alone; and the trajectory."""
    rows, cols = np.nonzero(mask)
    loss = Measured(Entries(rows, cols, shape=counts.shape), Poisson(counts[rows, cols]), reduction="mean")
    # a singular value of the size of this log-linear model, under the curvature of the mean count over all entries
    size = np.linalg.norm(np.log(rows_times_columns(counts, mask)))
    unit = counts.size / (counts[mask].mean() * DEPTH * size ** (2 - 2 / DEPTH))
    rng = np.random.default_rng(1)
    start = lrf.random_point(*counts.shape, rank, rng=rng, singular_values=np.full(rank, START))
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, t_span=(0, unit * units[-1]), rtol=1e-3,
        method="auto", save=lrf.Save(times=unit * units, exact=True),
    )  # fmt: skip
    path.raise_if_failed()
    return [np.exp(w.to_dense()) for w in path.points[1:]], path


def main(quick=False):
    counts = load_digits().data[: 400 if quick else None]
    ranks, units = (4,) if quick else (2, 4, 8, 12), np.geomspace(50, 6000, 30)
    rng = np.random.default_rng(0)
    seen = rng.random(counts.shape) < SEEN
    fitted = seen & (rng.random(counts.shape) > HELD_OUT)
    inked = np.where(fitted, counts, 0).any(axis=0)  # a cell that was never inked has no most likely rate but zero
    counts, seen, fitted = counts[:, inked], seen[:, inked], fitted[:, inked]

    runs = {rank: flow(counts, fitted, rank, units)[0] for rank in ranks}
    curves = {rank: [deviance(rates, counts, seen & ~fitted) for rates in runs[rank]] for rank in ranks}
    rank = min(ranks, key=lambda r: min(curves[r]))
    stop = int(np.argmin(curves[rank]))
    rates, path = flow(counts, seen, rank, units[: stop + 1])  # now from all the seen entries
    numbers = {
        "rank": rank,
        "stopped at": float(units[stop]),
        "gradients": path.nfev,
        "flow": deviance(rates[-1], counts, ~seen),
        "rows x columns": deviance(rows_times_columns(counts, seen), counts, ~seen),
        "mean": deviance(np.full(counts.shape, counts[seen].mean()), counts, ~seen),
        "by rank": {r: deviance(runs[r][int(np.argmin(curves[r]))], counts, ~seen) for r in ranks},
    }
    m, n = counts.shape
    print(f"digits as a {m} x {n} table of counts, {100 * seen.mean():.1f} % seen; depth {DEPTH}, rank {rank}")
    print(f"stopped at {numbers['stopped at']:.0f} of {units[-1]:.0f} units, {path.nfev} gradients")
    print("Poisson deviance a count, on those never seen")
    for name in ("flow", "rows x columns", "mean"):
        print(f"{name:32} {numbers[name]:9.3f}")
    print("without the held-out entries, by rank: " + ", ".join(f"{r}: {d:.3f}" for r, d in numbers["by rank"].items()))
    assert numbers["flow"] < (0.8 if quick else 0.6) * numbers["rows x columns"] < numbers["mean"]
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="400 digits, one rank")
    main(**vars(parser.parse_args()))
