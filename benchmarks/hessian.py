"""What the Hessian of all factors costs, and which iteration finds the ends of its spectrum under a fixed budget.

Three tables. One product with the Hessian over one factor gradient. The whole call at 10^6 parameters, at a random network,
at a minimiser and at a saddle. At critical points whose least eigenvalue is known from the dense Hessian, how far above it
the least Ritz value is after 30, 100 and 300 products: our iteration, eigsh, LOBPCG.
"""

from __future__ import annotations

from measure import clock, interleaved, parse, ratio, table, write  # isort: skip  # sets one thread before numpy loads

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, lobpcg

import lowrankflow as lrf
from lowrankflow.geometry import factor_hessian
from lowrankflow.landscape import extreme_eigenvalues, hessian_spectrum, ritz_values


def least_squares(n: int, rng: np.random.Generator) -> lrf.losses.LeastSquares:
    inputs = rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n)
    return lrf.losses.LeastSquares(inputs, rng.standard_normal((n, 2 * n)) / np.sqrt(2 * n))


def completion(n: int, share: float, rng: np.random.Generator) -> lrf.losses.Completion:
    rows, cols = np.divmod(rng.choice(n * n, int(share * n * n), replace=False), n)
    return lrf.losses.Completion(rows, cols, rng.standard_normal(rows.size), shape=(n, n))


def product(problem: str, loss: Any, depth: int, width: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    net = lrf.LinearNetwork.gaussian(loss.shape, depth, widths=width, rng=rng)
    exact, differences = factor_hessian(loss, net), factor_hessian(loss, net, exact=False)
    x = rng.standard_normal(exact.shape[0])
    calls: dict[str, Callable[[], Any]] = {
        "gradient": lambda: lrf.factor_gradients(loss, net),
        "exact": lambda: exact @ x,
        "differences": lambda: differences @ x,
    }
    seconds = interleaved(calls, repeats=repeats)
    return {
        "problem": problem, "depth": depth, "width": width, "parameters": exact.shape[0],
        "gradient [ms]": 1e3 * float(seconds["gradient"].min()),
        "exact / gradient": ratio(seconds["exact"], seconds["gradient"]),
        "differences / gradient": ratio(seconds["differences"], seconds["gradient"]),
    }  # fmt: skip


def saddle(loss: lrf.losses.LeastSquares, hidden: Sequence[int], chosen: Sequence[int], *, strict: bool) -> lrf.LinearNetwork:
    """A canonical critical point that has captured the chosen directions; unit matrices, or zeros, in the free blocks."""
    (m, n), r, s = loss.shape, len(chosen), loss.spectrum
    captured = (s.vt[chosen] * s.sigma[chosen, None] / np.sqrt(s.eigenvalues)) @ s.basis.T
    sizes = [n, *hidden, m]
    factors = [np.vstack([captured, np.zeros((sizes[1] - r, n))])]
    for b, a in zip(sizes[2:-1], sizes[1:-2], strict=True):
        factors.append(np.eye(b, a) if strict else np.diag(np.arange(max(a, b)) < r)[:b, :a].astype(float))
    return lrf.LinearNetwork([*factors, np.hstack([s.u[:, chosen], np.zeros((m, sizes[-2] - r))])])


def whole(problem: str, loss: Any, net: lrf.LinearNetwork) -> dict[str, Any]:
    wall, start = time.perf_counter(), clock()
    found = extreme_eigenvalues(loss, net)
    return {
        "problem": problem, "parameters": sum(f.size for f in net.factors), "products": found.products,
        "cpu [s]": clock() - start, "wall [s]": time.perf_counter() - wall,
        "least": float(found.smallest.values[0]), "its residual": float(found.smallest.residuals[0]),
        "largest": float(found.largest.values[0]), "scale": found.scale, "negative proved": found.negative,
    }  # fmt: skip


class _Spent(Exception):
    """The budget of an opponent that would go on."""


def _least(method: str, hessian: Any, budget: int, size: float) -> tuple[float | None, int]:
    """Return the least eigenvalue by one method, None where it hands out none, and the products it took."""
    made = 0

    def apply(x: np.ndarray) -> np.ndarray:
        nonlocal made
        if made == budget:
            raise _Spent
        made += 1
        return hessian @ np.ravel(x)

    operator = LinearOperator(hessian.shape, matvec=apply, dtype=float)
    start = np.random.default_rng(0).standard_normal((hessian.shape[0], 1))
    try:
        if method == "eigsh":
            values = eigsh(operator, k=1, which="SA", v0=start[:, 0], tol=1e-8, return_eigenvectors=False)
        elif method == "lobpcg":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = lobpcg(operator, start, largest=False, maxiter=budget - 3, tol=1e-8 * size)[0]
        else:
            found = ritz_values(hessian, products=budget)
            return float(found.smallest.values[0]), found.products
    except (_Spent, ArpackNoConvergence):
        return None, made
    return float(values[0]), made


def under_budget(problem: str, loss: Any, net: lrf.LinearNetwork) -> list[dict[str, Any]]:
    hessian = factor_hessian(loss, net)
    true = hessian_spectrum(loss, net).eigenvalues
    rows = []
    for budget in (30, 100, 300):
        row: dict[str, Any] = {"problem": problem, "least": float(true[0]), "largest": float(true[-1]), "budget": budget}
        for method in ("ours", "eigsh", "lobpcg"):
            value, made = _least(method, hessian, budget, float(true[-1]))
            row |= {f"{method} above by": None if value is None else abs(value - float(true[0])), f"{method} made": made}
        rows.append(row)
    return rows


def main() -> None:
    args = parse("Products with the Hessian of all factors, and the ends of its spectrum.")
    rng = np.random.default_rng(0)
    repeats, n = (3, 200) if args.quick else (10, 577)
    dense, sparse = least_squares(n, rng), completion(n, 0.1, rng)
    large = completion(2000 if args.quick else 20_000, 0.01 if args.quick else 0.0005, rng)
    print("one product with the Hessian, over one factor gradient")
    products = [
        product(f"least squares {n} x {n}", dense, 3, n, repeats, rng),
        product(f"completion {n} x {n}, 10 %", sparse, 3, n, repeats, rng),
        product(f"least squares {n} x {n}", dense, 3, 10, repeats, rng),
        product(f"completion {large.shape[0]} x {large.shape[0]}", large, 3, 10, repeats, rng),
        product("least squares 20 x 20", least_squares(20, rng), 3, 20, repeats, rng),
        product("least squares 20 x 20", least_squares(20, rng), 10, 20, repeats, rng),
    ]
    table(products)

    print("\nboth ends of the spectrum, depth 3, at most 100 products")
    random = lrf.LinearNetwork.gaussian((n, n), 3, widths=n, rng=rng)
    r = n // 10
    wrong = [*range(r - 1), r]
    calls = [
        whole("least squares, random", dense, random),
        whole("completion, random", sparse, random),
        whole("least squares, minimiser", dense, lrf.LinearNetwork.balanced(dense.minimiser(n), 3)),
        whole("least squares, strict saddle", dense, saddle(dense, (n, n), list(range(r)), strict=True)),
        whole("least squares, not strict", dense, saddle(dense, (n, n), list(range(r)), strict=False)),
        whole("least squares, r + 1 for r", dense, saddle(dense, (n, n), wrong, strict=False)),
    ]
    table(calls)

    print("\nhow far the least Ritz value is above the least eigenvalue (-: none is handed out)")
    small = least_squares(16, rng)
    kinds = {
        "minimiser": lrf.LinearNetwork.balanced(small.minimiser(16), 3),
        "not strict": saddle(small, (18, 18), list(range(5)), strict=False),
        "strict": saddle(small, (18, 18), list(range(5)), strict=True),
        "16 for 15": saddle(small, (18, 18), [*range(14), 15], strict=False),
    }
    budgets = [row for name, net in kinds.items() for row in under_budget(name, small, net)]
    table(budgets)
    write(args, "hessian", {"products": products, "calls": calls, "budgets": budgets})


if __name__ == "__main__":
    main()
