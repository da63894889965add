"""Ours beside what people write in ten lines: scipy's DOP853 on factors of width r, with a velocity written by hand.

The flow of depth 3 and rank 5 (3 at n = 20) of a square loss, to one time, at equal measured error: for each the largest rtol
of a grid whose end is within 1e-6 of the reference, relative. Processor seconds of the other over ours: above 1 we are ahead.

Where they are installed, diffrax (compiled, in double precision, on one thread) and torch's autograd on the same factors;
and matrix completion by a loop of numpy with a tuned step.
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_ENABLE_X64", "1")

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import factorisation
import numpy as np
from scipy.integrate import solve_ivp

import lowrankflow as lrf

GRID = 10.0 ** -np.arange(3, 12)
ERROR = 1e-6
T_END = 20.0


def by_hand(x: np.ndarray, y: np.ndarray, net: lrf.LinearNetwork, t_end: float, rtol: float) -> np.ndarray:
    """DOP853 on the factors of width r, one vector; the data as their Gram matrix, in the mean."""
    gram, cross = x @ x.T / x.shape[1], y @ x.T / x.shape[1]
    shapes = [f.shape for f in net.factors]
    (m, r), n = (shapes[2][0], shapes[0][0]), shapes[0][1]
    cuts = [r * n, r * n + r * r]

    def velocity(t: float, v: np.ndarray) -> np.ndarray:
        a, b, c = v[: cuts[0]].reshape(r, n), v[cuts[0] : cuts[1]].reshape(r, r), v[cuts[1] :].reshape(m, r)
        cb = c @ b
        left = cb.T @ cross  # all products with the narrow side first
        ga = cb.T @ cb @ (a @ gram) - left
        gra = (a @ gram) @ a.T
        gb = c.T @ c @ b @ gra - (c.T @ cross) @ a.T
        gc = cb @ (gra @ b.T) - (cross @ a.T) @ b.T
        return -np.concatenate([ga.ravel(), gb.ravel(), gc.ravel()])

    v0 = np.concatenate([f.ravel() for f in net.factors])
    found = solve_ivp(velocity, (0, t_end), v0, "DOP853", rtol=rtol, atol=rtol * 1e-2).y[:, -1]
    a, b, c = (p.reshape(s) for p, s in zip(np.split(found, cuts), shapes, strict=True))
    return c @ b @ a


class Setting(NamedTuple):
    """A square loss with random data, a start, ours to an rtol, and the reference."""

    loss: Any
    start: lrf.LowRankMatrix
    ours: Callable[..., np.ndarray]
    reference: np.ndarray


class Data(lrf.losses.LeastSquares):
    """The mean square loss that still has its data and their Gram matrices."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__(x, y, reduction="mean")
        self.x, self.y = x, y
        self.gram, self.cross = x @ x.T / x.shape[1], y @ x.T / x.shape[1]


def setting(n: int, rank: int, rng: np.random.Generator) -> Setting:
    loss = Data(*(rng.standard_normal((n, 3 * n)) for _ in range(2)))
    start = lrf.random_point(n, n, rank, rng=rng, singular_values=np.full(rank, 0.1))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))

    def ours(rtol: float, **options: Any) -> np.ndarray:
        path = lrf.integrate(flow, start, t_span=(0, T_END), rtol=rtol, save=lrf.Save(steps=False), **options)
        return path.points[-1].to_dense()

    return Setting(loss, start, ours, ours(1e-12, method="DOP853"))


def compared(
    n: int, rank: int, runs: Mapping[str, Callable[[float], np.ndarray]], reference: np.ndarray, repeats: int
) -> dict[str, Any]:
    """Return a row: the loosest rtol of each that is accurate enough, and their times over ours."""

    def loosest(run: Callable[[float], np.ndarray]) -> float:
        good = [r for r in GRID if np.linalg.norm(run(r) - reference) <= ERROR * np.linalg.norm(reference)]
        return max(good)

    at = {name: loosest(run) for name, run in runs.items()}
    seconds = interleaved({name: lambda run=run, r=at[name]: run(r) for name, run in runs.items()}, repeats=repeats)  # type: ignore[misc]
    row: dict[str, Any] = {"n": n, "rank": rank, "ours [ms]": 1e3 * float(seconds["ours"].min()),
                           "rtol": ", ".join(f"{name} {r:.0e}" for name, r in at.items())}  # fmt: skip
    return row | {f"{name} / ours": ratio(seconds[name], seconds["ours"]) for name in runs if name != "ours"}


def side_by_side(n: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    rank = 3 if n == 20 else 5
    loss, start, ours, reference = setting(n, rank, rng)
    net = lrf.LinearNetwork.balanced(start, 3)
    runs: dict[str, Callable[[float], np.ndarray]] = {
        "ours": ours,
        "by hand": lambda r: by_hand(loss.x, loss.y, net, T_END, r),
        "ours, singular frame": lambda r: ours(r, chart=lrf.SingularFrame()),
    }
    return compared(n, rank, runs, reference, repeats)


def beside_diffrax(n: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """The same flow by diffrax on factors of width r, compiled, its fastest explicit solver; compilation is not counted."""
    import diffrax
    import jax
    import jax.numpy as jnp

    rank = 3 if n == 20 else 5
    loss, start, ours, reference = setting(n, rank, rng)
    net = lrf.LinearNetwork.balanced(start, 3)
    gram, cross = jnp.asarray(loss.gram), jnp.asarray(loss.cross)

    def velocity(t: Any, w: Any, args: Any) -> Any:
        a, b, c = w
        cb = c @ b
        ag = a @ gram
        ga = (cb.T @ cb) @ ag - cb.T @ cross  # all products with the narrow side first
        gra = ag @ a.T
        crosst = cross @ a.T
        gb = (c.T @ c) @ (b @ gra) - c.T @ crosst
        gc = cb @ (gra @ b.T) - crosst @ b.T
        return -ga, -gb, -gc

    def solve(solver: Any) -> Callable[[float], np.ndarray]:
        @jax.jit
        def run(w: Any, rtol: float) -> Any:
            control = diffrax.PIDController(rtol=rtol, atol=rtol * 1e-2)
            found = diffrax.diffeqsolve(diffrax.ODETerm(velocity), solver, 0.0, T_END, None, w, saveat=diffrax.SaveAt(t1=True),
                                        stepsize_controller=control, max_steps=10**6)  # fmt: skip
            a, b, c = (part[-1] for part in found.ys)
            return c @ b @ a

        w0 = tuple(jnp.asarray(f) for f in net.factors)
        return lambda rtol: np.asarray(run(w0, rtol))

    runs = {"ours": ours} | {name: solve(getattr(diffrax, name)()) for name in ("Tsit5", "Dopri8")}
    return compared(n, rank, runs, reference, repeats)


def beside_torch(n: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """scipy's DOP853 on factors of width r, whose gradients torch's autograd makes."""
    import torch

    torch.set_num_threads(1)
    rank = 3 if n == 20 else 5
    loss, start, ours, reference = setting(n, rank, rng)
    net = lrf.LinearNetwork.balanced(start, 3)
    x, y = (torch.tensor(a) for a in (loss.x, loss.y))
    shapes = [f.shape for f in net.factors]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def factors(v: np.ndarray) -> list[Any]:
        return [torch.tensor(p.reshape(s), requires_grad=True) for p, s in zip(np.split(v, cuts), shapes, strict=True)]

    def velocity(t: float, v: np.ndarray) -> np.ndarray:
        w = factors(v)
        value = 0.5 * (w[2] @ (w[1] @ (w[0] @ x)) - y).square().sum() / x.shape[1]
        return -np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(value, w)])

    def run(rtol: float) -> np.ndarray:
        v0 = np.concatenate([f.ravel() for f in net.factors])
        found = solve_ivp(velocity, (0, T_END), v0, "DOP853", rtol=rtol, atol=rtol * 1e-2).y[:, -1]
        a, b, c = (p.reshape(s) for p, s in zip(np.split(found, cuts), shapes, strict=True))
        return c @ b @ a

    return compared(n, rank, {"ours": ours, "torch": run}, reference, repeats)


def completion(repeats: int) -> list[dict[str, Any]]:
    """100 x 100, rank 5, 2000 entries, to a train loss of 1e-6: a loop of numpy with the best step of a scan over ours."""
    p, start = factorisation.problem(), factorisation.start_of(5)
    net = lrf.LinearNetwork.balanced(start, 3)
    best = lrf.LinearNetwork.balanced(lrf.LowRankMatrix.from_dense(p.truth, 5), 3)
    edge = 2 / lrf.sharpness(p.sparse, best)
    scan = [factorisation.descend(p, net, s * edge, 5000)._replace(seconds=s * edge) for s in factorisation.SCAN]
    updates, step = min((run.updates, run.seconds) for run in scan if run.w is not None)
    rows = []
    for name, loss in (("its dense masked residual", p.loss), ("losses.Completion", p.sparse)):
        calls: dict[str, Callable[[], Any]] = {
            "by hand": partial(factorisation.descend, p, net, step, 5000),
            "gradient_descent": partial(lrf.gradient_descent, loss, net, step_size=step, steps=updates, keep_every=10**6),
            "the flow, RKC 1e-2": partial(
                lrf.integrate, lrf.RiemannianFlow(loss, lrf.DepthMetric(3)), start, t_span=(0, 1e4), rtol=1e-2, method="RKC",
                events=lrf.Event("train", partial(above, loss), terminal=True), save=lrf.Save(steps=False),
            ),
        }  # fmt: skip
        seconds = interleaved(calls, repeats=repeats)
        for key in list(calls)[1:]:
            rows.append({"loss": name, "ours": key, "by hand / ours": ratio(seconds["by hand"], seconds[key])})
    return rows


def above(loss: Any, t: float, w: Any) -> float:
    """Return how far the train loss is above where a run ends."""
    return 2 * loss.value(w) / factorisation.OBSERVED - factorisation.TRAIN


def main() -> None:
    args = parse(__doc__)
    rng = np.random.default_rng(0)
    repeats, sizes = (3, (20, 60)) if args.quick else (9, (20, 60, 200, 500))
    results = {"by hand": [side_by_side(n, repeats, rng) for n in sizes], "completion": completion(repeats)}
    for name, beside, extra in (("diffrax", beside_diffrax, (1000, 2000)), ("torch", beside_torch, ())):
        if find_spec(name) is None:
            print(f"without {name}: it is not installed")
            continue
        results[name] = [beside(n, repeats if n < 1000 else 3, rng) for n in (*sizes, *(() if args.quick else extra))]
    for name, rows in results.items():
        print(f"\n{name}")
        table(rows)
    write(args, "peers", results)


if __name__ == "__main__":
    main()
