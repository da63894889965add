"""Many runs in one array against loops over them, at equal measured error.

Flows: 1000 members, 20 x 20, rank 3, depth 3, to t = 20, each its own targets. Every contender is run at the loosest of the
tolerances 1e-3, 3e-4, ... at which its error, the 90 % quantile over members of ||W - W_ref|| / ||W_ref||, is at most 1e-7.
Loops are timed over some of the members and scaled to all of them. `jax.vmap` of diffrax is there where both are installed,
compiled before the clock starts. Descent: 1000 runs of 10 x 10, depth 3, 1000 updates.
"""

from __future__ import annotations

import os

from measure import clock, parse, table, write  # isort: skip  # sets one thread before numpy loads

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import lowrankflow as lrf
from lowrankflow import batched
from lowrankflow.descent import Adam

DEPTH, END, TARGET = 3, 20.0, 1e-7
RTOLS = [a * 10.0**-e for e in range(3, 13) for a in (1.0, 0.3)]

Run = Callable[[float, int], np.ndarray]  #: (rtol, members) to W(20), (members, n, n)


def problem(members: int, n: int, rank: int) -> tuple[batched.LeastSquares, Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n)
    targets = rng.standard_normal((members, n, n)) / np.sqrt(n) @ inputs
    starts = batched.LowRankMatrices.random(members, (n, n), rank, rng=rng, singular_values=np.full(rank, 0.1))
    return batched.LeastSquares(inputs, targets), starts, inputs @ inputs.T, targets @ inputs.T


def scipy_loop(starts: Any, gram: np.ndarray, cross: np.ndarray) -> Run:
    """Return the loop that people write: ten lines, the factors of width r, DOP853."""
    n, r = starts.shape[0], starts.rank
    nets = batched.LinearNetworks.balanced(starts, DEPTH)

    @np.errstate(over="ignore", invalid="ignore")  # trial steps that are rejected
    def run(rtol: float, members: int) -> np.ndarray:
        found = np.empty((members, n, n))
        for i in range(members):

            def velocity(t: float, y: np.ndarray, b: np.ndarray = cross[i]) -> np.ndarray:
                w1, w2, w3 = y[: r * n].reshape(r, n), y[r * n : -n * r].reshape(r, r), y[-n * r :].reshape(n, r)
                left = w3 @ w2
                g = left @ (w1 @ gram) - b
                gv = g @ w1.T
                return -np.concatenate([(left.T @ g).ravel(), (w3.T @ gv).ravel(), (gv @ w2.T).ravel()])

            y0 = np.concatenate([f[i].ravel() for f in nets.factors])
            y = solve_ivp(velocity, (0, END), y0, method="DOP853", rtol=rtol, atol=rtol, t_eval=[END]).y[:, -1]
            found[i] = y[-n * r :].reshape(n, r) @ y[r * n : -n * r].reshape(r, r) @ y[: r * n].reshape(r, n)
        return found

    return run


def vmapped(starts: Any, gram: np.ndarray, cross: np.ndarray, solver: str) -> Run:
    """Return the same under `jax.vmap` of diffrax."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    nets, c = batched.LinearNetworks.balanced(starts, DEPTH), jnp.asarray(gram)

    def velocity(t: Any, y: Any, b: Any) -> Any:
        w1, w2, w3 = y
        left, right = w3 @ w2, w1 @ c
        gv = left @ (right @ w1.T) - b @ w1.T
        return -(left.T @ left @ right - left.T @ b), -(w3.T @ gv), -(gv @ w2.T)

    def one(y0: Any, b: Any, rtol: Any) -> Any:
        control = diffrax.PIDController(rtol=rtol, atol=rtol)
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity), getattr(diffrax, solver)(), 0.0, END, None, y0, b, max_steps=None,
            stepsize_controller=control, saveat=diffrax.SaveAt(t1=True),
        ).ys  # fmt: skip
        return found[2][0] @ found[1][0] @ found[0][0]

    compiled = jax.jit(jax.vmap(one, in_axes=(0, 0, None)))

    def run(rtol: float, members: int) -> np.ndarray:
        y0 = tuple(jnp.asarray(f[:members]) for f in nets.factors)
        return np.asarray(compiled(y0, jnp.asarray(cross[:members]), rtol))

    return run


def flows(members: int, quick: bool) -> list[dict[str, Any]]:
    loss, starts, gram, cross = problem(members, 20, 3)
    few = np.arange(20 if quick else 50)

    def stack(rtol: float, count: int, chart: str) -> np.ndarray:
        chosen = np.arange(count)
        runs = batched.integrate(
            loss.take(chosen), starts.take(chosen), depth=DEPTH, t_span=(0, END), rtol=rtol, chart=chart, points=False
        )
        return runs.final.to_dense()

    def loop(rtol: float, count: int) -> np.ndarray:
        flow = [lrf.RiemannianFlow(loss[i], lrf.DepthMetric(DEPTH)) for i in range(count)]
        ends = [
            lrf.integrate(flow[i], starts[i], t_span=(0, END), rtol=rtol, save=lrf.Save(times=[END])) for i in range(count)
        ]
        return np.stack([path.points[-1].to_dense() for path in ends])

    calls: dict[str, tuple[Run, int]] = {
        "batched, factors": (lambda rtol, count: stack(rtol, count, "factors"), members),
        "batched, polynomial": (lambda rtol, count: stack(rtol, count, "polynomial"), members),
        "loop of scipy DOP853": (scipy_loop(starts, gram, cross), few.size),
        "loop of integrate": (loop, few.size),
    }
    try:
        calls |= {f"vmap of diffrax {name}": (vmapped(starts, gram, cross, name), members) for name in ("Tsit5", "Dopri8")}
    except ImportError:
        print("diffrax is not installed: left out")
    reference = np.stack([w.to_dense() for w in _reference(loss, starts, few)])
    chosen = {name: _loosest(call, reference) for name, (call, _) in calls.items()}
    seconds = dict.fromkeys(calls, np.inf)
    for name, (call, count) in calls.items():  # compiled for this number of members
        call(chosen[name][0], count)
    for _ in range(2 if quick else 4):  # in turn
        for name, (call, count) in calls.items():
            begin = clock()
            call(chosen[name][0], count)
            seconds[name] = min(seconds[name], (clock() - begin) * members / count)
    best = seconds["batched, factors"]
    return [
        {"flows": name, "rtol": rtol, "error": error, "s": seconds[name], "over batched": seconds[name] / best}
        for name, (rtol, error) in chosen.items()
    ]


def _reference(loss: Any, starts: Any, few: np.ndarray) -> list[Any]:
    """Return W(20) by single runs in the singular frame."""
    return [
        lrf.integrate(
            lrf.RiemannianFlow(loss[i], lrf.DepthMetric(DEPTH)), starts[i], t_span=(0, END), rtol=1e-12,
            chart=lrf.SingularFrame(), save=lrf.Save(times=[END]),
        ).points[-1]
        for i in few.tolist()
    ]  # fmt: skip


def _loosest(call: Run, reference: np.ndarray) -> tuple[float, float]:
    """Return the loosest tolerance at which the error is small enough, and the error."""
    for rtol in RTOLS:
        gap = np.linalg.norm(call(rtol, len(reference)) - reference, axis=(1, 2))
        error = float(np.quantile(gap / np.linalg.norm(reference, axis=(1, 2)), 0.9))
        if error <= TARGET:
            break
    return rtol, error


def descents(members: int, quick: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((10, 20)) / np.sqrt(20)
    loss = batched.LeastSquares(inputs, rng.standard_normal((members, 10, 10)) / np.sqrt(10) @ inputs)
    steps, few, rows = (300 if quick else 1000), (10 if quick else 20), []
    for width, rule in ((10, None), (3, None), (10, Adam())):
        nets = batched.LinearNetworks.gaussian(members, (10, 10), DEPTH, widths=width, scale=0.5, rng=rng)
        options: dict[str, Any] = {"step_size": 0.02 if rule is None else 1e-3, "steps": steps, "rule": rule}
        together, apart = np.inf, np.inf
        for _ in range(3):
            begin = clock()
            runs = batched.gradient_descent(loss, nets, **options)
            together = min(together, clock() - begin)
            begin = clock()
            paths = [lrf.gradient_descent(loss[i], nets[i], keep_every=steps, **options) for i in range(few)]
            apart = min(apart, (clock() - begin) * members / few)
        gap = max(abs(path.loss[-1] / runs.loss[i, -1] - 1) for i, path in enumerate(paths))
        rows.append(
            {"descent": f"width {width}, {'gradient' if rule is None else 'Adam'}", "batched [s]": together, "loop [s]": apart}
            | {"loop / batched": apart / together, "us an update": 1e6 * together / steps / members, "gap": gap}
        )
    return rows


if __name__ == "__main__":
    args = parse(__doc__)
    members = 200 if args.quick else 1000
    found = {"flows": flows(members, args.quick), "descent": descents(members, args.quick)}
    for rows in found.values():
        table(rows)
        print()
    write(args, "batched", found)
