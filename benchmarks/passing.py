"""Flows that leave their rank: 200 random starts under metrics of unbalanced factors, against the factors themselves.

Least squares with random targets, starts of random frames and singular values (a third of them with one of 1e-6, a third
with a tie), imbalances from 0.1 to 3, over t in [0, 4]. *Gap* is the largest distance of W to the product of the factors
at 16 times, relative to W where that is above one, both sides by DOP853 at rtol 1e-12. *Passed* counts the runs in which
det W changes its sign, *lost* those that the singular frame cannot finish (at rtol 1e-8).
"""

from __future__ import annotations

from measure import parse, table, write  # isort: skip  # sets one thread before numpy loads

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.metrics import KappaBalancedMetric, LambdaBalancedMetric

T_END, RTOL = 4.0, 1e-12


def size(rng: np.random.Generator) -> float:
    """Return the size of an imbalance, between 0.1 and 3, as likely by each factor."""
    return float(np.exp(rng.uniform(np.log(0.1), np.log(3))))


def kappa(rng: np.random.Generator) -> KappaBalancedMetric:
    """Return a metric of two to four factors in which 0 is a simple root."""
    metric = KappaBalancedMetric(rng.choice([-1, 1], 3)[: rng.integers(1, 4)] * size(rng))
    return kappa(rng) if metric.preserves_rank else metric


#: the metric, and (m, n, rank) from three sizes in increasing order
KINDS: dict[str, tuple[Callable[[np.random.Generator], Any], Callable[[int, int, int], tuple[int, int, int]]]] = {
    "lambda > 0, square": (lambda rng: LambdaBalancedMetric(size(rng)), lambda a, b, c: (b, b, b)),
    "lambda < 0, square": (lambda rng: LambdaBalancedMetric(-size(rng)), lambda a, b, c: (b, b, b)),
    "kappa, square": (kappa, lambda a, b, c: (b, b, b)),
    "lambda > 0, hidden = rows, m < n": (lambda rng: LambdaBalancedMetric(size(rng), "rows"), lambda a, b, c: (b, c, b)),
    "lambda < 0, hidden = columns, m < n": (
        lambda rng: LambdaBalancedMetric(-size(rng), "columns"), lambda a, b, c: (b, c, b),
    ),
    "lambda > 0, below full rank": (lambda rng: LambdaBalancedMetric(size(rng)), lambda a, b, c: (c, b, a)),
    "lambda < 0, below full rank": (lambda rng: LambdaBalancedMetric(-size(rng)), lambda a, b, c: (c, b, a)),
    "kappa, m < n": (kappa, lambda a, b, c: (b, c, b)),
}  # fmt: skip


def frame(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


def completed(columns: np.ndarray) -> np.ndarray:
    """Return an orthogonal matrix that begins with the given columns."""
    k = columns.shape[1]
    return np.hstack([columns, np.linalg.svd(columns)[0][:, k:]])


def factors(metric: Any, w: lrf.LowRankMatrix, rng: np.random.Generator) -> lrf.LinearNetwork:
    """Return the factors of W with the imbalances of the metric, which are looked at."""
    m, n = w.shape
    if isinstance(metric, LambdaBalancedMetric):
        gaps, below = (metric.imbalance,), {"rank": w.rank, "rows": m, "columns": n}[metric.hidden]
        above = below
    else:
        gaps, below, above = metric.imbalances, n, m
    shifts = np.concatenate([[0.0], np.cumsum(gaps)])
    least = int(np.argmin(shifts))
    shifts -= shifts.min()
    x = np.zeros(max(m, n))
    x[: w.rank] = KappaBalancedMetric(gaps).roots(w.s)
    frames = [completed(w.vt.T)]
    frames += [frame(k, k, rng) for k in (below if j < least else above for j in range(len(gaps)))]
    frames += [completed(w.u)]
    layers = []
    for shift, a, b in zip(shifts, frames[:-1], frames[1:], strict=True):
        middle = np.zeros((b.shape[1], a.shape[1]))
        np.fill_diagonal(middle, np.sqrt(x[: min(middle.shape)] + shift))
        layers.append(b @ middle @ a.T)
    net = lrf.LinearNetwork(layers)
    for found, gap in zip(net.imbalances(), gaps, strict=True):
        assert np.abs(found - gap * np.eye(len(found))).max() < 1e-13
    assert np.abs(net.to_dense() - w.to_dense()).max() < 1e-13
    return net


def one_run(kind: str, seed: int) -> dict[str, Any]:
    """Return what a random start of a kind did."""
    make, shape = KINDS[kind]
    rng = np.random.default_rng([seed, *map(ord, kind)])
    a, b, c = np.sort(rng.choice(np.arange(1, 7), 3, replace=False))
    (m, n, rank), metric = shape(int(a), int(b), int(c)), make(rng)
    s = rng.uniform(0.05, 1, rank)
    if seed % 3 == 0:
        s[-1] = 1e-6
    if seed % 3 == 1:
        s[:2] = s[0]
    w = lrf.random_point(m, n, rank, rng=rng, singular_values=s)
    inputs = frame(n, n, rng) * np.linspace(0.6, 1.2, n)
    loss = lrf.losses.LeastSquares(inputs, rng.standard_normal((m, n)))
    save = lrf.Save(times=np.linspace(0, T_END, 17))
    common: dict[str, Any] = {"t_span": (0, T_END), "save": save}
    flow = lrf.RiemannianFlow(loss, metric)
    path = lrf.integrate(flow, w, rtol=RTOL, **common)
    want = lrf.integrate(lrf.FactorFlow(loss), factors(metric, w, rng), rtol=RTOL, **common)
    other = lrf.integrate(flow, w, chart=lrf.SingularFrame(), rtol=1e-8, max_evaluations=20_000, **common)
    pairs = zip(path.points, want.points, strict=True)
    gaps = [np.linalg.norm(p.to_dense() - q.to_dense()) / max(1.0, q.norm()) for p, q in pairs]
    signs = {np.sign(np.linalg.det(q.to_dense())) for q in want.points} if m == n else set()
    return {
        "metric": repr(metric), "shape": [m, n, rank], "status": path.status.name, "gap": max(gaps),
        "passed": len(signs) > 1, "singular frame": other.status.name, "gradients": path.nfev / want.nfev,
    }  # fmt: skip


def row(kind: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    endings = Counter(run["singular frame"] for run in runs if run["singular frame"] != "FINISHED")
    return {
        "metric, shape": kind,
        "runs": len(runs),
        "finished": sum(run["status"] == "FINISHED" for run in runs),
        "passed": sum(run["passed"] for run in runs),
        "largest gap": f"{max(run['gap'] for run in runs):.1e}",
        "gradients, over the factors'": f"{np.median([run['gradients'] for run in runs]):.2f}",
        "lost by the singular frame": ", ".join(f"{n} {name}" for name, n in endings.items()) or None,
    }


def main() -> None:
    args = parse("Flows that leave their rank, against those of the factors.")
    counts = {kind: 3 if args.quick else 67 if "square" in kind else 20 for kind in KINDS}  # 201 of them square
    runs = {kind: [one_run(kind, seed) for seed in range(count)] for kind, count in counts.items()}
    table([row(kind, found) for kind, found in runs.items()])
    write(args, "passing", {"t_end": T_END, "rtol": RTOL, "runs": runs})


if __name__ == "__main__":
    main()
