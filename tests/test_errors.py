"""Every message of the library: the wrong call, and the one line that it gets.

A message names the argument in backticks, says the rule, what was got and, where one is known, the fix. To add one, add a
line to `CASES`. Messages about files, their content and the command line are in the tests of those rooms.
"""

import dataclasses
import io
import re
import sys

import numpy as np
import pytest
import scipy.sparse
from scipy.integrate import OdeSolver

import lowrankflow as lrf
from lowrankflow import data, steppers
from lowrankflow import losses as ls
from lowrankflow.checks import METRIC_CLAIMS
from lowrankflow.claims import OF_METRICS, VERIFIED
from lowrankflow.data import DataSet, Observations
from lowrankflow.flow.checkpoint import Checkpoint
from lowrankflow.losses import Completion, LeastSquares
from lowrankflow.pymanopt_manifold import FixedRank, PositiveSemidefinite


def generator():
    return np.random.default_rng(0)


SHAPE = (3, 4)
X, Y = generator().standard_normal((4, 9)), generator().standard_normal((3, 9))
LOSS = LeastSquares(X, Y, reduction="mean")
START = lrf.random_point(*SHAPE, 2, rng=generator(), singular_values=[0.5, 0.2])
NET = lrf.LinearNetwork.balanced(START, 3)
UNBALANCED = lrf.LinearNetwork([2 * np.eye(2), np.eye(2)])  # imbalance 3, relative to 2^2: 0.75
METRIC = lrf.DepthMetric(3)
Z = lrf.riemannian_gradient(START, LOSS.gradient(START), METRIC)
PRODUCT = lrf.Product(*START.split())
BURES = lrf.metrics.BuresWassersteinMetric()
SQUARE = lrf.LowRankMatrix(np.eye(4)[:, :2], [0.5, 0.2], np.eye(4)[2:])  # its frames have nothing in common
SYMMETRIC = lrf.LowRankMatrix.from_factor(np.eye(4)[:, :2] * [2.0, 1.0])
SKEW = lrf.Tangent(np.zeros((4, 2)), np.array([[1.0, 1.0], [-1.0, 1.0]]), np.zeros((4, 2)))
NAN, INF = float("nan"), float("inf")
CIRCLE = {}
CIRCLE["itself"] = CIRCLE


class Loss:
    """The square distance from zero, a loss of a user; an option replaces a part of it."""

    def __init__(self, **parts):
        self.shape = SHAPE
        self.__dict__.update(parts)

    def value(self, w):
        return 0.5 * w.norm() ** 2

    def gradient(self, w):
        return w.to_dense()


class HalfMixed(lrf.metrics.MNMetric):
    def differences(self, s):
        return lrf.metrics.ScaledGDMetric().differences(s)


class Negative:
    def coefficients(self, s):
        return lrf.Coefficients(core=-np.ones((s.size, s.size)), up=np.ones_like(s), vp=np.ones_like(s))


class WrongShape:
    def coefficients(self, s):
        return lrf.Coefficients(core=np.ones((s.size, s.size)), up=np.ones(1), vp=np.ones_like(s))


class SkewMix:
    def coefficients(self, s):
        mix = np.array([[0.0, 0.1], [0.0, 0.0]])
        return lrf.Coefficients(core=np.ones((2, 2)), up=np.ones_like(s), vp=np.ones_like(s), mix=mix)


class Flagged:
    """The embedded metric with an option."""

    def __init__(self, **parts):
        self.__dict__.update(parts)

    def coefficients(self, s):
        return lrf.EmbeddedMetric().coefficients(s)


class TupleMetric:
    def coefficients(self, s):
        return (s, s, s)


class NotFinite:
    def coefficients(self, s):
        return lrf.Coefficients(core=np.full((s.size, s.size), np.nan), up=np.ones_like(s), vp=np.ones_like(s))


class NoHessian:
    shape = SHAPE

    def value(self, w):
        return 1.0

    def gradient(self, w):
        return np.ones(SHAPE)


class SquareFit:
    shape = (4, 4)

    def value(self, w):
        return float((w.to_dense() ** 2).sum())

    def gradient(self, w):
        return 2 * w.to_dense()


class OnlyValue:
    """Half a loss."""

    shape = SHAPE

    def value(self, w):
        return 0.0


def tanh(t, y):
    return np.tanh(y)


def integrate(flow=None, start=START, *, t_span=(0, 1), metric=METRIC, **options):
    flow = lrf.RiemannianFlow(LOSS, metric) if flow is None else flow
    return lrf.integrate(flow, start, t_span=t_span, rtol=options.pop("rtol", 1e-4), **options)


def factor_flow(start=NET, **options):
    return integrate(lrf.FactorFlow(LOSS), start, **options)


def balanced(depth=3, **options):
    return lrf.LinearNetwork.balanced(START, depth, **options)


def point(m=3, n=4, rank=2, **options):
    return lrf.random_point(m, n, rank, rng=options.pop("rng", generator()), **options)


def descend(**options):
    return lrf.gradient_descent(LOSS, NET, **({"step_size": 0.1, "steps": 2} | options))


def verify(start=START, **options):
    return lrf.verify_equivalence(LOSS, start, **options)


def observed(rows=(0,), cols=(0,), values=(1.0,), shape=SHAPE, **options):
    return Completion(rows, cols, values, shape, **options)


class UserMisfit:
    """A misfit of a user whose parts return what they are given."""

    def __init__(self, value=0.0, gradient=(0.0, 0.0)):
        self.of, self.slope = value, gradient

    def value(self, z):
        return self.of

    def gradient(self, z):
        return self.slope


def entries(rows=(0, 1), cols=(0, 1), shape=SHAPE):
    return ls.Entries(rows, cols, shape=shape)


def measured(misfit, **options):
    return ls.Measured(entries(), misfit, **options)


def function(f):
    return ls.from_function(f, SHAPE)


def raw(inputs, targets=None):
    return DataSet("x", np.asarray(inputs, dtype=float), targets)


DEPTH_1 = " A depth-1 flow does not preserve rank; use EmbeddedMetric() for the projected flow."
RNG = "`rng` must be None, a non-negative int or a numpy.random.Generator, got {}. Use rng=0."
SOLVERS = "auto, RK23, RK45, DOP853, Radau, BDF, LSODA, Euler, RK4, RKC, ROCK4"
SMOOTH = " Use DepthMetric, EmbeddedMetric, ScaledGDMetric, TwoFactorMetric, ..., or ConjugateGradient."
STRAIGHT = " Use DepthMetric, EmbeddedMetric, ScaledGDMetric, TwoFactorMetric, ..., or retraction='svd'."
FROM_FACTOR = " Use LowRankMatrix.from_factor(y), which is y @ y.T."
TO_LOW_RANK = " Use network.to_low_rank() or LowRankMatrix.from_dense(a, rank)."
REVERSED = " Are they in reverse order? factors[0] is W_1, the one that acts first."

# id -> wrong call, exception, exact message
CASES = {
    # -- depth, rank, widths, whole numbers, numbers -----------------------------------------------------------------
    "depth a word": (lambda: lrf.DepthMetric("three"), TypeError,
        "`depth` must be a number greater than 1, got 'three'."),
    "depth None": (lambda: balanced(None), TypeError, "`depth` must be a number greater than 1, got None."),
    "depth a list": (lambda: lrf.DepthMetric([2, 3]), TypeError, "`depth` must be a number greater than 1, got list."),
    "depth an array": (lambda: lrf.DepthMetric(np.array([3])), TypeError,
        "`depth` must be a number greater than 1, got an array of shape (1,)."),
    "depth True": (lambda: balanced(True), TypeError, "`depth` must be a number greater than 1, got bool True."),
    "depth complex": (lambda: balanced(3 + 0j), TypeError, "`depth` must be a number greater than 1, got (3+0j)."),
    "depth nan": (lambda: lrf.DepthMetric(NAN), ValueError, "`depth` must be a number greater than 1, got nan."),
    "depth 1": (lambda: lrf.DepthMetric(1), ValueError, "`depth` must be greater than 1, got 1." + DEPTH_1),
    "depth negative": (lambda: balanced(-3), ValueError, "`depth` must be greater than 1, got -3." + DEPTH_1),
    "depth -inf": (lambda: lrf.DepthMetric(-INF), ValueError, "`depth` must be greater than 1, got -inf." + DEPTH_1),
    "depth of verify": (lambda: verify(depth=1), ValueError, "`depth` must be greater than 1, got 1." + DEPTH_1),
    "depth of one factor": (lambda: verify(network=lrf.LinearNetwork([START.to_dense()])), ValueError,
        "`depth` must be greater than 1, got 1." + DEPTH_1),
    "depth 2.5": (lambda: balanced(2.5), ValueError,
        "`depth` must be a whole number of factors here, got 2.5. Use 2, 3, 4 or more."),
    "depth inf": (lambda: integrate(metric=lrf.DepthMetric(INF), chart=lrf.Lifted()), ValueError,
        "`depth` must be a whole number of factors here, got inf. Use 2, 3, 4 or more."),
    "rank a fraction": (lambda: point(rank=2.0), TypeError, "`rank` must be a whole number, got 2.0."),
    "rank True": (lambda: point(rank=True), TypeError, "`rank` must be a whole number, got bool True."),
    "rank negative": (lambda: point(rank=-2), ValueError, "`rank` must be at least 1, got -2."),
    "rank 0": (lambda: LOSS.minimiser(0), ValueError, "`rank` must be at least 1, got 0."),
    "rank above the shape": (lambda: point(rank=4), ValueError,
        "`rank` must not exceed min(m, n), got rank=4 for a matrix of shape (3, 4)."),
    "rank above the numerical rank": (lambda: START.to_low_rank(3), ValueError,
        "`rank` must not exceed the numerical rank of the matrix, got rank=3 for a matrix of numerical rank 2."),
    "rank of the zero matrix": (lambda: lrf.LowRankMatrix.from_dense(np.zeros(SHAPE)), ValueError,
        "`rank` must be at least 1, got the zero matrix of rank 0."),
    "size zero": (lambda: point(m=0), ValueError, "`m` must be at least 1, got 0."),
    "size a text": (lambda: point(n="4"), TypeError, "`n` must be a whole number, got '4'."),
    "widths zero": (lambda: balanced(widths=0), ValueError, "`widths` must be at least 1, got 0."),
    "widths one zero": (lambda: lrf.LinearNetwork.identity(SHAPE, 3, widths=[3, 0]), ValueError,
        "`widths` must be at least 1, got 0."),
    "widths fractions": (lambda: balanced(widths=[4.0, 4.0]), TypeError, "`widths` must be a whole number, got 4.0."),
    "widths a text": (lambda: balanced(widths="55"), TypeError,
        "`widths` must be whole numbers, one a hidden layer, got '55'."),
    "widths a fraction": (lambda: balanced(widths=4.5), TypeError,
        "`widths` must be whole numbers, one a hidden layer, got 4.5."),
    "widths too few": (lambda: balanced(widths=[3]), ValueError,
        "`widths` must hold one number for each of the 2 hidden layers of depth 3, got 1."),
    "widths below the rank": (lambda: balanced(widths=[2, 1]), ValueError,
        "`widths` must be at least the rank 2, got 1. Lower `rank` or widen."),
    "scale a text": (lambda: lrf.LinearNetwork.gaussian(SHAPE, 2, widths=3, scale="big", rng=generator()), TypeError,
        "`scale` must be positive and finite, got 'big'."),
    "scale negative": (lambda: lrf.LinearNetwork.identity(SHAPE, 2, widths=3, scale=-1), ValueError,
        "`scale` must be positive and finite, got -1."),
    "scale infinite": (lambda: lrf.LinearNetwork.orthogonal(SHAPE, 2, widths=3, scale=INF, rng=generator()), ValueError,
        "`scale` must be positive and finite, got inf."),
    "step_size None": (lambda: descend(step_size=None), TypeError, "`step_size` must be positive and finite, got None."),
    "step_size a list": (lambda: descend(step_size=[0.1, 0.1]), TypeError,
        "`step_size` must be positive and finite, got list."),
    "step_size negative": (lambda: descend(step_size=-0.1), ValueError,
        "`step_size` must be positive and finite, got -0.1."),
    "step_size of a schedule": (lambda: descend(step_size=lambda k: "0"), TypeError,
        "`step_size(k)` must be positive and finite, got '0'."),
    "steps a fraction": (lambda: descend(steps=1.5), TypeError, "`steps` must be a whole number, got 1.5."),
    "keep_every zero": (lambda: descend(keep_every=0), ValueError, "`keep_every` must be at least 1, got 0."),

    # -- rng ---------------------------------------------------------------------------------------------------------
    "rng a text": (lambda: point(rng="a"), TypeError, RNG.format("'a'")),
    "rng a flag": (lambda: point(rng=True), TypeError, RNG.format("bool True")),
    "rng a float": (lambda: lrf.check_metric(METRIC, START, rng=7.0), TypeError, RNG.format("7.0")),
    "rng a module": (lambda: point(rng=np.random), TypeError, RNG.format("module")),
    "rng of old": (lambda: lrf.check_loss(LOSS, START, rng=np.random.RandomState(0)), TypeError, RNG.format("RandomState")),
    "rng a sequence": (lambda: lrf.LinearNetwork.gaussian(SHAPE, 3, widths=3, rng=[1, 2]), TypeError, RNG.format("list")),
    "rng of frames a class": (lambda: balanced(widths=5, rng=np.random.Generator), TypeError, RNG.format("the class Generator")),
    "rng of verify a text": (lambda: lrf.verify_equivalence(LOSS, START, rng="0"), TypeError, RNG.format("'0'")),

    # -- arrays ------------------------------------------------------------------------------------------------------
    "ragged": (lambda: LeastSquares([[1, 2], [3]], Y), ValueError,
        "`inputs` must be a rectangular array, got ragged rows."),
    "complex": (lambda: LeastSquares(X, 1j * Y), TypeError, "`targets` must be real, got dtype complex128."),
    "words": (lambda: LeastSquares([["a"]], Y), TypeError, "`inputs` must be an array of numbers, got dtype <U1."),
    "None for an array": (lambda: LeastSquares(X, None), TypeError,
        "`targets` must be an array of numbers, got dtype object."),
    "a number": (lambda: LeastSquares(X, 3.0), ValueError,
        "`targets` must be a matrix with 2 dimensions, got shape ()."),
    "a stack": (lambda: lrf.LowRankMatrix.from_dense(np.ones((2, 2, 2))), ValueError,
        "`a` must be a matrix with 2 dimensions, got shape (2, 2, 2)."),
    "empty": (lambda: LeastSquares([[]], [[]]), ValueError, "`inputs` must not be empty, got shape (1, 0)."),

    # -- LowRankMatrix, Product, LinearNetwork -----------------------------------------------------------------------
    "vt transposed": (lambda: lrf.LowRankMatrix(START.u, START.s, START.vt.T), ValueError,
        "`vt` has shape (4, 2) but `u` asks for (2, 2)."),
    "s a matrix": (lambda: lrf.LowRankMatrix(START.u, np.diag(START.s), START.vt), ValueError,
        "`s` must have shape (2,), got (2, 2)."),
    "s zero": (lambda: lrf.LowRankMatrix(START.u, [1.0, 0.0], START.vt), ValueError,
        "`s` must be positive, got a smallest value of 0."),
    "u too wide": (lambda: lrf.LowRankMatrix([[1.0, 0.0]], [1.0, 1.0], np.eye(2)), ValueError,
        "`rank` must not exceed min(m, n), got rank=2 for a matrix of shape (1, 2)."),
    "u not orthonormal": (lambda: lrf.LowRankMatrix([[2.0], [0.0]], [1.0], [[1.0]]), ValueError,
        "`u` must be orthonormal, got a defect of 3."
        " Use LowRankMatrix.from_dense or Product(left, right).to_low_rank()."),
    "vt not orthonormal": (lambda: lrf.LowRankMatrix([[1.0]], [1.0], [[1.0, 1.0]]), ValueError,
        "`vt` must be orthonormal, got a defect of 1."
        " Use LowRankMatrix.from_dense or Product(left, right).to_low_rank()."),
    "singular values too few": (lambda: point(singular_values=[1.0]), ValueError,
        "`singular_values` must have shape (2,), got (1,)."),
    "singular values one in a list": (lambda: point(singular_values=[1.0]), ValueError,
        "`singular_values` must have shape (2,), got (1,)."),
    "singular values negative": (lambda: point(singular_values=[1.0, -1.0]), ValueError,
        "`singular_values` must be positive, got a smallest value of -1."),
    "singular values nan": (lambda: point(singular_values=[1.0, NAN]), ValueError,
        "`singular_values` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "Product does not chain": (lambda: lrf.Product(np.ones((2, 3)), np.ones((2, 3))), ValueError,
        "`right` must have 3 rows to follow `left`, got shape (2, 3)."),
    "factors one array": (lambda: lrf.LinearNetwork(np.ones((2, 2, 2))), TypeError,
        "`factors` must be a list of matrices [W_1, ..., W_N], got an array of shape (2, 2, 2)."),
    "factors a point": (lambda: lrf.LinearNetwork(START), TypeError,
        "`factors` must be a list of matrices [W_1, ..., W_N], got LowRankMatrix."),
    "factors a dict": (lambda: lrf.LinearNetwork({"W1": X}), TypeError,
        "`factors` must be a list of matrices [W_1, ..., W_N], got dict."),
    "factors none": (lambda: lrf.LinearNetwork([]), ValueError, "`factors` must hold at least 1 matrix, got 0."),
    "factors with a text": (lambda: lrf.LinearNetwork([X, "x"]), TypeError,
        "`factors[1]` must be an array of numbers, got dtype <U1."),
    "factors reversed": (lambda: lrf.LinearNetwork([np.ones((2, 5)), np.ones((5, 4)), np.ones((4, 3))]), ValueError,
        "`factors` do not chain: factors[1] has shape (5, 4) but factors[0] has 2 rows." + REVERSED),
    "factors do not chain": (lambda: lrf.LinearNetwork([np.ones((3, 4)), np.ones((2, 5))]), ValueError,
        "`factors` do not chain: factors[1] has shape (2, 5) but factors[0] has 3 rows."),
    "rebalanced beyond the rank": (lambda: NET.rebalanced(3), ValueError,
        "`rank` must not exceed the numerical rank of the matrix, got rank=3 for a matrix of numerical rank 2."),

    # -- wrong kinds of arguments ------------------------------------------------------------------------------------
    "project at a network": (lambda: lrf.project(NET, X), TypeError,
        "`w` must be a LowRankMatrix, got LinearNetwork." + TO_LOW_RANK),
    "balanced of a network": (lambda: lrf.LinearNetwork.balanced(NET, 3), TypeError,
        "`start` must be a LowRankMatrix, got LinearNetwork." + TO_LOW_RANK),
    "check_loss at an array": (lambda: lrf.check_loss(LOSS, np.ones(SHAPE)), TypeError,
        "`start` must be a LowRankMatrix, got an array of shape (3, 4)." + TO_LOW_RANK),
    "factor_gradients of a list": (lambda: lrf.factor_gradients(LOSS, list(NET.factors)), TypeError,
        "`net` must be a LinearNetwork, got list. Use LinearNetwork([W_1, ..., W_N]) or"
        " LinearNetwork.balanced(start, depth)."),
    "descent of a point": (lambda: lrf.gradient_descent(LOSS, START, step_size=1.0, steps=1), TypeError,
        "`net` must be a LinearNetwork, got LowRankMatrix. Use LinearNetwork([W_1, ..., W_N]) or"
        " LinearNetwork.balanced(start, depth)."),
    "a metric class": (lambda: lrf.riemannian_gradient(START, LOSS.gradient(START), lrf.DepthMetric), TypeError,
        "`metric` must have coefficients(s), got the class DepthMetric. Pass an instance: DepthMetric(3)."),
    "a loss class": (lambda: lrf.check_loss(LeastSquares, START), TypeError,
        "`loss` must be an object, got the class LeastSquares. Pass an instance: LeastSquares(...)."),
    "inner_product of another point": (
        lambda: lrf.gradients.inner_product(START, lrf.Tangent(*(np.ones((2, 2)),) * 3), Z, METRIC), ValueError,
        "`z1.up` has shape (2, 2) but `w` asks for (3, 2)."),
    "inner_product of a matrix": (lambda: lrf.gradients.inner_product(START, Z, np.ones(SHAPE), METRIC), TypeError,
        "`z2` must be a Tangent, got an array of shape (3, 4). Use project(w, z) or Tangent(up, core, vp)."),
    "complex gradient": (lambda: lrf.project(START, np.ones(SHAPE) + 0j), TypeError,
        "`egrad` must be real, got dtype complex128."),
    "lift of a list": (lambda: lrf.horizontal_lift(NET, [[1.0]]), TypeError,
        "`z` must support `g @ v` and `g.T @ u`, got list."),
    "operator on None": (lambda: lrf.end_to_end_operator(NET)(None), TypeError,
        "`z` must support `g @ v` and `g.T @ u`, got None."),
    "egrads of another network": (lambda: lrf.riemannian_gradient_from_factors(NET, [np.ones((2, 2))]), ValueError,
        "`egrads` must hold one array for each of the 3 factors, got 1."),
    "completion at a transposed W": (lambda: observed().value(START.T), ValueError,
        "`w` has shape (4, 3) but the loss is defined on (3, 4). Did you mean the transpose?"),
    "completion of a number": (lambda: observed(shape=3), TypeError,
        "`shape` must be two whole numbers (m, n), got int 3."),
    "completion of one size": (lambda: observed(shape=(3,)), ValueError,
        "`shape` must be two whole numbers (m, n), got 1."),
    "completion of words": (lambda: observed(values=["a"]), TypeError,
        "`values` must be an array of numbers, got dtype <U1."),
    "gaussian without widths": (lambda: lrf.LinearNetwork.gaussian(SHAPE, 3, widths=None, rng=generator()), TypeError,
        "`widths` must be whole numbers, one a hidden layer, got None. Use widths=max(shape)."),
    "inputs that underflow": (lambda: LeastSquares(1e-200 * X, Y), ValueError,
        f"`inputs` must reach 1e-35 in size, got {1e-200 * np.abs(X).max():.3g}. Change the unit."),
    "targets that overflow": (lambda: LeastSquares(X, 1e160 * Y), ValueError,
        f"`targets` must stay below 1e+35 in size, got {1e160 * np.abs(Y).max():.3g}. Change the unit."),
    "depth with many digits": (lambda: lrf.DepthMetric(10**400), ValueError,
        "`depth` must fit a float, got int with more than 20 digits. Use float('inf') for the limit."),
    "a stepper class": (lambda: integrate(method=steppers.RK4), TypeError,
        "`method` must be an instance of a Stepper, got the class RK4. Pass RK4()."),
    "step_size missing for a stepper": (lambda: integrate(method=steppers.RK4()), ValueError,
        "`step_size` must be given for the fixed-step method RK4."),
    "as_ode_solver of a class": (lambda: steppers.as_ode_solver(steppers.RK4), TypeError,
        "`stepper` must be a Stepper such as RK4(), got the class RK4."),
    "json into no folder": (lambda: lrf.Report("c", {}).to_json("/nowhere/r.json"), ValueError,
        "`path` must be a file that can be written, got '/nowhere/r.json' (No such file or directory). Choose another."),
    "json onto a folder": (lambda: lrf.Report("c", {}).to_json("/"), ValueError,
        "`path` must be a file that can be written, got '/' (Is a directory). Choose another."),
    "json to a number": (lambda: lrf.Report("c", {}).to_json(5), TypeError,
        "`path` must be the path of a file, got int 5."),
    "about a word": (lambda: verify(about="digits"), TypeError,
        "`about` must be a mapping of JSON values, got 'digits'."),
    "loss that is not finite in descent": (
        lambda: lrf.gradient_descent(Loss(gradient=lambda w: np.full(SHAPE, NAN)), NET, step_size=1.0, steps=1), ValueError,
        "`loss` must be finite at the start, got a value or gradient that is not. Start elsewhere or nearer."),
    "sharpness of a loss that is not finite": (
        lambda: lrf.sharpness(Loss(gradient=lambda w: np.full(SHAPE, NAN)), NET), ValueError,
        "`loss.gradient(w)` must be finite at the start, got a value that is not. Start elsewhere or nearer."),

    "gradient_from_factors at a point": (lambda: lrf.riemannian_gradient_from_factors(START, NET.factors), TypeError,
        "`net` must be a LinearNetwork, got LowRankMatrix. Use LinearNetwork([W_1, ..., W_N]) or"
        " LinearNetwork.balanced(start, depth)."),
    "egrads None": (lambda: lrf.riemannian_gradient_from_factors(NET, None), TypeError,
        "`egrads` must be a list of matrices, one a factor, got None."),
    "directions a 0-d array": (lambda: lrf.gradients.product_rule(NET, np.array(1.0)), TypeError,
        "`directions` must be a list of matrices, one a factor, got an array of shape ()."),
    "widths a 0-d array": (lambda: balanced(widths=np.array(3)), TypeError,
        "`widths` must be whole numbers, one a hidden layer, got an array of shape ()."),
    "size with many digits": (lambda: point(m=10**400), ValueError,
        f"`m` must be at most {sys.maxsize}, got int with more than 20 digits."),
    "least squares at a loss": (lambda: LOSS.value(LOSS), TypeError,
        "`w` must be an array, LowRankMatrix, Product or LinearNetwork, got LeastSquares."),
    "steps of arrays": (lambda: data.prepare(raw([[1], [2]]), steps=np.ones((2, 2))), ValueError,
        "`steps` must be made of center, scale, range, or be none; got an array of shape (2,)."),
    "directions with a text": (lambda: lrf.gradients.product_rule(NET, [*NET.factors[:2], "x"]), TypeError,
        "`directions[2]` must be an array of numbers, got dtype <U1."),
    "tolerance a text": (lambda: lrf.horizontal_lift(NET, X, tolerance="loose"), TypeError,
        "`tolerance` must be non-negative and finite, got 'loose'."),
    "Product of vectors": (lambda: lrf.Product(np.ones(3), np.ones(3)), ValueError,
        "`left` must be a matrix with 2 dimensions, got shape (3,)."),
    "Product of words": (lambda: lrf.Product([["a"]], [[1.0]]), TypeError,
        "`left` must be an array of numbers, got dtype <U1."),
    "Product of lists": (lambda: lrf.Product([[1.0, 2.0]], [[1.0]]), ValueError,
        "`right` must have 2 rows to follow `left`, got shape (1, 1)."),
    "Product plus an array": (lambda: PRODUCT + np.ones(SHAPE), TypeError,
        "`other` must be a LowRankMatrix, Product or LinearNetwork, got an array of shape (3, 4)."
        " Use to_dense() to add arrays."),
    "Product minus None": (lambda: PRODUCT - None, TypeError,
        "`other` must be a LowRankMatrix, Product or LinearNetwork, got None. Use to_dense() to add arrays."),
    "s of words": (lambda: lrf.LowRankMatrix(START.u, ["a", "b"], START.vt), TypeError,
        "`s` must be an array of numbers, got dtype <U1."),
    "singular values complex": (lambda: point(singular_values=[1j, 1.0]), TypeError,
        "`singular_values` must be real, got dtype complex128."),
    "singular values ragged": (lambda: point(singular_values=[[1.0], [1.0, 2.0]]), ValueError,
        "`singular_values` must be a rectangular array, got ragged rows."),
    "shape with a text": (lambda: lrf.LinearNetwork.identity("34", 3, widths=3), TypeError,
        "`shape` must be two whole numbers (m, n), got '34'."),
    "shape a 0-d array": (lambda: lrf.LinearNetwork.identity(np.array(3), 3, widths=3), TypeError,
        "`shape` must be two whole numbers (m, n), got an array of shape ()."),
    "shape of three": (lambda: lrf.LinearNetwork.orthogonal((3, 4, 5), 3, widths=3, rng=generator()), ValueError,
        "`shape` must be two whole numbers (m, n), got 3."),
    "depth beyond memory": (lambda: balanced(1e300), ValueError,
        "`depth` must be at most 1000000 factors, got 1e+300. DepthMetric takes any depth."),
    "scale with many digits": (lambda: lrf.LinearNetwork.identity(SHAPE, 3, widths=3, scale=10**400), ValueError,
        "`scale` must be positive and finite, got inf."),
    "t_span of words": (lambda: integrate(t_span=("0", "1")), TypeError,
        "`t_span` must be two numbers (t_0, t_1), got tuple."),
    "t_span with many digits": (lambda: integrate(t_span=(0, 10**400)), ValueError,
        "`gtol` must be positive where t_span ends at inf, got 0. The run would not end."),
    "rank a long text": (lambda: point(rank="x" * 1000), TypeError,
        f"`rank` must be a whole number, got {repr('x' * 60)[:57]}...."),
    "reduction an array": (lambda: LeastSquares(X, Y, reduction=np.array(["sum", "mean"])), ValueError,
        "`reduction` must be one of sum, mean; got an array of shape (2,)."),
    "rng a negative seed": (lambda: point(rng=-7), ValueError, RNG.format("int -7")),
    "value not a function": (lambda: lrf.check_loss(Loss(value=3.0), START), TypeError,
        "`loss.value` must be a function of w, got 3.0."),
    "value None": (lambda: lrf.check_loss(Loss(value=lambda w: None), START), TypeError,
        "`loss.value(w)` must be one real number, got None."),
    "value complex": (lambda: lrf.check_loss(Loss(value=lambda w: 1j), START), TypeError,
        "`loss.value(w)` must be one real number, got 1j."),
    "value an array": (lambda: lrf.check_loss(Loss(value=lambda w: np.ones(1)), START), TypeError,
        "`loss.value(w)` must be one real number, got an array of shape (1,)."),
    "gradient of a loss complex": (lambda: lrf.check_loss(Loss(gradient=lambda w: np.ones(SHAPE) + 0j), START), TypeError,
        "`loss.gradient(w)` must be real, got dtype complex128."),
    "least squares at a list": (lambda: LOSS.value([[1.0] * 4] * 3), TypeError,
        "`w` must be an array, LowRankMatrix, Product or LinearNetwork, got list."),
    "completion at a loss": (lambda: observed().gradient(None), TypeError,
        "`w` must be an array, LowRankMatrix, Product or LinearNetwork, got None."),
    "a complex sparse matrix": (lambda: Completion.from_sparse(scipy.sparse.csr_array(1j * np.ones(SHAPE))), TypeError,
        "`matrix` must be real, got dtype complex128."),
    "observed values that underflow": (lambda: observed(values=[1e-200]), ValueError,
        "`values` must reach 1e-35 in size, got 1e-200. Change the unit."),
    "observed values a matrix": (lambda: observed(values=[[1.0]]), ValueError,
        "`values` must be a vector, got shape (1, 1)."),
    "prepare an array": (lambda: data.prepare(X), TypeError,
        "`data` must be a DataSet, got an array of shape (4, 9). Use DataSet(name, inputs, targets)."),
    "prepare_observed a data set": (lambda: data.prepare_observed(raw([[1], [2]])), TypeError,
        "`observations` must be Observations, got DataSet. Use Observations(name, rows, cols, values, shape)."),
    "read_inputs of None": (lambda: data.read_inputs(None), TypeError,
        "`inputs` must be the path of a file, got None."),
    "read_observed of a number": (lambda: data.read_observed(5), TypeError,
        "`observed` must be the path of a file, got int 5."),
    "read_factors of a list": (lambda: data.read_factors(["a.npz"]), TypeError,
        "`factors` must be the path of a file, got list."),
    "a trajectory into no folder": (lambda: integrate().save("/nowhere/p.npz"), ValueError,
        "`path` must be a file that can be written, got '/nowhere/p.npz' (No such file or directory). Choose another."),
    "a trajectory as NetCDF into no folder": (lambda: integrate().to_netcdf("/nowhere/p.nc"), ValueError,
        "`path` must be a file that can be written, got '/nowhere/p.nc' (No such file or directory). Choose another."),
    "a trajectory of two shapes": (lambda: dataclasses.replace(integrate(), points=[START, START.T]).to_xarray(), ValueError,
        "`points` must all have the same kind, shape and rank (or widths) to be written, got 2 different."),
    "a trajectory of two kinds": (lambda: dataclasses.replace(integrate(), points=[START, NET]).save("p.npz"), ValueError,
        "`points` must all have the same kind, shape and rank (or widths) to be written, got 2 different."),
    "checkpoint into no folder": (lambda: Checkpoint({}, {}).write("/nowhere/c.npz"), ValueError,
        "`path` must be a file that can be written, got '/nowhere/c.npz' (No such file or directory). Choose another."),
    "checkpoint onto a folder": (lambda: Checkpoint({}, {}).write("/"), ValueError,
        "`path` must be a file that can be written, got '/' (Is a directory). Choose another."),
    "checkpoint of a folder": (lambda: Checkpoint.read("/"), ValueError,
        "`path` must be an existing file, got the folder '/'."),
    "checkpoint of nothing": (lambda: Checkpoint.read("/nowhere/c.npz"), ValueError,
        "`path` must be an existing file, got '/nowhere/c.npz'."),
    "checkpoint of None": (lambda: Checkpoint.read(None), TypeError,
        "`path` must be the path of a file, got None."),
    "head with an array": (lambda: Checkpoint({"t": X}, {}).write("c.npz"), TypeError,
        "`head` must be made of texts, numbers, lists and dicts, got what JSON cannot hold"
        " (Object of type ndarray is not JSON serializable)."),
    "head that holds itself": (lambda: Checkpoint(CIRCLE, {}).write("c.npz"), TypeError,
        "`head` must be made of texts, numbers, lists and dicts, got what JSON cannot hold"
        " (Circular reference detected)."),
    "checkpoint of objects": (lambda: Checkpoint({}, {"y": np.array([{}])}).write("c.npz"), TypeError,
        "`arrays['y']` must be an array of numbers, got dtype object."),
    "checkpoint of texts": (lambda: Checkpoint({}, {"y": "abc"}).write("c.npz"), TypeError,
        "`arrays['y']` must be an array of numbers, got dtype <U3."),
    "report from a class": (lambda: lrf.Report.from_json(lrf.Report), TypeError,
        "`path` must be the path of a file, got the class Report."),

    # -- gradients and metrics ---------------------------------------------------------------------------------------
    "gradient a list": (lambda: lrf.project(START, [[1.0] * 4] * 3), TypeError,
        "`egrad` must support `g @ v` and `g.T @ u`, got list."),
    "gradient of a loss a list": (lambda: integrate(lrf.RiemannianFlow(Loss(gradient=lambda w: [0]), METRIC)), TypeError,
        "`loss.gradient(w)` must support `g @ v` and `g.T @ u`, got list."),
    "gradient None": (lambda: lrf.factor_gradients(Loss(gradient=lambda w: None), NET), TypeError,
        "`loss.gradient(w)` must support `g @ v` and `g.T @ u`, got None."),
    "gradient a function": (lambda: lrf.riemannian_gradient(START, LOSS.gradient, METRIC), TypeError,
        "`egrad` must support `g @ v` and `g.T @ u`, got method."),
    "loss a function": (lambda: lrf.factor_gradients(LOSS.value, NET), TypeError,
        "`loss` must have shape, value(w) and gradient(w); method lacks shape."),
    "loss swapped with the network": (lambda: lrf.factor_gradients(NET, LOSS), TypeError,
        "`loss` must have shape, value(w) and gradient(w); LinearNetwork lacks value."),
    "loss without gradient": (lambda: lrf.verify_equivalence(OnlyValue(), START), TypeError,
        "`loss` must have shape, value(w) and gradient(w); OnlyValue lacks gradient."),
    "loss.shape a list": (lambda: lrf.factor_gradients(Loss(shape=[3, 4]), NET), TypeError,
        "`loss.shape` must be a tuple (m, n), got list."),
    "loss.shape of three": (lambda: lrf.check_loss(Loss(shape=(3, 4, 1)), START), TypeError,
        "`loss.shape` must be a tuple (m, n), got tuple."),
    "too few directions": (lambda: lrf.gradients.product_rule(NET, NET.factors[:2]), ValueError,
        "`directions` must hold one array for each of the 3 factors, got 2."),
    "directions reversed": (lambda: lrf.gradients.product_rule(NET, NET.factors[::-1]), ValueError,
        "`directions[0]` has shape (3, 2) but factors[0] has shape (2, 4)."),
    "directions transposed": (lambda: lrf.gradients.product_rule(NET, [f.T for f in NET.factors]), ValueError,
        "`directions[0]` has shape (4, 2) but factors[0] has shape (2, 4). Did you mean the transpose?"),
    "egrads a vector": (lambda: lrf.riemannian_gradient_from_factors(NET, NET.factors[0]), ValueError,
        "`egrads[0]` must be a matrix with 2 dimensions, got shape (4,)."),
    "lift of a Tangent": (lambda: lrf.horizontal_lift(NET, Z), TypeError,
        "`z` must be a matrix, got a Tangent, whose coordinates need the frames of its base point. Pass z.at(w)."),
    "lift to unbalanced factors": (lambda: lrf.horizontal_lift(UNBALANCED, np.eye(2)), ValueError,
        "The factors are not balanced (relative imbalance 0.75, allowed 1e-08)."
        " Start from LinearNetwork.balanced, or call network.rebalanced()."),
    "degenerate metric": (lambda: lrf.gradients.inner_product(START, Z, Z, lrf.DepthMetric(INF)), ValueError,
        "`metric` must be positive on the whole tangent space to be inverted, got a zero coefficient."
        " DepthMetric(inf) is degenerate below full rank; use a finite depth."),
    "conversion from a degenerate metric": (lambda: lrf.gradients.convert_gradient(START, Z, lrf.DepthMetric(INF), METRIC),
        ValueError, "`metric` must be positive on the whole tangent space to be inverted, got a zero coefficient."
        " DepthMetric(inf) is degenerate below full rank; use a finite depth."),
    "conversion at another point": (lambda: lrf.gradients.convert_gradient(SQUARE, Z, METRIC, METRIC), ValueError,
        "`rgrad.up` has shape (3, 2) but `w` asks for (4, 2)."),
    "conversion of a matrix": (lambda: lrf.gradients.convert_gradient(START, np.ones(SHAPE), METRIC, METRIC), TypeError,
        "`rgrad` must be a Tangent, got an array of shape (3, 4). Use project(w, z) or Tangent(up, core, vp)."),
    "norm of a matrix": (lambda: lrf.gradients.tangent_norm(START, np.ones(SHAPE), METRIC), TypeError,
        "`z` must be a Tangent, got an array of shape (3, 4). Use project(w, z) or Tangent(up, core, vp)."),
    "spectrum of a class": (lambda: lrf.gradients.tangent_kernel_spectrum(START, lrf.DepthMetric), TypeError,
        "`metric` must have coefficients(s), got the class DepthMetric. Pass an instance: DepthMetric(3)."),
    "volume at an array": (lambda: lrf.gradients.log_volume(np.ones(SHAPE), METRIC), TypeError,
        "`w` must be a LowRankMatrix, got an array of shape (3, 4)." + TO_LOW_RANK),
    "imbalances none": (lambda: lrf.metrics.KappaBalancedMetric([]), ValueError,
        "`imbalances` must hold a number between each two of the N factors, got none."),
    "imbalances nan": (lambda: lrf.metrics.KappaBalancedMetric([0.1, NAN]), ValueError,
        "`imbalances` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "imbalances a number": (lambda: lrf.metrics.KappaBalancedMetric(0.5), ValueError,
        "`imbalances` must be a vector, got shape ()."),
    "imbalances words": (lambda: lrf.metrics.KappaBalancedMetric(["a"]), TypeError,
        "`imbalances` must be an array of numbers, got dtype <U1."),
    "imbalance nan": (lambda: lrf.metrics.LambdaBalancedMetric(NAN), ValueError, "`imbalance` must be a finite number, got nan."),
    "imbalance inf": (lambda: lrf.metrics.LambdaBalancedMetric(INF), ValueError, "`imbalance` must be a finite number, got inf."),
    "imbalance a list": (lambda: lrf.metrics.LambdaBalancedMetric([0.5]), TypeError,
        "`imbalance` must be a finite number, got list."),
    "imbalance of rows": (lambda: lrf.metrics.LambdaBalancedMetric(-1, hidden="rows"), ValueError,
        "`imbalance` must be positive for hidden='rows', got -1."),
    "imbalance zero of rows": (lambda: lrf.metrics.LambdaBalancedMetric(0, hidden="rows"), ValueError,
        "`imbalance` must be positive for hidden='rows', got 0."),
    "imbalance of columns": (lambda: lrf.metrics.LambdaBalancedMetric(0.5, hidden="columns"), ValueError,
        "`imbalance` must be negative for hidden='columns', got 0.5."),
    "hidden unknown": (lambda: lrf.metrics.LambdaBalancedMetric(1, hidden="wide"), ValueError,
        "`hidden` must be one of rank, rows, columns; got 'wide'."),
    "hidden a number": (lambda: lrf.metrics.LambdaBalancedMetric(1, hidden=3), ValueError,
        "`hidden` must be one of rank, rows, columns; got int 3."),
    "symmetric metric, not square": (lambda: lrf.riemannian_gradient(START, np.ones(SHAPE), BURES), ValueError,
        "`w` must be symmetric positive semidefinite under BuresWassersteinMetric, got shape (3, 4)."),
    "symmetric metric, two frames": (lambda: lrf.gradients.log_volume(SQUARE, BURES), ValueError,
        "`w` must be symmetric positive semidefinite (u == vt.T) under BuresWassersteinMetric, got a gap of 2."
        + FROM_FACTOR),
    "symmetric metric, minus a point": (
        lambda: lrf.gradients.tangent_kernel_spectrum(lrf.LowRankMatrix(SYMMETRIC.u, SYMMETRIC.s, -SYMMETRIC.vt), BURES),
        ValueError,
        "`w` must be symmetric positive semidefinite (u == vt.T) under BuresWassersteinMetric, got a gap of 2.8."
        + FROM_FACTOR),
    "symmetric metric, a skew tangent": (lambda: lrf.gradients.inner_product(SYMMETRIC, SKEW, SKEW, BURES), ValueError,
        "`z1` must be symmetric under BuresWassersteinMetric, got an asymmetry of 2.8. Use z1.symmetrised()."),
    "symmetric metric, a skew second tangent": (
        lambda: lrf.gradients.inner_product(SYMMETRIC, SKEW.symmetrised(), SKEW, BURES), ValueError,
        "`z2` must be symmetric under BuresWassersteinMetric, got an asymmetry of 2.8. Use z2.symmetrised()."),
    "norm of a skew tangent": (lambda: lrf.gradients.tangent_norm(SYMMETRIC, SKEW, BURES), ValueError,
        "`z` must be symmetric under BuresWassersteinMetric, got an asymmetry of 2.8. Use z.symmetrised()."),
    "conversion of a skew gradient": (lambda: lrf.gradients.convert_gradient(SYMMETRIC, SKEW, BURES, METRIC), ValueError,
        "`rgrad` must be symmetric under BuresWassersteinMetric, got an asymmetry of 2.8. Use rgrad.symmetrised()."),
    "flow of a symmetric metric": (lambda: integrate(
        lrf.RiemannianFlow(LeastSquares(X, generator().standard_normal((4, 9))), BURES), SQUARE), ValueError,
        "`start` must be symmetric positive semidefinite (u == vt.T) under BuresWassersteinMetric, got a gap of 2."
        + FROM_FACTOR),
    "lifted symmetric metric": (lambda: integrate(metric=BURES, chart=lrf.Lifted()), TypeError,
        "`chart` Lifted() takes a RiemannianFlow under DepthMetric, got BuresWassersteinMetric."),
    "symmetric point, not square": (lambda: point(symmetric=True), ValueError,
        "`m` and `n` must be equal for a symmetric matrix, got 3 and 4."),
    "symmetric a number": (lambda: point(symmetric=1), TypeError, "`symmetric` must be True or False, got int 1."),
    "factor of lower rank": (lambda: lrf.LowRankMatrix.from_factor(np.ones((4, 2))), ValueError,
        "`y` must have full rank, got shape (4, 2) of numerical rank 1. Drop dependent columns."),
    "factor a vector": (lambda: lrf.LowRankMatrix.from_factor(np.ones(4)), ValueError,
        "`y` must be a matrix with 2 dimensions, got shape (4,)."),

    # manifolds, Hessians, checks
    "Hessian of a mixed metric": (lambda: lrf.geometry.RiemannianHessian(START, Z, lrf.metrics.PolarMetric()), TypeError,
        "`metric` must have differences(s) for a Riemannian Hessian, which PolarMetric has not." + SMOOTH),
    "Hessian of a mix without differences of its own": (
        lambda: lrf.geometry.RiemannianHessian(START, Z, HalfMixed()), TypeError,
        "`metric` must have mix_differences(s) beside differences(s), because its coefficients have a mix; HalfMixed has not."
        " Add them, or leave out differences(s)."),
    "acceleration of a mixed metric": (lambda: lrf.geometry.geodesic_acceleration(START, Z, lrf.metrics.MNMetric()), TypeError,
        "`metric` must have differences(s) for a Riemannian Hessian, which MNMetric has not." + SMOOTH),
    "acceleration of a degenerate metric": (
        lambda: lrf.geometry.geodesic_acceleration(START, Z, lrf.DepthMetric(INF)), ValueError,
        "`metric` must be positive on the whole tangent space to be inverted, got a zero coefficient."
        " DepthMetric(inf) is degenerate below full rank; use a finite depth."),
    "Hessian at a gradient elsewhere": (lambda: lrf.geometry.RiemannianHessian(SQUARE, Z, METRIC), ValueError,
        "`gradient.up` has shape (3, 2) but `w` asks for (4, 2)."),
    "manifold of shape 0": (lambda: FixedRank(0, 4, 1), ValueError, "`m` must be at least 1, got 0."),
    "manifold of a large rank": (lambda: FixedRank(3, 4, 5), ValueError,
        "`rank` must not exceed min(m, n), got rank=5 for a matrix of shape (3, 4)."),
    "manifold of a metric class": (lambda: FixedRank(3, 4, 2, lrf.EmbeddedMetric), TypeError,
        "`metric` must have coefficients(s), got the class EmbeddedMetric. Pass an instance: DepthMetric(3)."),
    "manifold of depth 1": (lambda: FixedRank(3, 4, 2, lrf.DepthMetric(1)), ValueError,
        "`depth` must be greater than 1, got 1. A depth-1 flow does not preserve rank;"
        " use EmbeddedMetric() for the projected flow."),
    "degenerate manifold": (lambda: FixedRank(3, 4, 2, lrf.DepthMetric(INF)), ValueError,
        "`metric` must be positive on the tangent space, got 0 on the directions that turn the column space (up)."
        " DepthMetric(inf) is degenerate below full rank; use a finite depth."),
    "manifold of a negative metric": (lambda: FixedRank(3, 4, 2, Negative()), ValueError,
        "`metric` must be positive on the tangent space, got -1 on the r x r block."),
    "manifold of a metric of wrong shape": (lambda: FixedRank(3, 4, 2, WrongShape()), ValueError,
        "`metric` must have coefficients(s).up of shape (2,), got (1,)."),
    "psd manifold, not square": (lambda: FixedRank(3, 4, 2, BURES), ValueError,
        "`m` and `n` must be equal for BuresWassersteinMetric, got 3 and 4."),
    "unknown retraction": (lambda: FixedRank(3, 4, 2, retraction="qr"), ValueError,
        "`retraction` must be one of svd, product, geodesic; got 'qr'."),
    "product retraction of a real depth": (lambda: FixedRank(3, 4, 2, lrf.DepthMetric(2.5), retraction="product"),
        ValueError, "`retraction` must be 'svd' or 'geodesic' for DepthMetric(depth=2.5), got 'product',"
        " which multiplies the factors of a DepthMetric of whole depth."),
    "geodesic retraction of a mixed metric": (lambda: FixedRank(3, 4, 2, lrf.metrics.PolarMetric(), retraction="geodesic"),
        TypeError, "`metric` must have differences(s) for geodesics, which PolarMetric has not." + STRAIGHT),
    "manifold, rng a flag": (lambda: FixedRank(3, 4, 2, rng=False), TypeError, RNG.format("bool False")),
    "manifold seeded by a text": (lambda: FixedRank(3, 4, 2).seeded("a"), TypeError, RNG.format("'a'")),
    "point of another manifold": (lambda: FixedRank(4, 4, 2).retraction(START, Z), ValueError,
        "`point` must be 4 x 4 of rank 2, got 3 x 4 of rank 2."),
    "psd point not symmetric": (lambda: PositiveSemidefinite(4, 2).problem(SquareFit()).cost(SQUARE), ValueError,
        "`point` must be symmetric positive semidefinite (u == vt.T) under BuresWassersteinMetric, got a gap of 2."
        + FROM_FACTOR),
    "problem of no loss": (lambda: FixedRank(3, 4, 2).problem(1), TypeError,
        "`loss` must have shape, value(w) and gradient(w); int 1 lacks shape."),
    "problem of another shape": (lambda: FixedRank(4, 3, 2).problem(LOSS), ValueError,
        "`manifold` has shape (4, 3) but the loss is defined on (3, 4). Did you mean the transpose?"),
    "callback a number": (lambda: FixedRank(3, 4, 2).problem(LOSS, callback=1), TypeError,
        "`callback` must be callable or None, got int 1."),
    "TrustRegions without a Hessian": (lambda: FixedRank(3, 4, 2).problem(NoHessian()).riemannian_hessian, TypeError,
        "`loss` has no `hessian`, so TrustRegions cannot be used. Add hessian(w, z), or choose ConjugateGradient."),
    "retraction of an array": (lambda: FixedRank(3, 4, 2).retraction(np.ones(SHAPE), Z), TypeError,
        "`point` must be (u, s, vt), got an array of shape (3, 4). Use LowRankMatrix.from_dense(a, rank)."),
    "retraction along an array": (lambda: FixedRank(3, 4, 2).retraction(START, np.ones(SHAPE)), TypeError,
        "`tangent_vector` must be (up, core, vp), got an array of shape (3, 4). Use project."),
    "metric with a skew mix": (lambda: lrf.check_metric(SkewMix(), START), ValueError,
        "`metric` must have a symmetric mix to be self-adjoint, got an asymmetry of 0.1."),
    "metric that returns a tuple": (lambda: lrf.gradients.tangent_norm(START, Z, TupleMetric()), TypeError,
        "`metric` must return Coefficients(core, up, vp) from coefficients(s), got tuple."),
    "inner product of a metric of wrong shape": (lambda: lrf.gradients.inner_product(START, Z, Z, WrongShape()), ValueError,
        "`metric` must have coefficients(s).up of shape (2,), got (1,)."),
    "check_metric of a number": (lambda: lrf.check_metric(1, START), TypeError,
        "`metric` must have coefficients(s), got int 1. Pass an instance: DepthMetric(3)."),
    "check_metric at an array": (lambda: lrf.check_metric(METRIC, np.ones(SHAPE)), TypeError,
        "`start` must be a LowRankMatrix, got an array of shape (3, 4)." + TO_LOW_RANK),
    "check_metric of wrong shape": (lambda: lrf.check_metric(WrongShape(), START), ValueError,
        "`metric` must have coefficients(s).up of shape (2,), got (1,)."),
    "check_metric, nan": (lambda: lrf.check_metric(NotFinite(), START), ValueError,
        "`coefficients(s).core` must be finite, got 4 NaN or infinite of 4 values, the first at index (0, 0)."
        " Remove or impute them."),
    "transposable a text": (lambda: lrf.metrics.facts(Flagged(transposable="yes")), TypeError,
        "`metric.transposable` must be True, False or None, got 'yes'."),
    "symmetric one": (lambda: lrf.gradients.tangent_norm(START, Z, Flagged(symmetric=1)),
        TypeError, "`metric.symmetric` must be True, False or None, got int 1."),
    "root of a metric zero": (lambda: lrf.metrics.facts(Flagged(root=0)), ValueError,
        "`metric.root` must be positive and finite, got 0."),
    "root of a metric a text": (lambda: lrf.check_metric(Flagged(root="two"), START), TypeError,
        "`metric.root` must be positive and finite, got 'two'."),
    "check_manifold of a class": (lambda: lrf.check_manifold(FixedRank), TypeError,
        "`manifold` must be a pymanopt manifold with inner_product(...), got the class FixedRank."),

    # -- losses ------------------------------------------------------------------------------------------------------
    "fixed_rank a number": (lambda: ls.facts(Loss(fixed_rank=1)), TypeError,
        "`loss.fixed_rank` must be True, False or None, got int 1."),
    "exponential_tail a text": (lambda: lrf.check_loss(Loss(exponential_tail="no"), START), TypeError,
        "`loss.exponential_tail` must be True, False or None, got 'no'."),
    "differentiable_by_autograd a list": (lambda: ls.Sum(LOSS, Loss(differentiable_by_autograd=[])), TypeError,
        "`loss.differentiable_by_autograd` must be True, False or None, got list."),
    "convex a text": (lambda: ls.Logarithm(Loss(convex="yes")), TypeError,
        "`loss.convex` must be True, False or None, got 'yes'."),
    "curvature zero": (lambda: ls.facts(Loss(curvature=0)).curvature, ValueError,
        "`loss.curvature` must be positive and finite, got 0."),
    "minimiser that returns an array": (
        lambda: lrf.compare.natural_time_unit(Loss(minimiser=lambda rank: np.ones(SHAPE)), START, 2), TypeError,
        "`loss.minimiser(rank)` must be a LowRankMatrix, got an array of shape (3, 4)." + TO_LOW_RANK),
    "unknown reduction": (lambda: LeastSquares(X, Y, reduction="none"), ValueError,
        "`reduction` must be one of sum, mean; got 'none'."),
    "samples a list": (lambda: LeastSquares(X, Y, samples=["rows"]), ValueError,
        "`samples` must be one of columns, rows; got list."),
    "samples differ": (lambda: LeastSquares(X, Y[:, :5]), ValueError,
        "`targets` must have as many samples as `inputs`, got 5 and 9."),
    "samples in rows": (lambda: LeastSquares(X.T, Y.T), ValueError,
        "`targets` must have as many samples as `inputs`, got 3 and 4. Did you mean samples=\"rows\"?"),
    "samples in columns": (lambda: LeastSquares(X, Y, samples="rows"), ValueError,
        "`targets` must have as many samples as `inputs`, got 3 and 4. Did you mean samples=\"columns\"?"),
    "inputs all zero": (lambda: LeastSquares(0 * X, Y), ValueError,
        "`inputs` must not be all zero: the loss would not depend on W."),
    "best value beyond the shape": (lambda: LOSS.best_value(9), ValueError,
        "`rank` must not exceed min(m, n), got rank=9 for a matrix of shape (3, 4)."),
    "nothing observed": (lambda: observed([], [], []), ValueError,
        "`values` must not be empty: nothing was observed."),
    "observed zeros": (lambda: observed(values=[0.0]), ValueError,
        "`values` must not be all zero: the best matrix is zero, which has no rank-k part."),
    "observed lengths": (lambda: observed([0, 1]), ValueError,
        "`rows`, `cols` and `values` must have one shape (p,), got (2,), (1,) and (1,)."),
    "observed twice": (lambda: observed([2, 0, 2], [3, 0, 3], [1.0, 2.0, 3.0]), ValueError,
        "`rows`, `cols` must name each position once, got (2, 3) twice. Average repeated observations first."),
    "rows are fractions": (lambda: observed([0.5]), TypeError, "`rows` must be whole numbers, got dtype float64."),
    "cols are words": (lambda: observed(cols=["a"]), TypeError, "`cols` must be whole numbers, got dtype <U1."),
    "rows outside": (lambda: observed([3]), ValueError, "`rows` must lie between 0 and 2, got 3 .. 3."),
    "cols negative": (lambda: observed(cols=[-1]), ValueError, "`cols` must lie between 0 and 3, got -1 .. -1."),
    "shape zero": (lambda: observed(shape=(0, 4)), ValueError, "`shape` must be at least 1, got 0."),
    "shape fractions": (lambda: observed(shape=(3.0, 4.0)), TypeError, "`shape` must be a whole number, got 3.0."),
    "not a sparse matrix": (lambda: Completion.from_sparse(np.eye(3)), TypeError,
        "`matrix` must be a scipy sparse matrix, got an array of shape (3, 3)."),
    "an empty sparse matrix": (lambda: Completion.from_sparse(scipy.sparse.csr_array(SHAPE)), ValueError,
        "`values` must not be empty: nothing was observed."),

    # -- charts ------------------------------------------------------------------------------------------------------
    "Factors for a Riemannian flow": (lambda: integrate(chart=lrf.Factors()), TypeError,
        "`chart` Factors() takes a FactorFlow, got a RiemannianFlow. Use SingularFrame() or Lifted()."),
    "SingularFrame for a factor flow": (lambda: factor_flow(chart=lrf.SingularFrame()), TypeError,
        "`chart` SingularFrame() takes a RiemannianFlow, got a FactorFlow. Use Factors()."),
    "Ambient for a factor flow": (lambda: factor_flow(chart=lrf.charts.Ambient()), TypeError,
        "`chart` Ambient() takes a RiemannianFlow, got a FactorFlow. Use Factors()."),
    "Ambient under a metric that keeps the rank": (lambda: integrate(chart=lrf.charts.Ambient()), ValueError,
        "`chart` Ambient() needs a metric that extends beyond the rank, got DepthMetric, which keeps the rank."
        " Use SingularFrame()."),
    "Ambient under a metric that does not extend": (
        lambda: integrate(metric=lrf.metrics.ScaledGDMetric(), chart=lrf.charts.Ambient()), ValueError,
        "`chart` Ambient() needs a metric that extends beyond the rank, got ScaledGDMetric, which does not extend"
        " smoothly to lower rank. Use SingularFrame()."),
    "Lifted for another metric": (lambda: integrate(metric=lrf.EmbeddedMetric(), chart=lrf.Lifted()), TypeError,
        "`chart` Lifted() takes a RiemannianFlow under DepthMetric, got EmbeddedMetric."),
    "factor flow from a point": (lambda: factor_flow(START), TypeError,
        "`start` must be a LinearNetwork for a factor flow, got LowRankMatrix. Use LinearNetwork.balanced(start, depth)."),
    "Riemannian flow from a network": (lambda: integrate(start=NET), TypeError,
        "`start` must be a LowRankMatrix for a Riemannian flow, got LinearNetwork." + TO_LOW_RANK),
    "Riemannian flow from an array": (lambda: integrate(start=START.to_dense()), TypeError,
        "`start` must be a LowRankMatrix for a Riemannian flow, got an array of shape (3, 4)." + TO_LOW_RANK),
    "root below 1": (lambda: integrate(chart=lrf.SingularFrame(root=0.5)), ValueError,
        "`root` must be at least 1, got 0.5."),
    "root a text": (lambda: integrate(chart=lrf.SingularFrame(root="3")), TypeError,
        "`root` must be positive and finite, got '3'."),

    # -- integrate ---------------------------------------------------------------------------------------------------
    "t_span one number": (lambda: integrate(t_span=5), TypeError,
        "`t_span` must be two numbers (t_0, t_1), got int 5."),
    "t_span three numbers": (lambda: integrate(t_span=(0, 1, 2)), TypeError,
        "`t_span` must be two numbers (t_0, t_1), got tuple."),
    "t_span reversed": (lambda: integrate(t_span=(1, 0)), ValueError,
        "`t_span` must be increasing from a finite time, got (1, 0)."),
    "t_span infinite": (lambda: integrate(t_span=(0, INF)), ValueError,
        "`gtol` must be positive where t_span ends at inf, got 0. The run would not end."),
    "rtol a text": (lambda: integrate(rtol="tight"), TypeError, "`rtol` must be positive and finite, got 'tight'."),
    "rtol zero": (lambda: integrate(rtol=0), ValueError, "`rtol` must be positive and finite, got 0."),
    "rtol below roundoff": (lambda: integrate(rtol=1e-16), ValueError,
        "`rtol` must lie between 3e-14 and 0.1, got 1e-16: roundoff swamps smaller ones."),
    "rtol 1": (lambda: integrate(rtol=1), ValueError,
        "`rtol` must lie between 3e-14 and 0.1, got 1: larger ones say nothing."),
    "atol an array": (lambda: integrate(atol=np.ones(3)), TypeError,
        "`atol` must be non-negative and finite, got an array of shape (3,)."),
    "gtol negative": (lambda: integrate(gtol=-1), ValueError, "`gtol` must be non-negative and finite, got -1."),
    "rtol nan": (lambda: integrate(rtol=NAN), ValueError, "`rtol` must be positive and finite, got nan."),
    "atol nan": (lambda: integrate(atol=NAN), ValueError, "`atol` must be non-negative and finite, got nan."),
    "gtol nan": (lambda: integrate(gtol=NAN), ValueError, "`gtol` must be non-negative and finite, got nan."),
    "t_span empty": (lambda: integrate(t_span=(1, 1)), ValueError,
        "`t_span` must be increasing from a finite time, got (1, 1)."),
    "t_span nan": (lambda: integrate(t_span=(0, NAN)), ValueError,
        "`t_span` must be increasing from a finite time, got (0, nan)."),
    "checkpoint a number": (lambda: integrate(checkpoint=3), TypeError,
        "`checkpoint` must be the path of a file, got int 3."),
    "checkpoint in no folder": (lambda: integrate(checkpoint="/nowhere/run.npz"), ValueError,
        "`checkpoint` must be a file that can be written, got '/nowhere/run.npz' (No such file or directory)."
        " Choose another."),
    "checkpoint a folder": (lambda: integrate(checkpoint="/"), ValueError,
        "`checkpoint` must be an existing file, got the folder '/'."),
    "checkpoint with dense output": (lambda: integrate(checkpoint="c.npz", save=lrf.Save(dense=True)), ValueError,
        "`save` must not ask for dense output with a checkpoint, which does not hold it. Use times."),
    "checkpoint_every zero": (lambda: integrate(checkpoint="c.npz", checkpoint_every=0), ValueError,
        "`checkpoint_every` must be at least 1, got 0."),
    "checkpoint_every half a step": (lambda: integrate(checkpoint_every=0.5), TypeError,
        "`checkpoint_every` must be a whole number, got 0.5."),
    "auto with a step": (lambda: integrate(method="auto", step_size=0.1), ValueError,
        '`step_size` is for methods with a fixed step; "auto" chooses its steps by `rtol`. Use method="RK4".'),
    "stepper class": (lambda: integrate(method=steppers.RKC), TypeError,
        "`method` must be an instance of a Stepper, got the class RKC. Pass RKC()."),
    "method the base class": (lambda: integrate(method=OdeSolver), ValueError,
        f"`method` must be one of {SOLVERS}; got the class OdeSolver."),
    "no bound": (lambda: integrate(lrf.RiemannianFlow(Loss(), METRIC), method=steppers.RKC(estimate=False)), ValueError,
        "`bound` must give an upper bound where `estimate` is False, got None."),
    "bound a number": (lambda: steppers.ROCK4(3.0), TypeError, "`bound` must be callable or None, got 3.0."),
    "events a number": (lambda: integrate(events=3), TypeError,
        "`events` must be Events, got int 3. Use Event(name, function)."),
    "events bare functions": (lambda: integrate(events=[abs]), TypeError,
        "`events` must be Events, got builtin_function_or_method. Use Event(name, function)."),
    "event without a number": (lambda: integrate(events=lrf.Event("a", lambda t, w: "x")), TypeError,
        "`function` of event 'a' must return a number, got 'x'."),
    "events of one name": (lambda: integrate(events=[lrf.Event("a", lambda t, w: t)] * 2), ValueError,
        "`events` must have names of their own, got one name twice."),
    "flag a text": (lambda: lrf.Save(exact="yes"), TypeError, "`exact` must be True or False, got 'yes'."),
    "flag a number": (lambda: lrf.Save(controlled=-1), TypeError, "`controlled` must be True or False, got int -1."),
    "integrals a function": (lambda: lrf.Save(integrals=abs), TypeError,
        "`integrals` must map names to functions, got builtin_function_or_method."),
    "integral a number": (lambda: lrf.Save(integrals={"q": 1.0}), TypeError, "`integrals['q']` must be callable, got 1.0."),
    "column without a name": (lambda: lrf.Save(columns={3: abs}), TypeError,
        "`columns` must have texts for names, got int 3."),
    "column called loss": (lambda: lrf.Save(columns={"loss": abs}), ValueError,
        "`columns` must have names of their own, got 'loss', which a trajectory has already."),
    "column called W2": (lambda: lrf.Save(columns={"W2": abs}), ValueError,
        "`columns` must have names of their own, got 'W2', which a trajectory has already."),
    **{f"column called {name!r}": (lambda name=name: lrf.Save(columns={name: abs}), ValueError,
        f"`columns` must have printable names without a slash, for files, got {name!r}.")
       for name in ("a/b", ".", "a\0b", "\ud800", "a\nb")},
    "column called as an integral": (lambda: lrf.Save(columns={"q": abs}, integrals={"q": abs}), ValueError,
        "`columns` must have names of their own, got 'q' among the integrals too."),
    "integral of a text": (lambda: integrate(save=lrf.Save(integrals={"q": lambda at: "x"})), TypeError,
        "`integrals['q']` must return a number, got 'x'."),
    "column of a text": (lambda: integrate(save=lrf.Save(columns={"q": lambda t, w: "x"})), TypeError,
        "`columns['q']` must be an array of numbers, got dtype <U1."),
    "column of ragged rows": (lambda: integrate(save=lrf.Save(columns={"q": lambda t, w: [[1], [1, 2]]})), ValueError,
        "`columns['q']` must be a rectangular array, got ragged rows."),
    "integral of ragged rows": (lambda: integrate(save=lrf.Save(integrals={"q": lambda at: [[1], [1, 2]]})), TypeError,
        "`integrals['q']` must return a number, got list."),
    "a flow under a class": (lambda: lrf.integrate(
        lrf.RiemannianFlow(lrf.losses.LeastSquares(np.eye(2), np.eye(2)), lrf.EmbeddedMetric),
        lrf.LowRankMatrix.from_dense(np.eye(2)), t_span=(0, 1)), TypeError,
        "`metric` must have coefficients(s), got the class EmbeddedMetric. Pass an instance: DepthMetric(3)."),
    "column that grows": (lambda: integrate(save=lrf.Save(columns={"q": lambda t, w: np.ones(1 + (t > 0))})), ValueError,
        "`columns['q']` must return arrays of one shape, got (2,) after (1,)."),
    "steps of a save a number": (lambda: lrf.Save(steps=10), TypeError, "`steps` must be True or False, got int 10."),
    "terminal a text": (lambda: lrf.Event("a", abs, terminal="x"), TypeError,
        "`terminal` must be True or False, got 'x'."),
    "event of a complex number": (lambda: integrate(events=lrf.Event("a", lambda t, w: 1j)), TypeError,
        "`function` of event 'a' must return a number, got 1j."),
    "W at a text": (lambda: integrate(save=lrf.Save(dense=True))("0.5"), TypeError,
        "`t` must be a number or a vector of them, got '0.5'."),
    "W at times in rows": (lambda: integrate(save=lrf.Save(dense=True))([[0.1, 0.5]]), TypeError,
        "`t` must be a number or a vector of them, got list."),
    "a null character": (lambda: integrate().save("a\0b"), ValueError,
        "`path` must be the path of a file, got 'a\\x00b' with a null character."),
    "a trajectory on a device": (lambda: integrate().save("/dev/null"), ValueError,
        "`path` must be a regular file, got '/dev/null', a pipe or a device. Choose another."),
    "an option of implicit methods": (lambda: steppers.as_ode_solver(steppers.RKC())(tanh, 0, [1.0], 1, jac=None), TypeError,
        "`jac` is no option of RKC, an explicit method."),
    "atol of another length": (lambda: steppers.as_ode_solver(steppers.RKC())(tanh, 0, [1.0], 1, atol=[1, 2]), ValueError,
        "`atol` must be one number or 1, got an array of shape (2,)."),
    "netcdf in no folder": (lambda: integrate().to_netcdf("/nowhere/a.nc"), ValueError,
        "`path` must be a file that can be written, got '/nowhere/a.nc' (No such file or directory). Choose another."),
    "max_evaluations infinite": (lambda: integrate(max_evaluations=INF), TypeError,
        "`max_evaluations` must be a whole number, got inf."),
    "max_evaluations zero": (lambda: integrate(max_evaluations=0), ValueError,
        "`max_evaluations` must be at least 1, got 0."),
    "method unknown": (lambda: integrate(method="rk54"), ValueError, f"`method` must be one of {SOLVERS}; got 'rk54'."),
    "method None": (lambda: integrate(method=None), ValueError, f"`method` must be one of {SOLVERS}; got None."),
    "step_size missing": (lambda: integrate(method="RK4"), ValueError,
        "`step_size` must be given for the fixed-step method RK4."),
    "step_size unwanted": (lambda: integrate(method="DOP853", step_size=0.1), ValueError,
        "`step_size` is for methods with a fixed step; DOP853 chooses its steps by `rtol`."),
    "step_size zero": (lambda: integrate(method=steppers.RK4(), step_size=0), ValueError,
        "`step_size` must be positive and finite, got 0."),
    "save.times outside": (lambda: integrate(save=lrf.Save(times=[0.5, 2.0])), ValueError,
        "`save.times` must lie within t_span (0, 1), got 0.5 .. 2."),
    "save.times nan": (lambda: integrate(save=lrf.Save(times=[NAN])), ValueError,
        "`save.times` must be finite, got 1 NaN or infinite of 1 values, the first at index (0,). Remove or impute them."),
    "no interpolants": (lambda: integrate()(0.5), ValueError,
        "Dense output has not been saved; pass save=Save(dense=True) to integrate."),
    "outside the run": (lambda: integrate(save=lrf.Save(dense=True))(1.5), ValueError,
        "`t` must lie within the run [0, 1], got 1.5."),
    "the run did not finish": (lambda: integrate(max_evaluations=1).raise_if_failed(), RuntimeError,
        re.compile(r"Reached `max_evaluations`\. Raise it, loosen `rtol`, or shorten `t_span`\."
                   r" t=\S+ of 1, 1 steps, \d+ gradients\.")),

    # -- verify_equivalence ------------------------------------------------------------------------------------------
    "nothing to start from": (lambda: verify(None), ValueError,
        "`start` must be given where there is no `network`. Use random_point(m, n, rank, rng=0)."),
    "start a network": (lambda: verify(NET), TypeError,
        "`start` must be a LowRankMatrix, got LinearNetwork." + TO_LOW_RANK),
    "start an array": (lambda: verify(START.to_dense()), TypeError,
        "`start` must be a LowRankMatrix, got an array of shape (3, 4)." + TO_LOW_RANK),
    "network a list": (lambda: verify(network=list(NET.factors)), TypeError,
        "`network` must be a LinearNetwork, got list."),
    "network and widths": (lambda: verify(network=NET, widths=3), ValueError,
        "`widths` must not be given with `network`, which has its own."),
    "network and depth": (lambda: verify(network=NET, depth=2), ValueError,
        "`depth` must be the number of factors of `network`, got 2 for 3."),
    "network of another product": (lambda: verify(lrf.LowRankMatrix(START.u, 2 * START.s, START.vt), network=NET), ValueError,
        "`start` must be the product of `network`, got a relative distance of 0.5."
        " Leave `start` out, or lower its rank only where the product has that rank."),
    "network of zeros": (lambda: verify(None, network=lrf.LinearNetwork([np.zeros((2, 4)), np.zeros((3, 2))])), ValueError,
        "`rank` must be at least 1, got the zero matrix of rank 0."),
    "t_end negative": (lambda: verify(t_end=-1), ValueError, "`t_end` must be positive and finite, got -1."),
    "t_end a span": (lambda: verify(t_end=(0, 1)), TypeError, "`t_end` must be positive and finite, got tuple."),
    "claims a text": (lambda: verify(claims="trajectory"), TypeError, "`claims` must be a list of names, got 'trajectory'."),
    "claims of a check": (lambda: verify(claims=["check_loss gradient"]), ValueError,
        f"`claims` must be one of {', '.join(c.name for c in VERIFIED)}; got 'check_loss gradient'."),
    "claims twice": (lambda: verify(claims=["rank", "rank"]), ValueError,
        "`claims` must name each claim once, and one at least, got ['rank', 'rank']."),
    "no claims": (lambda: verify(claims=()), ValueError,
        "`claims` must name each claim once, and one at least, got []."),
    "rtol of verify": (lambda: verify(rtol=1e-14), ValueError,
        "`rtol` must lie between 1e-12 and 1e-5, got 1e-14: roundoff hides rtol / 100."),
    "Lifted in verify": (lambda: verify(chart=lrf.Lifted()), ValueError,
        "`chart` must not be Lifted(): it is a factor flow, and would be compared with itself."),
    "budget too small": (lambda: verify(max_evaluations=10), ValueError,
        "`max_evaluations` must be at least 100, got 10."),

    # -- data --------------------------------------------------------------------------------------------------------
    "unknown data set": (lambda: data.load("mnist"), ValueError,
        "`name` must be one of digits, diabetes, linnerud, breast_cancer, iris, wine, china, flower; got 'mnist'."),
    "samples of a data set": (lambda: raw(np.ones((5, 2)), np.ones((4, 3))), ValueError,
        "`targets` must have as many rows (samples) as `inputs`, got 4 and 5."),
    "targets of a data set transposed": (lambda: raw(np.ones((5, 2)), np.ones((3, 5))), ValueError,
        "`targets` must have as many rows (samples) as `inputs`, got 3 and 5."
        " Did you mean the transpose? One sample is one row."),
    "one sample": (lambda: data.prepare(raw([[1, 2]])), ValueError,
        "`inputs` must hold at least 2 samples, got 1. A sample is a row."),
    "constant data": (lambda: data.prepare(raw([[1], [1]])), ValueError,
        "`inputs` must not be constant, nothing is left after centring. Leave out the step center."),
    "zero data": (lambda: data.prepare(raw([[0], [0]])), ValueError, "`inputs` must not be all zero."),
    "huge data": (lambda: data.prepare(raw([[1e200], [0]])), ValueError,
        "`inputs` must stay below 1e+150 in size, got 1e+200. Change the unit."),
    "tiny data": (lambda: data.prepare(raw([[1e-200], [0]])), ValueError,
        "`inputs` must reach 1e-150 in size, got 1e-200. Change the unit."),
    "steps a number": (lambda: data.prepare(raw([[1], [2]]), steps=3), TypeError,
        "`steps` must be names or a text, got int 3."),
    "unknown step": (lambda: data.prepare(raw([[1], [2]]), steps="whiten"), ValueError,
        "`steps` must be made of center, scale, range, or be none; got 'whiten'."),
    "a huge sparse matrix": (lambda: Observations("x", [0], [0], [1.0], (10**8, 1)), ValueError,
        "`shape` must not exceed 10000000 rows or columns, got (100000000, 1)."
        " Number the rows and columns from zero, without gaps."),
    "prepared map": (lambda: data.prepare(raw([[1, 0], [0, 3], [2, 2]]))[2].to_raw(np.ones((2, 3))), ValueError,
        "`w` has shape (2, 3) but the prepared data ask for (2, 2)."),
    "unknown claim": (lambda: lrf.explain("theorem"), ValueError,
        f"`claim` must be one of {', '.join(c.name for c in (*VERIFIED, *OF_METRICS))}; got 'theorem'."),
    "unknown claim of a check": (lambda: lrf.explain("check_metric theorem"), ValueError,
        f"`claim` must be one of {', '.join('check_metric ' + c.name for c in METRIC_CLAIMS)}; got 'check_metric theorem'."),

    # -- measured losses: misfits ------------------------------------------------------------------------------------
    "labels above the classes": (lambda: ls.Softmax([0, 3], 3), ValueError,
        "`labels` must lie between 0 and 2, one for each of 3 classes, got 0 .. 3."),
    "labels negative": (lambda: ls.Softmax([-1, 0]), ValueError,
        "`labels` must lie between 0 and the number of classes - 1, got -1 .. 0."),
    "labels fractions": (lambda: ls.Softmax([0.5, 1]), TypeError, "`labels` must be whole numbers, got dtype float64."),
    "labels nan": (lambda: ls.Softmax([NAN, 1]), ValueError,
        "`labels` must be finite, got 1 NaN or infinite of 2 values, the first at index (0,). Remove or impute them."),
    "labels infinite": (lambda: ls.Softmax([0, INF]), ValueError,
        "`labels` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "labels words": (lambda: ls.Logistic(["a", "b", "c"]), ValueError,
        "`labels` must be of two classes, got 3. Use Softmax."),
    "labels complex": (lambda: ls.Softmax([0, 1j]), TypeError, "`labels` must be real, got dtype complex128."),
    "labels ragged": (lambda: ls.Softmax([[0], [1, 2]]), ValueError,
        "`labels` must be a rectangular array, got ragged rows."),
    "labels one-hot": (lambda: ls.Softmax(2 * np.eye(3)), ValueError,
        "`labels` must be a vector with one label a sample, or one-hot with a single 1 a sample, got shape (3, 3)."),
    "labels empty": (lambda: ls.Softmax([]), ValueError,
        "`labels` must be a vector with one label a sample, got shape (0,)."),
    "labels of one class": (lambda: ls.Softmax([0, 0]), ValueError,
        "`labels` must name two classes at least, got 0 alone. Pass classes=2 or more."),
    "classes one": (lambda: ls.Softmax([0, 0], 1), ValueError, "`classes` must be at least 2, got 1."),
    "classes a fraction": (lambda: ls.Softmax([0, 0], 2.5), TypeError, "`classes` must be a whole number, got 2.5."),
    "labels zero, one and two": (lambda: ls.Logistic([0, 1, 2]), ValueError,
        "`labels` must be -1 or 1, or 0 or 1, got 0, 1, 2."),
    "labels one and two": (lambda: ls.SquaredHinge([1, 2]), ValueError, "`labels` must be -1 or 1, or 0 or 1, got 1, 2."),
    "labels missing": (lambda: ls.Logistic([1, NAN]), ValueError,
        "`labels` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "counts negative": (lambda: ls.Poisson([1, -2]), ValueError,
        "`counts` must be non-negative, got a smallest of -2."),
    "counts nan": (lambda: ls.Poisson([1, NAN]), ValueError,
        "`counts` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "counts empty": (lambda: ls.Poisson([]), ValueError, "`counts` must not be empty: nothing was observed."),
    "misfit targets nan": (lambda: ls.Squared([1, NAN]), ValueError,
        "`targets` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "misfit targets masked": (lambda: ls.Squared(np.ma.masked_invalid([1, NAN])), TypeError,
        "`targets` must be a plain array, got a masked one with 1 values masked. Leave these samples out, or fit observed"
        " entries alone (Completion)."),
    "misfit targets, no mask": (lambda: ls.Squared(np.ma.array([1.0, 2.0])), TypeError,
        "`targets` must be a plain array, got a masked one with 0 values masked. Pass its .data."),
    "misfit targets complex": (lambda: ls.Squared([1j]), TypeError, "`targets` must be real, got dtype complex128."),
    "misfit targets ragged": (lambda: ls.LogCosh([[1], [1, 2]]), ValueError,
        "`targets` must be a rectangular array, got ragged rows."),
    "misfit targets None": (lambda: ls.Squared(None), TypeError, "`targets` must be an array of numbers, got dtype object."),
    "misfit targets empty": (lambda: ls.Huber([]), ValueError, "`targets` must not be empty: nothing was observed."),
    "delta zero": (lambda: ls.Huber([1], delta=0), ValueError, "`delta` must be positive and finite, got 0."),
    "a negative weight": (lambda: ls.Squared([1, 2], [1, -1]), ValueError,
        "`weights` must be non-negative and not all zero, got a smallest of -1."),
    "weights all zero": (lambda: ls.Squared([1, 2], [0, 0]), ValueError,
        "`weights` must be non-negative and not all zero, got a smallest of 0."),
    "weights too few": (lambda: ls.Squared([1, 2], [1]), ValueError,
        "`weights` has shape (1,) but the targets have shape (2,)."),
    "weights nan": (lambda: ls.Squared([1, 2], [1, NAN]), ValueError,
        "`weights` must be finite, got 1 NaN or infinite of 2 values, the first at index (1,). Remove or impute them."),
    "hinge": (lambda: ls.Hinge, AttributeError,
        "`Hinge` must be differentiable to have a flow, and is not at the margin. Use SquaredHinge."),
    "absolute error": (lambda: ls.AbsoluteError, AttributeError,
        "`AbsoluteError` must be differentiable to have a flow, and is not at zero. Use Huber or LogCosh."),

    # -- measured losses: measurements -------------------------------------------------------------------------------
    "entries twice": (lambda: entries([2, 0, 2], [3, 0, 3]), ValueError,
        "`rows`, `cols` must name each position once, got (2, 3) twice. Average repeated observations first."),
    "entries outside": (lambda: entries([3, 0], [0, 0]), ValueError, "`rows` must lie between 0 and 2, got 0 .. 3."),
    "entries negative": (lambda: entries([0, 0], [-1, 0]), ValueError, "`cols` must lie between 0 and 3, got -1 .. 0."),
    "entries fractions": (lambda: entries([0.5, 0], [1, 0]), TypeError,
        "`rows` must be whole numbers, got dtype float64."),
    "entries nan": (lambda: entries([0], [NAN]), TypeError, "`cols` must be whole numbers, got dtype float64."),
    "entries of other lengths": (lambda: entries([0, 1], [0]), ValueError,
        "`rows` and `cols` must be vectors of one length above 0, got (2,) and (1,)."),
    "entries none": (lambda: entries([], []), ValueError,
        "`rows` and `cols` must be vectors of one length above 0, got (0,) and (0,)."),
    "entries of a mask": (lambda: entries([[0, 1]], [[0, 1]]), ValueError,
        "`rows` and `cols` must be vectors of one length above 0, got (1, 2) and (1, 2)."),
    "entries of one size": (lambda: entries(shape=(3,)), ValueError,
        "`shape` must be two whole numbers (m, n), got 1."),
    "measured inputs zero": (lambda: ls.Inputs(0 * X, 3), ValueError,
        "`inputs` must not be all zero: the loss would not depend on W."),
    "measured inputs empty": (lambda: ls.Inputs(X[:, :0], 3), ValueError, "`inputs` must not be empty, got shape (4, 0)."),
    "measured inputs nan": (lambda: ls.Inputs([[NAN]], 3), ValueError,
        "`inputs` must be finite, got 1 NaN or infinite of 1 values, the first at index (0, 0). Remove or impute them."),
    "measured inputs huge": (lambda: ls.Inputs([[1e200]], 3), ValueError,
        "`inputs` must stay below 1e+35 in size, got 1e+200. Change the unit."),
    "no rows": (lambda: ls.Inputs(X, 0), ValueError, "`rows` must be at least 1, got 0."),
    "rows a float": (lambda: ls.Inputs(X, 3.0), TypeError, "`rows` must be a whole number, got 3.0."),
    "pairs with rows alone": (lambda: ls.Bilinear(np.ones((2, 3)), np.ones((2, 4)), rows=[0]), ValueError,
        "`rows` and `cols` must be given together, got one of them."),
    "pairs of other numbers": (lambda: ls.Bilinear(np.ones((2, 3)), np.ones((5, 4))), ValueError,
        "`right` must have as many rows as `left`, got 5 and 2. Or pass rows and cols."),
    "pairs twice": (lambda: ls.Bilinear(np.ones((2, 3)), np.ones((5, 4)), [0, 0], [1, 1]), ValueError,
        "`rows`, `cols` must name each position once, got (0, 1) twice. Average repeated observations first."),
    "pairs outside": (lambda: ls.Bilinear(np.ones((2, 3)), np.ones((5, 4)), [0, 2], [1, 1]), ValueError,
        "`rows` must lie between 0 and 1, got 0 .. 2."),
    "pairs of zeros": (lambda: ls.Bilinear(np.ones((2, 3)), np.zeros((2, 4))), ValueError,
        "`right` must not be all zero: the loss would not depend on W."),
    "one sensing matrix": (lambda: ls.Sensing(np.ones(SHAPE)), ValueError,
        "`matrices` must have shape (p, m, n), got shape (3, 4)."),
    "sensing zeros": (lambda: ls.Sensing(np.zeros((2, 3, 4))), ValueError,
        "`matrices` must not be all zero: the loss would not depend on W."),
    "sensing complex": (lambda: ls.Sensing(np.ones((1, 2, 2)) * 1j), TypeError,
        "`matrices` must be real, got dtype complex128."),
    "sensing ragged": (lambda: ls.Sensing([[[1]], [[1, 2]]]), ValueError,
        "`matrices` must be a rectangular array, got ragged rows."),
    "a sum with a misfit": (lambda: entries() + ls.Squared([1, 2]), TypeError,
        re.compile(r"`measurement` must have shape, outputs, samples, forward\(w\) and adjoint\(r\).*Squared.*\.")),
    "a sum of other shapes": (lambda: entries() + entries(shape=(4, 4)), ValueError,
        "`measurements` must have one shape of W and one of the outputs, got (3, 4) -> (2,) and (4, 4) -> (2,)."),
    "a sum of other outputs": (lambda: entries() + entries([0], [0]), ValueError,
        "`measurements` must have one shape of W and one of the outputs, got (3, 4) -> (2,) and (3, 4) -> (1,)."),
    "a sum of no measurements": (lambda: ls.MeasurementSum(), ValueError, "`measurements` must not be empty."),

    # -- measured losses: the two together ---------------------------------------------------------------------------
    "targets of another number": (lambda: measured(ls.Squared([1, 2, 3])), ValueError,
        "`misfit` has targets for outputs of shape (3,) but the measurement has outputs of shape (2,)."),
    "targets a column": (lambda: measured(ls.Squared([[1], [2]])), ValueError,
        "`misfit` has targets for outputs of shape (2, 1) but the measurement has outputs of shape (2,)."),
    "softmax of other classes": (lambda: ls.Measured(ls.Inputs(np.ones((4, 2)), 3), ls.Softmax([0, 1])), ValueError,
        "`misfit` has targets for outputs of shape (2, 2) but the measurement has outputs of shape (3, 2)."),
    "a misfit class": (lambda: measured(ls.Squared), TypeError,
        re.compile(r"`misfit` must be a function or have value\(z\) and gradient\(z\).*the class Squared\..*\.")),
    "a measurement class": (lambda: ls.Measured(ls.Entries, ls.Squared([1, 2])), TypeError,
        re.compile(r"`measurement` must have shape, outputs, .*the class Entries\. Use Inputs, Entries, Bilinear or Sensing\.")),
    "targets for a misfit": (lambda: measured([1.0, 2.0]), TypeError,
        re.compile(r"`misfit` must be a function or have value\(z\) and gradient.*list, which lacks value and gradient\..*\.")),
    "measured reduction": (lambda: measured(ls.Squared([1, 2]), reduction="max"), ValueError,
        "`reduction` must be one of sum, mean; got 'max'."),
    "a misfit with a list too short": (lambda: measured(UserMisfit(gradient=[0.0])).gradient(START), ValueError,
        "`misfit` must have derivatives of the shape of the outputs (2,), got (1,)."),
    "a misfit without a value": (lambda: measured(UserMisfit(value=None)).value(START), TypeError,
        "`misfit.value` must return one real number, got None."),
    "a misfit with many values": (lambda: measured(UserMisfit(value=np.ones(2))).value_and_gradient(START), TypeError,
        "`misfit.value` must return one real number, got an array of shape (2,)."),
    "a function of the outputs with many values": (lambda: measured(lambda z: z).gradient(START), TypeError,
        "`function` must return one real number, got an array of shape (2,)."),

    # -- functions, sums, spectral losses ----------------------------------------------------------------------------
    "from_function of a number": (lambda: ls.from_function(3, SHAPE), TypeError,
        "`function` must be callable, got int 3."),
    "Traced of an array": (lambda: ls.Traced(np.ones(2)), TypeError,
        "`function` must be callable, got an array of shape (2,)."),
    "from_function of one size": (lambda: ls.from_function(abs, 3), TypeError,
        "`shape` must be two whole numbers (m, n), got int 3."),
    "a function returning an array": (lambda: function(lambda w: w).gradient(START), TypeError,
        "`function` must return one real number, got an array of shape (3, 4)."),
    "a function returning None": (lambda: function(lambda w: None).value(START), TypeError,
        "`function` must return one real number, got None."),
    "a function returning a list": (lambda: function(lambda w: [1.0, [2.0]]).value_and_gradient(START), TypeError,
        "`function` must return one real number, got list."),
    "a function returning True": (lambda: function(lambda w: True).value(START), TypeError,
        "`function` must return one real number, got bool True."),
    "a function returning a complex number": (lambda: function(lambda w: 1j * w.sum()).hessian(START, START), TypeError,
        re.compile(r"`function` must return one real number, got \S+j\)?\.")),
    "a constant function": (lambda: function(lambda w: 1.0).gradient(START), ValueError,
        "`function` must depend on its argument where autograd traces it, got a constant."
        " Write it with autograd.numpy."),
    "a function of plain numbers": (lambda: function(lambda w: float(w.sum())).gradient(START), TypeError,
        "`function` must be written with autograd.numpy to be differentiated, got a call that autograd cannot trace"
        " (float() argument must be a string or a real number, not 'ArrayBox')."),
    "a sum of nothing": (lambda: ls.Sum(), ValueError, "`losses` must not be empty."),
    "a mean of nothing": (lambda: ls.Mean(), ValueError, "`losses` must not be empty."),
    "a sum of a list": (lambda: ls.Sum([LOSS, LOSS]), TypeError,
        "`loss` must have shape, value(w) and gradient(w); list lacks shape."),
    "a sum with a class": (lambda: ls.Sum(LOSS, LeastSquares), TypeError,
        "`loss` must be an object, got the class LeastSquares. Pass an instance: LeastSquares(...)."),
    "losses of other shapes": (lambda: ls.Sum(LOSS, SquareFit()), ValueError,
        "`losses` must have one shape, got (3, 4) and (4, 4)."),
    "a loss of negative weight": (lambda: ls.Sum(LOSS, LOSS, weights=[1.0, -1.0]), ValueError,
        "`weights` must be positive and finite, got -1."),
    "a loss times zero": (lambda: ls.Scaled(LOSS, 0), ValueError, "`weights` must be positive and finite, got 0."),
    "a loss times a text": (lambda: ls.Scaled(LOSS, "2"), TypeError, "`weights` must be positive and finite, got '2'."),
    "weights of losses one number": (lambda: ls.Sum(LOSS, weights=2.0), TypeError,
        "`weights` must be numbers, one a loss, got 2.0."),
    "weights of losses too many": (lambda: ls.Sum(LOSS, weights=[1, 2]), ValueError,
        "`weights` must be as many as the losses, got 2 for 1."),
    "covariance not symmetric": (lambda: ls.BuresWasserstein([[1, 0.5], [0, 1]], 3), ValueError,
        "`covariance` must be symmetric positive semidefinite, got an asymmetry of 0.47 and a smallest eigenvalue of 0.75."),
    "covariance indefinite": (lambda: ls.BuresWasserstein(np.diag([1.0, -1.0]), 3), ValueError,
        "`covariance` must be symmetric positive semidefinite, got an asymmetry of 0 and a smallest eigenvalue of -1."),
    "covariance of another shape": (lambda: ls.BuresWasserstein(np.ones(SHAPE), 3), ValueError,
        "`covariance` must be square, got shape (3, 4)."),
    "no columns": (lambda: ls.BuresWasserstein(np.eye(2), 0), ValueError, "`columns` must be at least 1, got 0."),
    "Schatten of half a factor": (lambda: ls.Schatten(SHAPE, depth=0.5), ValueError,
        "`depth` must be at least 1, got 0.5."),
    "Schatten of no depth": (lambda: ls.Schatten(SHAPE, depth=INF), ValueError,
        "`depth` must be positive and finite, got inf."),
    "Schatten of negative strength": (lambda: ls.Schatten(SHAPE, depth=2, strength=-1), ValueError,
        "`strength` must be positive and finite, got -1."),
    "Schatten of zero": (lambda: ls.Schatten(SHAPE, depth=2).gradient(np.zeros(SHAPE)), ValueError,
        "`rank` must be at least 1, got the zero matrix of rank 0."),
}  # fmt: skip

#: about a state that a call needs, not about an argument with a name
NAMELESS = {"lift to unbalanced factors", "no interpolants"}


def said(call, kind=ValueError):
    """Return the message of a wrong call, raised as exactly this kind of exception."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_call_gets_its_message(name):
    call, kind, message = CASES[name]
    got = said(call, kind)
    assert message.fullmatch(got) if isinstance(message, re.Pattern) else got == message


# ---------------------------------------------------------------------------------------------------------------------
# shapes: each argument that must have the shape (3, 4) of the loss, with the hint exactly where it is transposed


def array(shape):
    return np.ones(shape)


def low_rank(shape):
    return lrf.random_point(*shape, 1, rng=generator())


def network(shape):
    return lrf.LinearNetwork.balanced(low_rank(shape), 3)


def returning(shape):
    return Loss(gradient=lambda w: np.ones(shape))


DEFINED, HAS, AT_W = "the loss is defined on", "the network has shape", "`w` has shape"
# id -> what is made of the shape, the call, name of the argument, who asks
def total(w):
    return w.sum()


SHAPED = {
    "project": (array, lambda g: lrf.project(START, g), "egrad", AT_W),
    "riemannian_gradient": (array, lambda g: lrf.riemannian_gradient(START, g, METRIC), "egrad", AT_W),
    "sparse gradient": (scipy.sparse.csr_array, lambda g: lrf.project(START, g), "egrad", AT_W),
    "horizontal_lift": (array, lambda z: lrf.horizontal_lift(NET, z), "z", HAS),
    "horizontal_lift of a Product": (low_rank, lambda z: lrf.horizontal_lift(NET, z), "z", HAS),
    "end_to_end_operator": (array, lambda z: lrf.end_to_end_operator(NET)(z), "z", HAS),
    "least squares value": (array, LOSS.value, "w", DEFINED),
    "least squares gradient": (low_rank, LOSS.gradient, "w", DEFINED),
    "least squares hessian": (low_rank, lambda z: LOSS.hessian(START, z), "z", DEFINED),
    "completion value": (network, observed().value, "w", DEFINED),
    "completion gradient": (array, observed().gradient, "w", DEFINED),
    "completion value_and_gradient": (low_rank, observed().value_and_gradient, "w", DEFINED),
    "completion hessian": (low_rank, lambda z: observed().hessian(START, z), "z", DEFINED),
    "measured value": (network, measured(ls.Huber([1, 2])).value, "w", DEFINED),
    "measured gradient": (array, measured(ls.Huber([1, 2])).gradient, "w", DEFINED),
    "measured hessian": (low_rank, lambda z: measured(ls.Huber([1, 2])).hessian(START, z), "z", DEFINED),
    "function value": (array, function(total).value, "w", DEFINED),
    "function gradient": (network, function(total).gradient, "w", DEFINED),
    "function hessian": (low_rank, lambda z: function(total).hessian(START, z), "z", DEFINED),
    "sum of losses": (low_rank, ls.Sum(LOSS, LOSS).value_and_gradient, "w", DEFINED),
    "Schatten": (low_rank, ls.Schatten(SHAPE, depth=2).value, "w", DEFINED),
    "Bures-Wasserstein": (array, ls.BuresWasserstein(np.eye(3), 4).gradient, "w", DEFINED),
    "a sum": (low_rank, lambda w: PRODUCT + w, "other", "the product has shape"),
    "a difference": (network, lambda w: PRODUCT - w, "other", "the product has shape"),
    "factor_gradients": (network, lambda net: lrf.factor_gradients(LOSS, net), "net", DEFINED),
    "gradient_descent": (network, lambda net: lrf.gradient_descent(LOSS, net, step_size=1, steps=1), "net", DEFINED),
    "sharpness": (network, lambda net: lrf.sharpness(LOSS, net), "net", DEFINED),
    "check_loss": (low_rank, lambda w: lrf.check_loss(LOSS, w), "start", DEFINED),
    "frame start": (low_rank, lambda w: integrate(start=w), "start", DEFINED),
    "lifted start": (low_rank, lambda w: integrate(start=w, chart=lrf.Lifted()), "start", DEFINED),
    "factors start": (network, factor_flow, "start", DEFINED),
    "verify start": (low_rank, verify, "start", DEFINED),
    "verify start beside a network": (low_rank, lambda w: verify(w, network=NET), "start", DEFINED),
    "verify network": (network, lambda net: verify(None, network=net), "network", DEFINED),
    "loss in factor_gradients": (returning, lambda x: lrf.factor_gradients(x, NET), "loss.gradient(w)", DEFINED),
    "loss in check_loss": (returning, lambda x: lrf.check_loss(x, START), "loss.gradient(w)", DEFINED),
    "loss in a flow": (returning, lambda x: integrate(lrf.RiemannianFlow(x, METRIC)), "loss.gradient(w)", DEFINED),
    "loss in a factor flow": (returning, lambda x: integrate(lrf.FactorFlow(x), NET), "loss.gradient(w)", DEFINED),
}


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (2, 4), (3, 1)], ids=str)
@pytest.mark.parametrize("name", SHAPED)
def test_a_wrong_shape_is_said_with_the_transpose_hint(name, shape):
    make, call, argument, asks = SHAPED[name]
    hint = " Did you mean the transpose?" if shape == (4, 3) else ""
    got = said(lambda: call(make(shape)))
    assert got == f"`{argument}` has shape {shape} but {asks} (3, 4).{hint}"
    assert faults(got) == []


@pytest.mark.parametrize("name", [name for name in SHAPED if "verify" not in name])  # its runs are in their own tests
def test_control_the_right_shape_is_taken(name):
    make, call, _, _ = SHAPED[name]
    call(make(SHAPE))


# ---------------------------------------------------------------------------------------------------------------------
# NaN and infinity: how many, and where the first one is

POISONED = {
    "inputs": lambda bad: LeastSquares(bad(X), Y),
    "targets": lambda bad: LeastSquares(X, bad(Y)),
    "u": lambda bad: lrf.LowRankMatrix(bad(START.u), START.s, START.vt),
    "vt": lambda bad: lrf.LowRankMatrix(START.u, START.s, bad(START.vt)),
    "a": lambda bad: lrf.LowRankMatrix.from_dense(bad(START.to_dense())),
    "factors[2]": lambda bad: lrf.LinearNetwork([*NET.factors[:2], bad(NET.factors[2])]),
    "egrads[1]": lambda bad: lrf.riemannian_gradient_from_factors(
        NET, [NET.factors[0], bad(NET.factors[1]), NET.factors[2]]
    ),
    "directions[0]": lambda bad: lrf.gradients.product_rule(NET, [bad(NET.factors[0]), *NET.factors[1:]]),
    "s": lambda bad: lrf.LowRankMatrix(START.u, bad(START.s), START.vt),
    "values": lambda bad: observed([0, 1, 2], [0, 1, 2], bad(np.ones(3))),
}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", POISONED)
def test_values_that_are_not_finite_are_counted_and_located(name, value):
    shapes = []

    def bad(a):
        a = np.array(a)
        a.flat[1] = value
        shapes.append(a.shape)
        return a

    got = said(lambda: POISONED[name](bad))
    (shape,) = shapes
    first = tuple(int(i) for i in np.unravel_index(1, shape))
    assert got == (
        f"`{name}` must be finite, got 1 NaN or infinite of {np.prod(shape)} values, the first at index {first}."
        " Remove or impute them."
    )
    assert faults(got) == []


# ---------------------------------------------------------------------------------------------------------------------
# the house rule itself


def faults(message):
    """Return in which ways a message breaks the house rule."""
    rules = {
        "more than one line": len(message.splitlines()) != 1,
        "no full stop": not message.endswith((".", "?")),  # a hint may be a question
        "no name in backticks": not re.search(r"`[^`]+`", message),
        "too long": len(message) >= 300,
        "an array": re.search(r"array\(|\[\[|\[\s*-?\d[\d.e+-]*\s+-?\d", message) is not None,
        "an address": re.search(r"0x[0-9a-fA-F]{4,}", message) is not None,
    }
    return [fault for fault, found in rules.items() if found]


@pytest.mark.parametrize("name", CASES)
def test_each_message_follows_the_house_rule(name):
    call, kind, _ = CASES[name]
    assert faults(said(call, kind)) == (["no name in backticks"] if name in NAMELESS else [])


BAD = {
    "two lines": ("`rank` must be at least 1,\ngot 0.", "more than one line"),
    "no stop": ("`rank` must be at least 1, got 0", "no full stop"),
    "no name": ("rank must be at least 1, got 0.", "no name in backticks"),
    "long": (f"`rank` must be one of {', '.join(map(str, range(100)))}.", "too long"),
    "vector": (f"`s` must be positive, got {np.array([1.0, -2.0])}.", "an array"),
    "repr": (f"`s` must be positive, got {np.array([1.0, -2.0])!r}.", "an array"),
    "rows": (f"`a` must be positive, got {np.eye(2).tolist()}.", "an array"),
    "object": (f"`loss` must have a shape, got {object()}.", "an address"),
}


@pytest.mark.parametrize("name", BAD)
def test_control_the_house_rule_notices_a_bad_message(name):
    message, fault = BAD[name]
    assert faults(message) == [fault]


# ---------------------------------------------------------------------------------------------------------------------
# files of trajectories, and Ctrl-C


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


# id -> content, or what is put in the place of a good array; message, or None where numpy's words follow
DAMAGED = {
    "nothing there": (None, "`path` must be an existing file, got {path!r}."),
    "empty": (b"", "`path` must not be empty, got {path!r} with 0 bytes."),
    "a text": (b"hello", None),
    "half an archive": (b"PK\x03\x04garbage", None),
    "another archive": (npz(a=np.ones(3)), None),
    "a head alone": (npz(head="{}"), None),
    "a point too few": ({"points_u": np.ones((1, 3, 2))}, None),
    "an unknown status": ({"head": '{"status": "DONE"}'}, None),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_trajectory_is_refused_in_one_line(name, tmp_path):
    content, message = DAMAGED[name]
    path = tmp_path / "p.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        integrate().save(path)
        with np.load(path) as whole:
            changed = dict(whole) | content
        np.savez(path, **changed)
    got = said(lambda: lrf.Trajectory.load(path))
    rule = f"`path` must be a trajectory written by Trajectory.save, got {str(path)!r} ("
    assert got.startswith(rule) if message is None else got == message.format(path=str(path))
    got = got.replace(str(tmp_path), "")  # how long that is, is not ours
    assert faults(got) == []


@pytest.mark.parametrize("stage", ["finding the end of the run", "Riemannian flow", "gradient descent 1 of 6"])
def test_ctrl_c_within_a_run_carries_the_report(stage):
    def progress(now, fraction):
        if now.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(lrf.Interrupted) as caught:
        lrf.verify_equivalence(LOSS, START, t_end=0.5, rtol=1e-5, progress=progress)
    assert str(caught.value) == "interrupted; the claims so far are in .report"
    assert caught.value.report.interrupted
