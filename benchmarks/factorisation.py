"""Deep matrix factorisation as it is run today: gradient descent on the factors against the flow.

100 x 100, true rank 5, 2000 observed entries, depth 3, from singular values 1e-3, to a train loss of 1e-6. The
train loss is that of the usual code, the mean of r^2 over the p observed entries; ours is L = 1/2 sum r^2, so it is
2 L / p, and its learning rate lr is the step h = 2 lr / p here. The truth has Frobenius norm 100, entries of mean
square 1, and the test error is the mean of r^2 over the entries that were not observed.

Descent is numpy by hand, with as few products as the factors allow, on the dense masked residual; its step is the
best of a scan on the very problem, which is not counted. The flow takes the same residual as a loss of its own
(`Masked`), because at 20 % observed a sparse gradient is dearer; one row has `lrf.losses.Completion`. Counted for
the flow is all of `integrate`: the event that ends the run, its interpolants and the checks after every step.
"""

from __future__ import annotations

from measure import clock, interleaved, parse, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import lowrankflow as lrf

#: to be tried, with the tolerances; names that the library does not have are left out
METHODS = {
    "RKC": (1e-1, 1e-2, 1e-3, 1e-4), "ROCK4": (1e-1, 1e-2, 1e-3, 1e-4, 1e-6), "auto": (1e-2, 1e-3, 1e-4, 1e-6),
    "RK45": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), "DOP853": (1e-3, 1e-6, 1e-8),
}  # fmt: skip
N, RANK, OBSERVED, DEPTH, SCALE, TRAIN = 100, 5, 2000, 3, 1e-3, 1e-6
USUAL_RATE, USUAL_LENGTH = 1e-2, 1e-3  # learning rates of the published set-up: plain descent, normalised steps
SCAN = 2.0 ** np.arange(-1.0, 0.76, 0.125)  # steps over 2 / sharpness at the limit, where descent is linearly stable
LONG = 10**6  # the usual code stops after a million updates
REPEATS = 3
TARGET = 30.0  # descent over flow in time, at equal width and equal answers


def available() -> dict[str, tuple[float, ...]]:
    """Return the methods that `integrate` takes."""
    square, w = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0])), lrf.LowRankMatrix.from_dense(np.eye(2))
    found = {}
    for name, rtols in METHODS.items():
        try:
            lrf.integrate(lrf.RiemannianFlow(square, lrf.DepthMetric(2)), w, t_span=(0, 1e-3), method=name)
            found[name] = rtols
        except ValueError:
            print(f"without {name}: the library does not have it")
    return found


class Masked:
    """L(W) = 1/2 sum over the observed entries of (W_ij - y_ij)^2, with a dense gradient."""

    def __init__(self, truth: np.ndarray, mask: np.ndarray) -> None:
        self.shape, self.mask, self.targets = truth.shape, mask, truth * mask

    def gradient(self, w: Any) -> np.ndarray:
        left, right = w.split()
        g = left @ right
        g -= self.targets
        g *= self.mask
        return g

    def value(self, w: Any) -> float:
        g = self.gradient(w)
        return 0.5 * float(np.vdot(g, g))


Start = lrf.LowRankMatrix | lrf.LinearNetwork


class Problem(NamedTuple):
    truth: np.ndarray
    mask: np.ndarray
    loss: Masked
    sparse: lrf.losses.Completion

    def train(self, w: Any) -> float:
        return 2 * self.loss.value(w) / OBSERVED

    def test(self, w: np.ndarray) -> float:
        return float(np.square(w - self.truth)[self.mask == 0].mean())


class Run(NamedTuple):
    name: str
    seconds: float
    updates: int
    gradients: int
    w: np.ndarray | None


def problem(condition: float | None = None) -> Problem:
    """Return a product of Gaussian factors of norm 100; with `condition`, singular values in geometric progression."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((N, RANK)) @ rng.standard_normal((RANK, N))
    if condition is not None:
        s = np.geomspace(1, 1 / condition, RANK)
        truth = lrf.random_point(N, N, RANK, rng=rng, singular_values=s).to_dense()
    truth *= N / np.linalg.norm(truth)
    rows, cols = np.divmod(rng.choice(N * N, OBSERVED, replace=False), N)
    mask = np.zeros((N, N))
    mask[rows, cols] = 1
    sparse = lrf.losses.Completion(rows, cols, truth[rows, cols], shape=(N, N))
    return Problem(truth, mask, Masked(truth, mask), sparse)


def start_of(rank: int, seed: int = 1) -> lrf.LowRankMatrix:
    return lrf.random_point(N, N, rank, rng=np.random.default_rng(seed), singular_values=np.full(rank, SCALE))


def descend(
    p: Problem, net: lrf.LinearNetwork, step: float | Callable[[float], float], limit: int, name: str = ""
) -> Run:
    """Descend by hand until the train loss is reached, updates run out (W is None) or the loss blows up (W is None).

    `step` is h, or a function of the squared norm of all factor gradients of L that returns it.
    """
    target, mask = p.loss.targets, p.mask
    begin = clock()
    w = [f.copy() for f in net.factors]
    last = len(w) - 1
    g = np.empty((N, N))
    for k in range(limit + 1):
        below = [w[0]]
        for f in w[1:-1]:
            below.append(f @ below[-1])
        np.matmul(w[-1], below[-1], out=g)
        g -= target
        g *= mask
        train = np.vdot(g, g) / OBSERVED
        if not TRAIN < train < 1e6 or k == limit:
            break
        back = g
        grads = []
        for j in range(last, 0, -1):
            grads.append(back @ below[j - 1].T)
            back = w[j].T @ back
        grads.append(back)
        h = step(float(sum(np.vdot(a, a) for a in grads))) if callable(step) else step
        for f, a in zip(reversed(w), grads, strict=True):
            a *= h
            f -= a
    seconds = clock() - begin
    return Run(name, seconds, k, k + 1, w[-1] @ below[-1] if train <= TRAIN else None)


def normalised(length: float) -> Callable[[float], float]:
    """Return the step rule of the published code: `length` over the running root mean square of the gradient's norm.

    The gradient is that of the mean, 2 / p of ours; decay 0.99, bias corrected, 1e-4 added to the root.
    """
    share, square, decayed = 2 / OBSERVED, 0.0, 1.0

    def step(squared: float) -> float:
        nonlocal square, decayed
        square = 0.99 * square + 0.01 * share**2 * squared
        decayed *= 0.99
        return share * length / (np.sqrt(square / (1 - decayed)) + 1e-4)

    return step


def flow(
    p: Problem, start: Start, depth: int, method: str, rtol: float, chart: Any = None, loss: Any = None
) -> Run:
    """Integrate until the train loss is reached: the Riemannian flow of a matrix, the factor flow of a network."""
    loss = p.loss if loss is None else loss
    done = lrf.Event("train", lambda t, w: 2 * loss.value(w) / OBSERVED - TRAIN, terminal=True, direction=-1)
    factors = isinstance(start, lrf.LinearNetwork)
    chart = (lrf.Factors() if factors else lrf.SingularFrame()) if chart is None else chart
    moving = lrf.FactorFlow(loss) if factors else lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
    begin = clock()
    path = lrf.integrate(
        moving, start, t_span=(0, 1e6), method=method, rtol=rtol, chart=chart,
        events=done, save=lrf.Save(steps=False), max_evaluations=2 * LONG,
    )  # fmt: skip
    seconds = clock() - begin
    name = f"flow, {type(chart).__name__}, {method} {rtol:.0e}"
    ended = path.status is lrf.Status.EVENT
    return Run(name, seconds, path.nsteps, path.nfev, path.points[-1].to_dense() if ended else None)


def fastest(calls: Sequence[Callable[[], Run]], repeats: int) -> list[Run]:
    """Run all in turn, A B A B ..., and return the fastest of each; what takes over ten seconds runs once."""
    runs = [[call()] for call in calls]
    for _ in range(repeats - 1):
        for call, seen in zip(calls, runs, strict=True):
            if seen[0].seconds < 10:
                seen.append(call())
    return [min(seen, key=lambda run: run.seconds) for seen in runs]


def gap(a: np.ndarray | None, b: np.ndarray) -> float | None:
    return None if a is None else float(np.linalg.norm(a - b) / np.linalg.norm(b))


def row(p: Problem, run: Run, reference: np.ndarray, tuned: Run, **more: Any) -> dict[str, Any]:
    return {
        **more, "row": run.name, "updates": run.updates, "gradients": run.gradients, "seconds": run.seconds,
        "us a gradient": 1e6 * run.seconds / run.gradients, "test error": None if run.w is None else p.test(run.w),
        "gap of W": gap(run.w, reference), "tuned descent over this": tuned.seconds / run.seconds,
    }  # fmt: skip


def reference_of(p: Problem, start: lrf.LowRankMatrix, depth: int) -> np.ndarray:
    """Return W of the flow where the train loss is reached, at a tolerance far below all that is compared."""
    w = flow(p, start, depth, "DOP853", 1e-11, lrf.Lifted()).w
    assert w is not None
    return w


def stable_step(p: Problem, reference: np.ndarray, rank: int, depth: int) -> float:
    """Return 2 / sharpness at the limit, on balanced factors of width `rank`."""
    w = lrf.LowRankMatrix.from_dense(reference, rank)
    return 2 / lrf.sharpness(p.loss, lrf.LinearNetwork.balanced(w, depth))


def tune(p: Problem, net: lrf.LinearNetwork, unit: float, limit: int = LONG) -> tuple[float, Run]:
    """Return the step of the scan with the fewest updates, over `unit`, and its run."""
    best: tuple[float, Run] | None = None
    for share in SCAN:
        run = descend(p, net, share * unit, limit if best is None else best[1].updates, f"descent, step {share:.2f}")
        if run.w is not None and (best is None or run.updates < best[1].updates):
            best = float(share), run
    assert best is not None, "no step of the scan reaches the train loss"
    return best


def equal_width(p: Problem, methods: Mapping[str, Sequence[float]], quick: bool) -> list[dict[str, Any]]:
    """Width 5: the same W(0), hence the same limit, for all."""
    start = start_of(RANK)
    net = lrf.LinearNetwork.balanced(start, DEPTH)
    reference = reference_of(p, start, DEPTH)
    unit = stable_step(p, reference, RANK, DEPTH)
    share, _ = tune(p, net, unit)
    rate = unit * OBSERVED / 2
    print(f"linear stability at the limit: lr = {rate:.3g}, h = {unit:.3g}; best of the scan {share:.2f} of it")
    calls: list[Callable[[], Run]] = []
    for part in (share, *(2.0 ** -np.arange(1, 8 if quick else 10, 2))):
        name = f"descent, lr {part * rate:.2g}, {part:.2g} of stable"
        calls.append(lambda part=part, name=name: descend(p, net, part * unit, LONG, name))
    if not quick:
        calls.append(lambda: descend(p, net, 2 * USUAL_RATE / OBSERVED, LONG, f"descent, lr {USUAL_RATE:g} as usual"))
    length = f"descent, normalised, lr {USUAL_LENGTH:g} as usual"
    calls.append(lambda: descend(p, net, normalised(USUAL_LENGTH), LONG, length))
    for chart in (lrf.SingularFrame(), lrf.Lifted()):
        for method, rtols in methods.items():
            calls += [lambda c=chart, m=method, r=rtol: flow(p, start, DEPTH, m, r, c) for rtol in rtols]
    for method in ("auto", "RK45"):
        if method in methods:
            name = f"flow, SingularFrame, {method} 1e-03, Completion"
            calls.append(lambda m=method, n=name: flow(p, start, DEPTH, m, 1e-3, loss=p.sparse)._replace(name=n))
    runs = fastest(calls, 2 if quick else REPEATS)
    rows = [row(p, run, reference, runs[0], width=RANK) for run in runs]
    table(rows)
    return rows


def against(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each descent the fastest flow whose W is at least as near to the limit of the flow."""
    flows = [r for r in rows if r["row"].startswith("flow") and r["gap of W"] is not None]
    pairs = []
    for a in rows:
        if not a["row"].startswith("descent") or a["gap of W"] is None:
            continue
        b = min((r for r in flows if r["gap of W"] <= a["gap of W"]), key=lambda r: r["seconds"])
        times = a["seconds"] / b["seconds"]
        pairs.append(
            {
                "width": a["width"], "row": a["row"], "gap of W": a["gap of W"], "against": b["row"], "its gap": b["gap of W"],
                "gradients over": a["gradients"] / b["gradients"], "time over": times, "target": TARGET, "met": times >= TARGET,
            }
        )  # fmt: skip
    return pairs


def breakdown(p: Problem) -> list[dict[str, Any]]:
    """Return the microseconds of the parts of a flow at W(0), beside one update of descent."""
    start, rows = start_of(RANK), []
    net = lrf.LinearNetwork.balanced(start, DEPTH)
    hundred = min((descend(p, net, 1e-9, 100) for _ in range(20)), key=lambda run: run.seconds)
    for name, loss in (("Masked", p.loss), ("Completion", p.sparse)):
        for chart in (lrf.SingularFrame(), lrf.Lifted()):
            system = chart.bind(lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start)
            y, w = system.y0, system.point(system.y0)
            g = loss.gradient(w)
            calls: dict[str, Callable[[], Any]] = {
                "a velocity": lambda s=system, y=y: s.velocity(0.0, y),
                "of it making g": lambda f=loss, w=w: f.gradient(w),
                "of it g @ v, g.T @ u": lambda g=g, w=w: (g @ w.vt.T, g.T @ w.u),
                "a step: W and its loss": lambda s=system, y=y, f=loss: f.value(s.point(y)),
                "a step: defect, rank": lambda s=system, y=y: (s.defect(y), s.rank_lost(y, y)),
            }
            seconds = interleaved(calls, repeats=20)
            rows.append(
                {"loss": name, "chart": type(chart).__name__}
                | {part: 1e6 * float(t.min()) for part, t in seconds.items()}
                | {"descent by hand": 1e6 * hundred.seconds / hundred.gradients}
            )
    table(rows)
    return rows


def best_flow(
    p: Problem, start: Start, depth: int, methods: Iterable[str], repeats: int, chart: Any
) -> Run:
    """Return the fastest of three methods at rtol 1e-3."""
    names = [name for name in ("auto", "RKC", "RK45") if name in methods]
    runs = fastest([lambda m=m: flow(p, start, depth, m, 1e-3, chart) for m in names], repeats)
    runs = [run for run in runs if run.w is not None]
    return min(runs, key=lambda run: run.seconds)


def full_width(p: Problem, methods: Iterable[str], quick: bool) -> list[dict[str, Any]]:
    """Full-width factors: of the same rank-5 W(0), with the same product all along, and of a full-rank W(0)."""
    rng, rows = np.random.default_rng(2), []
    both = (lrf.SingularFrame(), lrf.Lifted())
    for rank, charts in ((RANK, both), (N, both[1:] if quick else both)):
        start = start_of(rank)
        wide = lrf.LinearNetwork.balanced(start, DEPTH, widths=N, rng=rng)
        reference = reference_of(p, start, DEPTH)
        unit = stable_step(p, reference, rank, DEPTH)
        share, tuned = tune(p, wide, unit, 10**5)
        runs = [tuned._replace(name=f"descent, width {N}, {share:.2f} of stable")]
        length = f"descent, width {N}, normalised, lr {USUAL_LENGTH:g} as usual"
        runs.append(descend(p, wide, normalised(USUAL_LENGTH), LONG // 10, length))
        runs += [best_flow(p, start, DEPTH, methods, 1 if rank == N else REPEATS, chart) for chart in charts]
        runs.append(best_flow(p, wide, DEPTH, methods, REPEATS, None))
        rows += [row(p, run, reference, tuned, width=N, **{"rank of W(0)": rank}) for run in runs]
    table(rows)
    return rows


def bias(p: Problem, methods: Iterable[str], quick: bool) -> list[dict[str, Any]]:
    """The bias of depth: test error by depth where the rank is over-specified; one start, and the median of five."""
    rows = []
    for rank in (RANK, 10, 20, N):
        for depth in (2, 3, 4):
            if quick and rank == N and depth == 4:
                continue
            start = start_of(rank)
            run = best_flow(p, start, depth, methods, 1, lrf.Lifted())
            assert run.w is not None
            net = lrf.LinearNetwork.balanced(start, depth)
            _, tuned = tune(p, net, stable_step(p, run.w, rank, depth))
            s = np.linalg.svd(run.w, compute_uv=False)
            method = "auto" if "auto" in methods else "RK45"
            others = [flow(p, start_of(rank, seed), depth, method, 1e-3, lrf.Lifted()).w for seed in range(2, 6)]
            errors = sorted(p.test(w) for w in (run.w, *others) if w is not None)
            rows.append(
                {
                    "rank": rank, "depth": depth, "test error": p.test(run.w), "s_5": s[4], "s_6": s[5],
                    "least of 5": errors[0], "median": float(np.median(errors)), "largest": errors[-1],
                    "test error, descent": p.test(tuned.w), "gap of W": gap(tuned.w, run.w), "flow": run.name,
                    "gradients, descent": tuned.gradients, "flow's": run.gradients,
                    "tuned descent over flow": tuned.seconds / run.seconds,
                }
            )  # fmt: skip
    table(rows)
    return rows


def conditioned(condition: float, methods: Iterable[str], quick: bool) -> list[dict[str, Any]]:
    """Width 5 again, for a truth whose singular values spread over `condition`."""
    p, start = problem(condition), start_of(RANK)
    net = lrf.LinearNetwork.balanced(start, DEPTH)
    methods = [name for name in methods if name != "DOP853"]
    reference = flow(p, start, DEPTH, "ROCK4" if "ROCK4" in methods else "RK45", 1e-6, lrf.Lifted()).w
    assert reference is not None
    unit = stable_step(p, reference, RANK, DEPTH)
    share, _ = tune(p, net, unit)
    calls: list[Callable[[], Run]] = [
        lambda: descend(p, net, share * unit, LONG, f"descent, {share:.2f} of stable"),
        lambda: descend(p, net, normalised(USUAL_LENGTH), LONG, f"descent, normalised, lr {USUAL_LENGTH:g} as usual"),
        *(lambda m=m: flow(p, start, DEPTH, m, 1e-3, lrf.Lifted()) for m in methods),
    ]
    runs = fastest(calls, 1 if quick else REPEATS)
    return [row(p, run, reference, runs[0], condition=condition) for run in runs]


def main() -> None:
    args = parse("Deep matrix factorisation: gradient descent on the factors against the flow.")
    p, methods = problem(), available()
    print(
        f"{N} x {N}, true rank {RANK}, {OBSERVED} observed, depth {DEPTH}, to a train loss (mean of r^2) of {TRAIN:g}"
    )
    print(f"\nwidth {RANK}, the same W(0) for all")
    equal = equal_width(p, methods, args.quick)
    print(
        f"\nwidth {N}: the rank-{RANK} W(0) in full-width factors (the same products W all along), and a full-rank W(0)"
    )
    wide = full_width(p, methods, args.quick)
    print(f"\neach descent from the rank-{RANK} W(0) over the fastest flow at least as near to the limit")
    same = [r for r in wide if r["rank of W(0)"] == RANK and r["row"].startswith("descent")]
    matched = against(equal + same)
    table(matched)
    print("\nwhere the time goes: microseconds at W(0), width 5")
    parts = breakdown(p)
    print("\nthe bias of depth: over-specified rank")
    depths = bias(p, methods, args.quick)
    print(f"\nwidth {RANK}, truths with singular values in geometric progression")
    conditions = (1.0, 3.0, 10.0) if args.quick else (1.0, 3.0, 10.0, 30.0, 100.0)
    spread = [r for condition in conditions for r in conditioned(condition, methods, args.quick)]
    table(spread)
    write(
        args, "factorisation",
        {
            "equal width": equal, "full width": wide, "equal answers": matched, "breakdown": parts, "depth": depths,
            "condition": spread,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
