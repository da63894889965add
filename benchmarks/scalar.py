"""Networks of scalars: coordinates a second of `descend`, and how many gradients the flow of matrices saves.

(a) Coordinate updates a second and core, and seconds over a bare numpy loop that makes the same products in the same process:
    in the layout (k, runs), with the loss asked in every step; and over the loop of the textbook, np.delete and np.prod of one
    network at a time.
(b) d = 25, k = 5, target -I, to loss 0.1: the gradients that descent with h = 1e-3 would take, over those of the flow by
    ROCK4 at rtol 1e-3, the default, and by "auto" at 1e-4, median of 10 starts; and processor seconds of so many
    gradients of descent over those of the flow.
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

import numpy as np

import lowrankflow as lrf
from lowrankflow import scalar

SQUARE = scalar.Square(-1.0)


def bare(w: np.ndarray, h: float, stop: float, steps: int) -> np.ndarray:
    """The products, the loss and the update, and nothing else; w is (k, runs)."""
    w = w.copy()
    for _ in range(steps):
        p = w.prod(axis=0)
        e = p + 1
        if (0.5 * e * e <= stop).any():
            break
        w -= h * e * p / w
    return w


def textbook(w: np.ndarray, h: float, steps: int) -> np.ndarray:
    """One network, every product of the others by itself."""
    for _ in range(steps):
        e = np.prod(w) + 1
        w = w - h * e * np.array([np.prod(np.delete(w, j)) for j in range(w.size)])
    return w


def speed(k: int, runs: int, steps: int, repeats: int) -> dict:
    w, h, stop = scalar.start("near identity", k, runs, rng=0), 1e-6, -1.0  # nobody gets there: all runs stay
    columns = np.ascontiguousarray(w.T)
    calls = {
        "ours": lambda: scalar.descend(w, SQUARE, step_size=h, stop=stop, limit=steps),
        "bare": lambda: bare(columns, h, stop, steps),
        "textbook": lambda: textbook(w[0], h, 20),
    }
    assert np.allclose(calls["ours"]().w, calls["bare"]().T, rtol=1e-12)
    seconds = interleaved(calls, repeats=repeats)
    per_second = k * runs * steps / float(np.median(seconds["ours"]))
    one_at_a_time = k * 20 / float(np.median(seconds["textbook"]))
    return {
        "k": k, "runs": runs, "1e8 coordinates/s": per_second / 1e8, "target": 1.0 if runs >= 1000 else None,
        "met": per_second >= 1e8 if runs >= 1000 else None, "over bare numpy": ratio(seconds["ours"], seconds["bare"]),
        "textbook, 1e8/s": one_at_a_time / 1e8,
    }  # fmt: skip


def step_seconds(w: np.ndarray, steps: int) -> float:
    """Processor seconds of a step of bare descent on matrices, the product rule written out."""
    factors, one = list(w), np.eye(len(w[0]))
    start = clock()
    for _ in range(steps):
        right = [factors[0]]
        for f in factors[1:]:
            right.append(f @ right[-1])
        left, gradients = right[-1] + one, []
        for j in range(len(factors) - 1, 0, -1):
            gradients.append(left @ right[j - 1].T)
            left = factors[j].T @ left
        gradients.append(left)
        factors = [f - 1e-3 * g for f, g in zip(factors, gradients[::-1], strict=True)]
    return (clock() - start) / steps


def matrices(kind: str, target: float, method: str, rtol: float, trials: int) -> dict:
    saved, faster, logs = [], [], []
    for w in scalar.start(kind, 5, trials, width=25, rng=5):
        start = clock()
        found = scalar.matrix_time(w, rtol=rtol, method=method)
        seconds = clock() - start
        saved.append(found.iterations / found.gradients)
        faster.append(found.iterations * step_seconds(w, 300) / seconds)
        logs.append(np.log(found.iterations))
    median = float(np.median(saved))
    return {
        "start": kind, "method": method, "rtol": rtol, "trials": trials, "mean ln(iterations)": float(np.mean(logs)),
        "gradients saved": median,
        "target": target, "met": median >= target, "least": min(saved), "most": max(saved),
        "time, descent over flow": float(np.median(faster)),
    }  # fmt: skip


def main() -> None:
    args = parse(__doc__.splitlines()[0])
    repeats, steps = (3, 200) if args.quick else (9, 1000)
    rates = [speed(k, runs, steps, repeats) for k, runs in ((5, 100), (5, 1000), (10, 1000), (20, 1000), (10, 10_000))]
    table(rates)
    print()
    asked = {"xavier": 100.0, "near identity": 80.0, "small variance": 500.0}
    trials = 2 if args.quick else 10
    runs = (("ROCK4", 1e-3), ("auto", 1e-4))
    counts = [matrices(kind, target, *how, trials) for how in runs for kind, target in asked.items()]
    table(counts)
    write(args, "scalar", {"speed": rates, "matrices": counts, "lowrankflow": lrf.__version__})


if __name__ == "__main__":
    main()
