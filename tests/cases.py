"""The cases through which every law runs. To put a new metric, loss, start, chart or solver to the test, add a line."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations, product

import autograd.numpy as anp
import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import losses
from lowrankflow.steppers import RK4, RKC, ROCK4, Euler

# ---------------------------------------------------------------------------------------------------------------------
# pairs instead of products: most mistakes show where two values meet, whatever the others are


def covering(rows, strength=2):
    """Return some of the rows, in which any two values stand together, at their places, that do so in any row.

    One row after the other is taken that brings the most pairs along, of several the one whose values were taken least.
    With `strength` 1 each value alone stands in one of them, with 3 any three stand together.
    """
    brings = {row: set(combinations(enumerate(row), min(strength, len(row)))) for row in map(tuple, rows)}
    order, missing, worn, taken = list(brings), set().union(*brings.values()), Counter(), set()
    while missing:
        brings = {row: news for row, pairs in brings.items() if (news := pairs & missing)}
        best = max(brings, key=lambda row: (len(brings[row]), -sum(map(worn.__getitem__, enumerate(row)))))
        missing -= brings[best]
        worn.update(enumerate(best))
        taken.add(best)
    return [row for row in order if row in taken]


def every_pair(**values):
    """Mark a test as `parametrize` does, one over the other, but only any two values of two arguments meet in a case."""
    return _covering_marks(values, 2)


def every_value(**values):
    """The same where a case is dear and its arguments have little to do with each other: each value alone is in one."""
    return _covering_marks(values, 1)


def _covering_marks(values, strength):
    columns = [[_named(x) for x in column] for column in values.values()]
    rows = covering(product(*(range(len(column)) for column in columns)), strength)
    cases = [[column[i] for column, i in zip(columns, row, strict=True)] for row in rows]
    together = [pytest.param(*(x.values[0] for x in case), id="-".join(x.id for x in case)) for case in cases]
    return pytest.mark.parametrize(list(values), together)


def _named(x):
    return x if isinstance(x, type(pytest.param())) else pytest.param(x, id=getattr(x, "__name__", str(x)))


# ---------------------------------------------------------------------------------------------------------------------
# metrics: the library's, and one as a user would write it


class Regularised:
    """A metric of a user: (W W^T)^(1/2) G + G (W^T W)^(1/2) on the tangent space, and half the embedded metric's."""

    transposable = True

    def coefficients(self, s):
        return lrf.Coefficients(core=0.5 + s[:, None] + s, up=0.5 + s, vp=0.5 + s)


def _case(value, name):
    return pytest.param(value, id=name)


DEPTHS = [2, 3, 5]
DEPTH_METRICS = [_case(lrf.DepthMetric(d), f"depth{d:g}") for d in (1.5, 2, 2.7, 3, 5, 20)]
MIXED_METRICS = [
    _case(lrf.metrics.SubspaceProjectionMetric(), "subspace"),
    _case(lrf.metrics.PolarMetric(), "polar"),
    _case(lrf.metrics.MNMetric(), "mn"),
    _case(lrf.metrics.R3MCMetric(), "r3mc"),
]
IMBALANCED_METRICS = [
    _case(lrf.metrics.KappaBalancedMetric((0.5, -0.5)), "kappa3"),  # 0 a double root of p: the rank is kept
    _case(lrf.metrics.KappaBalancedMetric((0.3, -0.7, 0.2)), "kappa4"),  # 0 a simple root
    _case(lrf.metrics.LambdaBalancedMetric(0.6), "lambda"),
    _case(lrf.metrics.LambdaBalancedMetric(-0.6), "lambda-negative"),
    _case(lrf.metrics.LambdaBalancedMetric(0.6, hidden="rows"), "lambda-rows"),
]
#: positive on the whole tangent space
METRICS = [
    *DEPTH_METRICS,
    _case(lrf.EmbeddedMetric(), "embedded"),
    _case(lrf.metrics.ScaledGDMetric(), "scaledgd"),
    _case(lrf.metrics.TwoFactorMetric(), "twofactors"),
    *MIXED_METRICS,
    *IMBALANCED_METRICS,
    _case(Regularised(), "user"),
]
#: the infinitely deep one vanishes on the frames
ALL_METRICS = [*METRICS, _case(lrf.DepthMetric(np.inf), "depthinf")]
#: of the symmetric positive semidefinite matrices alone
SYMMETRIC_METRICS = [_case(lrf.metrics.BuresWassersteinMetric(), "bureswasserstein")]

# ---------------------------------------------------------------------------------------------------------------------
# starts: (m, n, singular values)


@dataclass(frozen=True)
class Start:
    """A shape and singular values; the frames are drawn by the test."""

    m: int
    n: int
    s: tuple

    @property
    def rank(self):
        return len(self.s)

    def draw(self, rng):
        return lrf.random_point(self.m, self.n, self.rank, rng=rng, singular_values=self.s)

    def draw_symmetric(self, rng):
        """A symmetric positive semidefinite matrix of the larger size."""
        n = max(self.m, self.n)
        return lrf.random_point(n, n, self.rank, rng=rng, singular_values=self.s, symmetric=True)


STARTS = [
    _case(Start(4, 7, (1.0, 0.6, 0.3)), "wide"),
    _case(Start(7, 4, (1.2, 0.7)), "tall"),
    _case(Start(4, 4, (1.5, 1.0, 0.8, 0.4)), "square"),
    _case(Start(3, 5, (1.1, 0.9, 0.5)), "fullrank"),
    _case(Start(5, 3, (0.7,)), "rank1"),
    _case(Start(6, 5, (1.0, 1.0, 0.5)), "repeated"),
    _case(Start(5, 6, (0.8, 0.8 * (1 - 1e-12), 0.3)), "close"),
    _case(Start(6, 5, (1.0, 0.1, 3e-9)), "tiny"),
]
#: without the one whose metrics are too ill-conditioned to be inverted to twelve digits
TAME_STARTS = [case for case in STARTS if case.id != "tiny"]

# ---------------------------------------------------------------------------------------------------------------------
# losses: made for a shape


class LogCosh:
    """A loss of a user: sum log cosh(W - Y), its gradient a plain array."""

    def __init__(self, targets):
        self.targets, self.shape = targets, targets.shape

    def value(self, w):
        return float(np.log(np.cosh(w.to_dense() - self.targets)).sum())

    def gradient(self, w):
        return np.tanh(w.to_dense() - self.targets)


def least_squares(m, n, rng, samples=None, **options):
    """A well-conditioned fit: more samples than inputs, singular values of X of order one."""
    p = 3 * n if samples is None else samples
    return lrf.losses.LeastSquares(
        rng.standard_normal((n, p)) / np.sqrt(p), rng.standard_normal((m, p)) / np.sqrt(p), **options
    )


def mean_rows(m, n, rng):
    p = 2 * n + 1
    x, y = rng.standard_normal((p, n)), rng.standard_normal((p, m))
    return lrf.losses.LeastSquares(x, y, reduction="mean", samples="rows")


def few_samples(m, n, rng):
    return least_squares(m, n, rng, samples=max(n - 2, 1))


def deficient_inputs(m, n, rng):
    p, q = 2 * n, max(n - 2, 1)
    x = rng.standard_normal((n, q)) @ rng.standard_normal((q, p)) / np.sqrt(p * q)
    return lrf.losses.LeastSquares(x, rng.standard_normal((m, p)) / np.sqrt(p))


def completion(m, n, rng, reduction="sum"):
    rows, cols = np.nonzero(rng.random((m, n)) < 0.6)
    return lrf.losses.Completion(rows, cols, rng.standard_normal(rows.size), (m, n), reduction=reduction)


def log_cosh(m, n, rng):
    return LogCosh(rng.standard_normal((m, n)))


def _features(rows, size, rng):
    return rng.standard_normal((rows, size)) / np.sqrt(size)


def _entries(m, n, rng):
    """Positions in no order, half of all."""
    return losses.Entries(*np.divmod(rng.permutation(m * n)[: (m * n + 1) // 2], n), shape=(m, n))


def bilinear(m, n, rng):
    """Features of four users and five items, of which twelve pairs meet; quadratic."""
    pairs = np.divmod(rng.permutation(20)[:12], 5)
    measurement = losses.Bilinear(_features(4, m, rng), _features(5, n, rng), *pairs)
    return losses.Measured(measurement, losses.Squared(rng.standard_normal(12), rng.uniform(0.5, 2.0, 12)))


def sum_of_losses(m, n, rng):
    """Quadratic: weighted observations and inputs."""
    return losses.Sum(completion(m, n, rng), least_squares(m, n, rng), weights=[0.5, 2.0])


def huber_inputs(m, n, rng):
    measurement = losses.Inputs(_features(2 * n, n, rng).T, m)
    return losses.Measured(measurement, losses.Huber(rng.standard_normal((m, 2 * n)), delta=0.5), reduction="mean")


def logistic_entries(m, n, rng):
    a = _entries(m, n, rng)
    return losses.Measured(a, losses.Logistic(rng.choice([-1.0, 1.0], a.outputs)))


def poisson_entries(m, n, rng):
    a = _entries(m, n, rng)
    return losses.Measured(a, losses.Poisson(rng.integers(0, 4, a.outputs)), reduction="mean")


def softmax_inputs(m, n, rng):
    labels = rng.integers(0, m, 3 * n)
    return losses.Measured(losses.Inputs(_features(3 * n, n, rng).T, m), losses.Softmax(labels, m), reduction="mean")


def sensing(m, n, rng):
    matrices = rng.standard_normal((7, m, n)) / np.sqrt(m * n)
    return losses.Measured(losses.Sensing(matrices), losses.LogCosh(rng.standard_normal(7)))


def function(m, n, rng):
    y = rng.standard_normal((m, n))
    return losses.from_function(lambda w: anp.sum(anp.sqrt(1 + (w - y) ** 2)), (m, n), convex=True)


LEAST_SQUARES = [
    _case(least_squares, "leastsquares"),
    _case(mean_rows, "meanrows"),
    _case(few_samples, "fewsamples"),
    _case(deficient_inputs, "deficient"),
]
#: with a Hessian that does not depend on W
QUADRATIC_LOSSES = [
    *LEAST_SQUARES,
    _case(completion, "completion"),
    _case(bilinear, "bilinear"),
    _case(sum_of_losses, "sum"),
]
#: with a Hessian that does
CURVED_LOSSES = [
    _case(huber_inputs, "huber-inputs"),
    _case(logistic_entries, "logistic-entries"),
    _case(poisson_entries, "poisson-entries"),
    _case(softmax_inputs, "softmax-inputs"),
    _case(sensing, "logcosh-sensing"),
    _case(function, "function"),
]
LOSSES = [*QUADRATIC_LOSSES, _case(log_cosh, "logcosh"), *CURVED_LOSSES]

# ---------------------------------------------------------------------------------------------------------------------
# charts of a Riemannian flow, and solvers

CHARTS = [
    _case(lrf.SingularFrame(), "frame"),
    _case(lrf.SingularFrame(root=1), "frame-root1"),
    _case(lrf.SingularFrame(root=2.5), "frame-root2.5"),
    _case(lrf.charts.Polynomial(), "polynomial"),
    _case(lrf.Lifted(), "lifted"),
]
STEPPERS = [_case(Euler(), "euler"), _case(RK4(), "rk4"), _case(RKC(), "rkc"), _case(ROCK4(), "rock4")]
_ADAPTIVE = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA", "RKC", "ROCK4", "auto")
SOLVERS = [_case({"method": name}, name) for name in _ADAPTIVE] + [
    _case({"method": name, "step_size": 0.01}, f"{name}-fixed" if name in _ADAPTIVE else name)
    for name in ("Euler", "RK4", "RKC", "ROCK4")
]
