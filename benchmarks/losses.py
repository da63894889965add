"""Cost of the gradients of `Measured` over the same gradient by hand, as a function, and in scikit-learn.

(a) The square on observed entries: measurement and misfit against one fixed CSR pattern whose data change, with the
    library's kernel for the entries on either side. Positions in CSR order and in no order; by hand they are sorted.
(b) A function of the dense W that autograd differentiates against the same loss as measurement and misfit: the price of
    not saying what the loss depends on.
(c) Softmax on the digits of scikit-learn against the gradient that its LogisticRegression uses.
"""

from __future__ import annotations

from measure import interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from scipy import sparse
from sklearn._loss.loss import HalfMultinomialLoss
from sklearn.datasets import load_digits
from sklearn.linear_model._linear_loss import LinearModelLoss

import lowrankflow as lrf
from lowrankflow.entries import sampled_product
from lowrankflow.losses import Entries, Huber, Inputs, Measured, Softmax, Squared, from_function

RANK = 10


def row(problem: str, ours: Callable[[], Any], other: Callable[[], Any], target: float | None, repeats: int) -> dict:
    seconds = interleaved({"ours": ours, "other": other}, repeats=repeats)
    measured = ratio(seconds["ours"], seconds["other"])
    return {
        "problem": problem,
        "ours [us]": 1e6 * float(seconds["ours"].min()), "other [us]": 1e6 * float(seconds["other"].min()),
        "ratio": measured, "target": target, "met": None if target is None else measured <= target,
    }  # fmt: skip


def by_hand(rows: np.ndarray, cols: np.ndarray, y: np.ndarray, n: int, w: lrf.LowRankMatrix) -> Callable[[], Any]:
    """The gradient as one would write it for this loss alone: sort once, then new data in a fixed pattern."""
    order = np.lexsort((cols, rows))
    rows, cols, y = rows[order].astype(np.int32), cols[order].astype(np.int32), y[order]
    pattern = sparse.csr_array((y, (rows, cols)), shape=(n, n))

    def gradient() -> Any:
        r = sampled_product(w.u * w.s, w.vt, rows, cols)
        r -= y
        return sparse.csr_array((r, pattern.indices, pattern.indptr), shape=(n, n))

    return gradient


def entries(n: int, share: float, sort: bool, target: float | None, repeats: int, rng: np.random.Generator) -> dict:
    keys = rng.choice(n * n, int(share * n * n), replace=False)
    rows, cols = np.divmod(np.sort(keys) if sort else keys, n)
    y, w = rng.standard_normal(keys.size), lrf.random_point(n, n, RANK, rng=rng)
    loss, other = Measured(Entries(rows, cols, shape=(n, n)), Squared(y)), by_hand(rows, cols, y, n, w)
    assert abs(loss.gradient(w) - other()).max() < 1e-12  # the same gradient
    order = "sorted" if sort else "in no order"
    name = f"(a) square on {share:.0%} of {n} x {n}, {order}, by hand"
    return row(name, lambda: loss.gradient(w), other, target, repeats)


def functions(n: int, p: int, repeats: int, rng: np.random.Generator) -> list[dict]:
    x, y, w = rng.standard_normal((n, p)), rng.standard_normal((n, p)), lrf.random_point(n, n, RANK, rng=rng)
    keys = rng.choice(n * n, n * n // 100, replace=False)
    rows, cols = np.divmod(keys, n)
    values = rng.standard_normal(keys.size)
    pairs = {
        f"(b) function, Huber on {p} samples, {n} x {n}, measured": (
            lambda w: _huber(anp.dot(w, x) - y), Measured(Inputs(x, n), Huber(y)),
        ),
        f"(b) function, square on 1% of {n} x {n}, measured": (
            lambda w: 0.5 * anp.sum((w[rows, cols] - values) ** 2),
            Measured(Entries(rows, cols, shape=(n, n)), Squared(values)),
        ),
    }  # fmt: skip
    out = []
    for name, (function, measured) in pairs.items():
        loss = from_function(function, (n, n))
        assert np.abs(loss.gradient(w) - measured.gradient(w) @ np.eye(n)).max() < 1e-10
        # what a flow asks: the gradient and its two products
        calls = [
            lambda loss=loss: (lambda g: (g @ w.vt.T, g.T @ w.u))(loss.gradient(w)) for loss in (loss, measured)
        ]  # fmt: skip
        out.append(row(name, *calls, None, repeats))
    return out


def _huber(e: Any) -> Any:
    size = anp.abs(e)
    inner = anp.minimum(size, 1.0)
    return anp.sum(inner * (size - 0.5 * inner))


def softmax(target: float, repeats: int, rng: np.random.Generator) -> dict:
    digits = load_digits()
    x, labels = digits.data / 16.0, digits.target
    loss = Measured(Inputs(x.T.copy(), 10), Softmax(labels), reduction="mean")
    other = LinearModelLoss(HalfMultinomialLoss(n_classes=10), fit_intercept=False)
    w, y = 0.1 * rng.standard_normal((10, 64)), labels.astype(np.float64)
    coef, x = np.asfortranarray(w), np.ascontiguousarray(x)
    assert np.abs(loss.gradient(w) - other.gradient(coef, x, y)).max() < 1e-12
    name = "(c) softmax on digits, 64 x 1797, 10 classes, scikit-learn"
    return row(name, lambda: loss.gradient(w), lambda: other.gradient(coef, x, y), target, repeats)


def main() -> None:
    args = parse("Cost of the gradients of measured losses.")
    rng = np.random.default_rng(0)
    repeats, n = (10, 2000) if args.quick else (60, 5000)
    target = None if args.quick else 1.2  # stated for the full size
    rows = [entries(n, 0.01, sort, target, repeats, rng) for sort in (True, False)]
    rows += functions(500 if args.quick else 1000, 200, max(repeats // 3, 5), rng)
    rows.append(softmax(2.0, repeats, rng))
    print(f"one gradient at a matrix of rank {RANK} (c: an array); ours over the other")
    table(rows)
    write(args, "losses", {"rank": RANK, "rows": rows})


if __name__ == "__main__":
    main()
