"""What a step of gradient descent costs over its bare products, and how long training stays at a saddle.

Two tables. A step of `gradient_descent`, kept iterates apart, over the same products written out in numpy for depth 3, square
layers. Epochs of mini-batch Adam at a strict and a non-strict saddle, 1000 runs each (``--quick``: 20).
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from typing import Any

import numpy as np

import lowrankflow as lrf
from lowrankflow.descent import Adam, HeavyBall
from lowrankflow.experiments import escape_histogram


def bare(factors: list[np.ndarray], gram: np.ndarray, cross: np.ndarray, h: float) -> list[np.ndarray]:
    """One update of three factors: eight products."""
    w1, w2, w3 = factors
    below, above = w2 @ w1, w3 @ w2
    g = above @ (w1 @ gram) - cross
    left, right = above.T @ g, g @ w1.T
    return [w1 - h * left, w2 - h * (w3.T @ right), w3 - h * (g @ below.T)]


def step(n: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    x, y = (rng.standard_normal((n, 3 * n)) / np.sqrt(n) for _ in range(2))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")
    gram, cross = x @ x.T / (3 * n), y @ x.T / (3 * n)
    net = lrf.LinearNetwork.gaussian((n, n), 3, widths=n, rng=rng)
    steps, h = max(20, 60_000 // n**2), 1e-3

    def ours(**options: Any) -> lrf.Trajectory:
        return lrf.gradient_descent(loss, net, step_size=h, steps=steps, keep_every=steps, **options)

    def by_hand() -> list[np.ndarray]:
        factors = list(net.factors)
        for _ in range(steps):
            factors = bare(factors, gram, cross, h)
        return factors

    assert np.allclose(ours().points[-1].factors[0], by_hand()[0], rtol=0, atol=1e-12)
    calls = {
        "bare": by_hand, "gradient": ours, "heavy ball": lambda: ours(rule=HeavyBall(0.9)), "Adam": lambda: ours(rule=Adam()),
    }  # fmt: skip
    seconds = interleaved(calls, repeats=repeats)
    return {"n": n, "a bare step [us]": 1e6 * float(seconds["bare"].min()) / steps} | {
        f"{name} / bare": ratio(seconds[name], seconds["bare"]) for name in calls if name != "bare"
    }


def escapes(runs: int) -> list[dict[str, Any]]:
    found = escape_histogram.measure(False, lambda stage, fraction: None, runs=runs).numbers
    return [
        {"saddle": name, "order": run["order"], "runs": runs}
        | {f"{q} %": float(np.percentile(run["epochs"], q)) for q in (5, 50, 95, 100)}
        for name, run in found.items()
    ]


def main() -> None:
    args = parse(__doc__)
    rng = np.random.default_rng(0)
    steps = [step(n, 5 if args.quick else 15, rng) for n in (20, 60, 200)]
    table(steps)
    epochs = escapes(20 if args.quick else 1000)
    table(epochs)
    write(args, "descent", {"steps": steps, "epochs": epochs})


if __name__ == "__main__":
    main()
