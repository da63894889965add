"""The learning coefficient of tiny networks, sampled: from the algebra, by quadrature, by Gibbs sampling and by SGLD.

What n samples know of a network grows like lambda ln n, where half the number of parameters is what a regular model has. The
mean loss of the posterior measures lambda: exactly at small sizes, in chains that sample it, and roughly in SGLD.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import least_squares

import lowrankflow as lrf
from lowrankflow.experiments.look import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, panel
from lowrankflow.experiments.result import Compared, Result, Tell

SIZE = (12.0, 4.2)
CAPTION = (
    "Left: the mean of tau K in the density exp(-tau K - |w - w*|^2 / 2) of the factors w of widths d_0-...-d_N, over the"
    " learning coefficient lambda, against tau = n / ln n; K = |W - W*|^2 / 2, the excess loss of many white samples, W* of the"
    " rank r named. Circles: chains with exact conditionals, bars of two standard errors over chains; lines: quadrature (solid)"
    " or, fitted from 10^6 on, lambda - p'(ln tau) / p(ln tau), p of degree m - 1, m the multiplicity (dashed); stars: SGLD with"
    " batches of 64 of 10 000 samples. Right: lambda (bars) beside what is fitted with lambda free (circles, two standard"
    " errors) and half the number of parameters (crosses). In the setting of Watanabe (2013) and Lau et al. (arXiv 2308.12108);"
    " lambda and m as in Aoyagi (2024); sampler and quadrature are derived here."
)
Array = np.ndarray
NETWORKS = (
    ((1, 1, 1), 0), ((1, 1, 1), 1), ((1, 1, 1, 1), 0), ((2, 2, 2), 0), ((2, 2, 2), 1), ((2, 2, 2), 2), ((3, 2, 3), 1),
    ((2, 2, 2, 2), 1),
)  # fmt: skip
QUICK = (((1, 1, 1), 0), ((2, 2, 2), 0), ((2, 2, 2), 1), ((3, 2, 3), 1))
SHOWN = {((1, 1, 1), 0): BLUE, ((1, 1, 1, 1), 0): PURPLE, ((2, 2, 2), 0): VERMILLION, ((2, 2, 2), 1): GREEN}
TAUS = 10.0 ** np.array([3, 4.5, 6, 7, 8, 9, 10, 11, 12])
LINE = np.geomspace(1e3, 1e12, 37)
LARGE = 1e6  #: from here on powers of 1 / tau, such as tau^(-1/2), are below the errors
SAMPLES, BATCH, STEP = 10_000, 64, 0.06  #: of SGLD; its step is in units of 1 / tau
SPREAD = 5.0  #: of the numbers of the size of ln tau that a fit has
ERRORS = 5.0  #: standard errors that a number may be off: one in two million


def name_of(widths: Sequence[int], rank: int) -> str:
    """Return the name of a network."""
    return f"{'-'.join(map(str, widths))}, r = {rank}"


class Chains:
    """Factors of many chains, each at its own tau, and the true ones that the prior is centred at."""

    def __init__(self, widths: Sequence[int], rank: int, tau: Array, rng: np.random.Generator) -> None:
        self.widths, self.rng, self.tau = widths, rng, tau[:, None, None]
        self.true = [np.eye(b, a) * (np.arange(a) < rank) for a, b in pairwise(widths)]
        self.target = reduce(lambda x, f: f @ x, self.true)
        self.factors = [f + 0.3 * rng.standard_normal((tau.size, *f.shape)) for f in self.true]

    def around(self, j: int) -> tuple[Array, Array]:
        """Return what stands left and right of a factor in the product."""
        left = reduce(np.matmul, self.factors[:j:-1], np.eye(self.widths[-1]))
        return left, reduce(lambda x, f: f @ x, self.factors[:j], np.eye(self.widths[0]))

    def excess(self) -> Array:
        """Return tau K of each chain."""
        off = reduce(lambda x, f: f @ x, self.factors) - self.target
        return 0.5 * self.tau[:, 0, 0] * (off**2).sum((1, 2))

    def sweep(self) -> None:
        """Draw each factor given the others, then move along the changes of basis of the hidden layers."""
        for j, true in enumerate(self.true):
            left, right = self.around(j)
            (a, p), (b, q) = np.linalg.eigh(left.mT @ left), np.linalg.eigh(right @ right.mT)
            # the conditional is Gaussian, and its precision tau a_i b_k + 1 diagonal in these bases
            precision = 1 + self.tau * np.maximum(a, 0)[..., :, None] * np.maximum(b, 0)[..., None, :]
            mean = p.mT @ (self.tau * left.mT @ self.target @ right.mT + true) @ q / precision
            noise = self.rng.standard_normal((self.tau.size, *true.shape)) / np.sqrt(precision)
            self.factors[j] = p @ (mean + noise) @ q.mT
        for j in range(len(self.true) - 1):
            self._change_basis(j)

    def _change_basis(self, j: int) -> None:
        """Metropolis: W_j to A W_j and W_{j+1} to W_{j+1} A^{-1}, A = exp(S) with a symmetric S, leaves K as it is."""
        count, size = self.tau.size, self.widths[j + 1]
        s = self.rng.standard_normal((count, size, size)) * self.rng.choice([0.1, 0.5, 2.0, 6.0], (count, 1, 1)) / size
        values, q = np.linalg.eigh((s + s.mT) / 2)
        a, inverse = ((q * np.exp(sign * values)[:, None, :]) @ q.mT for sign in (1, -1))
        old, new = self.factors[j : j + 2], [a @ self.factors[j], self.factors[j + 1] @ inverse]
        cost = [
            sum(0.5 * ((f - c) ** 2).sum((1, 2)) for f, c in zip(pair, self.true[j : j + 2], strict=True))
            for pair in (old, new)
        ]
        volume = values.sum(1) * (self.widths[j] - self.widths[j + 2])
        taken = np.log(self.rng.random(count)) < cost[0] - cost[1] + volume
        self.factors[j : j + 2] = [np.where(taken[:, None, None], f, g) for f, g in zip(new, old, strict=True)]

    def langevin(self, x: Array, step: float) -> None:
        """Make a step of SGLD, with a batch of the samples (p, n) for each chain."""
        batch = x[self.rng.integers(0, len(x), (self.tau.size, BATCH))]
        off = reduce(lambda a, f: f @ a, self.factors) - self.target
        egrad = (off @ batch.mT) @ batch / BATCH
        sides = [self.around(j) for j in range(len(self.true))]
        h = step / self.tau
        for j, (left, right) in enumerate(sides):
            force = self.tau * (left.mT @ egrad @ right.mT) + self.factors[j] - self.true[j]
            noise = self.rng.standard_normal(force.shape)
            self.factors[j] = self.factors[j] - h / 2 * force + np.sqrt(h) * noise


def sampled(widths: Sequence[int], rank: int, taus: Array, chains: int, sweeps: int) -> tuple[Array, Array]:
    """Return the mean of tau K at each tau, and its standard error, from independent chains."""
    run = Chains(widths, rank, np.repeat(taus, chains), np.random.default_rng([7, *widths, rank]))
    total = np.zeros(run.tau.size)
    for k in range(sweeps):
        run.sweep()
        if k >= sweeps // 3:
            total += run.excess()
    means = (total / (sweeps - sweeps // 3)).reshape(taus.size, chains)
    return means.mean(1), means.std(1, ddof=1) / np.sqrt(chains)


def descended(widths: Sequence[int], rank: int, chains: int, steps: int) -> tuple[float, float, float]:
    """Return tau = n / ln n of SGLD, the mean of tau K and its standard error."""
    rng = np.random.default_rng([9, *widths, rank])
    tau = SAMPLES / np.log(SAMPLES)
    run, x = Chains(widths, rank, np.full(chains, tau), rng), rng.standard_normal((SAMPLES, widths[0]))
    total, count = np.zeros(chains), 0
    for k in range(steps):
        run.langevin(x, STEP)
        if k >= steps // 3 and k % 10 == 0:
            total, count = total + run.excess(), count + 1
    return tau, float((total / count).mean()), float((total / count).std(ddof=1) / np.sqrt(chains))


def integrated(widths: Sequence[int], tau: float) -> float:
    r"""Return the mean of tau K of two layers of a true W = 0, by quadrature over at most two numbers.

    Given W_1 the integral over W_2 is Gaussian, :math:`\prod_i (1 + \tau x_i)^{-d_2/2}`, x the eigenvalues of a Wishart
    matrix :math:`W_1 W_1^T`; the mean of tau K is minus the derivative of the logarithm of the whole by that of tau.
    """
    d0, d1, d2 = widths
    size = min(d0, d1)
    u = np.linspace(
        -80.0, 6.0, 6000 if size == 1 else 1500
    )  # ln x; to roundoff for one, to 2e-5 for two, which meet in a kink
    x = np.exp(u)
    log = (abs(d0 - d1) + 1) / 2 * u - x / 2 - d2 / 2 * np.log1p(tau * x)
    mean, weight = 0.5 * d2 * tau * x / (1 + tau * x), np.exp(log - log.max())
    if size == 1:
        return float(weight @ mean / weight.sum())
    both = weight[:, None] * weight * np.abs(x[:, None] - x)
    return float((both * (mean[:, None] + mean)).sum() / both.sum())


def course(ln_tau: Array, value: float, roots: Array) -> Array:
    r"""Return :math:`\lambda - p'/p` at ln tau, for :math:`Z \sim \tau^{-\lambda} p(\ln \tau)` with p monic."""
    p = np.polynomial.Polynomial([*roots, 1.0])
    return np.asarray(value - p.deriv()(ln_tau) / p(ln_tau))


def fitted(taus: Array, means: Array, errors: Array, multiplicity: int) -> tuple[Array, float]:
    """Return lambda and the coefficients of p that fit best, and the standard error of lambda."""
    ln_tau = np.log(taus)
    # where ln tau begins to count is not known: a prior of 5 on it keeps the fit from running away where noise is large
    scale = SPREAD ** np.arange(multiplicity - 1, 0, -1.0)

    def residuals(q: Array) -> Array:
        return np.concatenate([(course(ln_tau, q[0], scale * q[1:]) - means) / errors, q[1:]])

    found = least_squares(residuals, [means[-1], *np.zeros(multiplicity - 1)])
    jacobian = np.asarray(found.jac)
    error = float(np.sqrt(np.linalg.inv(jacobian.T @ jacobian)[0, 0]))
    return np.concatenate([found.x[:1], scale * found.x[1:]]), error


def measure(quick: bool, tell: Tell) -> Result:
    networks, numbers, found = QUICK if quick else NETWORKS, dict[str, Any](), list[Compared]()
    chains, sweeps = (60, 300) if quick else (200, 1500)
    large = TAUS >= LARGE
    for i, (widths, rank) in enumerate(networks):
        name = name_of(widths, rank)
        tell(name, i / len(networks))
        value, m = lrf.landscape.learning_coefficient(widths, rank)
        known, half = float(value), sum(a * b for a, b in pairwise(widths)) / 2
        means, errors = sampled(widths, rank, TAUS, chains, sweeps)
        fit, error = fitted(TAUS[large], means[large], errors[large], m)
        run: dict[str, Any] = {"lambda": known, "multiplicity": m, "half": half, "tau": TAUS, "mean": means, "error": errors,
                               "fit": fit[0], "fit error": error, "p": fit[1:]}  # fmt: skip
        numbers[name] = run
        found.append(Compared(f"{name}: lambda, fitted", fit[0], known, ERRORS * error))
        found.append(
            Compared(f"{name}: half the parameters over it, standard errors", (half - fit[0]) / error, 10.0, 0.0, ">=")
        )
        if rank == 0 and len(widths) == 3:
            exact = np.array([integrated(widths, tau) for tau in TAUS])
            off = float(np.abs((means - exact) / errors).max())
            run["exact"] = {"tau": LINE, "mean": np.array([integrated(widths, tau) for tau in LINE])}
            found.append(Compared(f"{name}: chains off the quadrature, standard errors", off, ERRORS, relation="<="))
            tau, mean, noise = descended(widths, rank, 60 if quick else 200, 8000 if quick else 40_000)
            run["sgld"] = {"tau": tau, "mean": mean, "error": noise}
            # its step is finite and its samples are few: 2 % measured, half of it noise
            what = f"{name}: SGLD against the quadrature"
            found.append(Compared(what, mean, integrated(widths, tau), 0.05 * known))
        if m > 1 and rank == 0:  # the control: without the logarithm of ln tau
            wrong, error = fitted(TAUS[large], means[large], errors[large], 1)
            off = abs(wrong[0] - known) / error
            found.append(
                Compared(f"{name}: lambda off, fitted as if m were 1, standard errors", off, 10.0, relation=">=")
            )
    return Result(numbers, found)


def draw(figure: Any, numbers: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    panel(left, "Mean excess of the posterior", r"$\tau = n / \ln n$", r"mean of $\tau K$, over $\lambda$")
    panel(right, "The learning coefficient", r"$\lambda$", "")
    for (widths, rank), colour in SHOWN.items():
        run = numbers.get(name_of(widths, rank))
        if run is None:
            continue
        known, taus, means = run["lambda"], np.array(run["tau"]), np.array(run["mean"])
        bars: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 4, "mfc": "white", "color": colour, "capsize": 2}
        left.errorbar(taus, means / known, 2 * np.array(run["error"]) / known, label=name_of(widths, rank), **bars)
        if "exact" in run:
            left.plot(run["exact"]["tau"], np.array(run["exact"]["mean"]) / known, color=colour, lw=1.3)
            left.plot(run["sgld"]["tau"], run["sgld"]["mean"] / known, color=colour, marker="*", ms=11, ls="none")
        else:
            curve = course(np.log(LINE), run["fit"], np.array(run["p"])) / known
            left.plot(LINE, curve, color=colour, lw=1.3, ls="--")
    left.axhline(1.0, color=MUTED, lw=1.0)
    left.set_xscale("log")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    names = list(numbers)
    for k, run in enumerate(numbers.values()):
        right.plot([run["lambda"]] * 2, [k - 0.28, k + 0.28], color=INK, lw=2.0, label="theory" if k == 0 else None)
        right.errorbar(run["fit"], k, xerr=2 * run["fit error"], marker="o", ms=6, mfc="none", ls="none", color=BLUE,
                       capsize=3, label="fitted" if k == 0 else None)  # fmt: skip
        right.plot(
            run["half"],
            k,
            color=VERMILLION,
            marker="x",
            ms=7,
            ls="none",
            label="half the parameters" if k == 0 else None,
        )
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.legend(frameon=False, fontsize=9, loc="upper right")
