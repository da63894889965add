"""Every loss of the package with random data, by name: ``LOSSES[name].make(draw)``.

Inputs have the scale `a`, targets the scale `b`, so that W has its natural size where W times a is of the size of b. Losses
with a scale of their own (a logistic loss bends at 1) take what they can of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np

import lowrankflow as lrf
from lowrankflow import losses


class Draw(NamedTuple):
    """What a loss is made of."""

    m: int
    n: int
    a: float  #: scale of the inputs
    b: float  #: scale of the targets
    rng: np.random.Generator
    teacher: lrf.LowRankMatrix  #: of the natural size, for data without noise

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape)

    def inputs(self, samples: int) -> np.ndarray:
        return self.a * self.normal(self.n, samples)

    def targets(self, samples: int) -> np.ndarray:
        return self.b * self.normal(self.m, samples)

    def entries(self, share: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Positions in no order, one at least."""
        count = max(1, round(share * self.m * self.n))
        return np.divmod(self.rng.permutation(self.m * self.n)[:count], self.n)


# ---------------------------------------------------------------------------------------------------------------------
# the square loss


def well_conditioned(d: Draw) -> Any:
    """Inputs of condition 4 at most; whitened targets with singular values 1, 0.6, 0.36, ..., and a little noise."""
    p = 4 * d.n
    basis, rows = lrf.matrices.random_frame(d.n, d.n, rng=d.rng), lrf.matrices.random_frame(p, d.n, rng=d.rng)
    roots = d.rng.uniform(1.0, 2.0, d.n)
    inputs = (basis * roots) @ rows.T
    k = min(d.m, d.n)
    left, right = lrf.matrices.random_frame(d.m, k, rng=d.rng), lrf.matrices.random_frame(d.n, k, rng=d.rng)
    best = (left * 0.6 ** np.arange(k)) @ (right / roots[:, None]).T @ basis.T  # Q C^{-1/2}
    noise = d.normal(d.m, p)
    targets = best @ inputs + 0.1 * (noise - noise @ rows @ rows.T)
    return losses.LeastSquares(d.a * np.sqrt(p) * inputs, d.b * np.sqrt(p) * targets, reduction="mean")


def least_squares(d: Draw, samples: int | None = None, **options: Any) -> Any:
    p = 3 * d.n if samples is None else samples
    return losses.LeastSquares(d.inputs(p), d.targets(p), **options)


def in_rows(d: Draw) -> Any:
    p = 2 * d.n + 1
    return losses.LeastSquares(d.inputs(p).T, d.targets(p).T, reduction="mean", samples="rows")


def deficient(d: Draw) -> Any:
    """Inputs that span one dimension less than there are."""
    q = max(1, d.n - 1)
    return losses.LeastSquares(d.normal(d.n, q) @ d.normal(q, 3 * d.n) * d.a, d.targets(3 * d.n))


def ill_conditioned(d: Draw) -> Any:
    """Inputs of condition 1000."""
    scales = np.geomspace(1.0, 1e-3, d.n)[:, None]
    return losses.LeastSquares(scales * d.inputs(3 * d.n), d.targets(3 * d.n), reduction="mean")


def diagonal(d: Draw) -> Any:
    """Inputs I, targets diag(.., 3, 2, 1): the critical points are diagonal."""
    k = min(d.m, d.n)
    targets = np.zeros((d.m, d.n))
    targets[range(k), range(k)] = np.arange(k, 0, -1)
    return losses.LeastSquares(d.a * np.eye(d.n), d.b * targets)


def tied(d: Draw) -> Any:
    """Inputs I, targets with equal singular values: the best matrix of lower rank is not unique."""
    return losses.LeastSquares(d.a * np.eye(d.n), d.b * np.eye(d.m, d.n))


def autoencoder(d: Draw) -> Any:
    inputs = d.inputs(3 * d.n)
    return losses.LeastSquares(inputs, inputs, reduction="mean")


def exact_fit(d: Draw) -> Any:
    """Targets without noise."""
    inputs = d.inputs(3 * d.n)
    return losses.LeastSquares(inputs, d.teacher @ inputs)


# ---------------------------------------------------------------------------------------------------------------------
# measurements


def completion(d: Draw, share: float = 0.6, **options: Any) -> Any:
    rows, cols = d.entries(share)
    return losses.Completion(rows, cols, d.b * d.normal(rows.size), (d.m, d.n), **options)


def exact_completion(d: Draw) -> Any:
    rows, cols = d.entries()
    return losses.Completion(rows, cols, d.teacher.entries(rows, cols), (d.m, d.n))


def of_inputs(d: Draw, function: Callable[[np.ndarray], Any], samples: int | None = None) -> Any:
    """A function of the outputs W X, averaged; targets are `b` times normal."""
    p = 3 * d.n if samples is None else samples
    return losses.Measured(losses.Inputs(d.inputs(p), d.m), function(d.targets(p)), reduction="mean")


def of_entries(d: Draw, function: Callable[[np.ndarray], Any]) -> Any:
    rows, cols = d.entries()
    return losses.Measured(losses.Entries(rows, cols, shape=(d.m, d.n)), function(d.b * d.normal(rows.size)))


def signs(targets: np.ndarray) -> np.ndarray:
    return np.where(targets < 0, -1.0, 1.0)


def counts(targets: np.ndarray) -> np.ndarray:
    return np.floor(2 * np.abs(targets / (np.abs(targets).max() or 1.0)) + 0.5)


def softmax(d: Draw) -> Any:
    p = 3 * d.n
    return losses.Measured(losses.Inputs(d.inputs(p), d.m), losses.Softmax(d.rng.integers(0, d.m, p), d.m), reduction="mean")


def separable(d: Draw) -> Any:
    """Labels that the teacher gives: some W classifies every sample."""
    inputs = d.a * d.normal(d.n, 3 * d.n)
    return losses.Measured(losses.Inputs(inputs, d.m), losses.Logistic(signs(d.teacher @ inputs)), reduction="mean")


def bilinear(d: Draw) -> Any:
    pairs = np.divmod(d.rng.permutation(20)[:12], 5)
    measurement = losses.Bilinear(d.a * d.normal(4, d.m), d.normal(5, d.n), *pairs)
    return losses.Measured(measurement, losses.Squared(d.b * d.normal(12), d.rng.uniform(0.5, 2.0, 12)))


def sensing(d: Draw) -> Any:
    return losses.Measured(losses.Sensing(d.a * d.normal(7, d.m, d.n)), losses.LogCosh(d.b * d.normal(7)))


def two_measurements(d: Draw) -> Any:
    rows, cols = d.entries()
    entries = losses.Entries(rows, cols, shape=(d.m, d.n))
    forms = losses.Bilinear(d.normal(rows.size, d.m), d.normal(rows.size, d.n))
    return losses.Measured(entries + forms, losses.Huber(d.b * d.normal(rows.size), delta=d.b))


# ---------------------------------------------------------------------------------------------------------------------
# sums, spectral losses, users' own


def decayed(d: Draw, depth: float = 3) -> Any:
    """A fit and weight decay, of comparable size at the natural size of W."""
    fit, size = completion(d), d.b
    decay = losses.Schatten((d.m, d.n), depth=depth, strength=0.1 * size ** (2 - 2 / depth))
    return losses.Sum(fit, decay)


def schatten(d: Draw, depth: float = 3) -> Any:
    return losses.Schatten((d.m, d.n), depth=depth, strength=d.b)


def bures_wasserstein(d: Draw) -> Any:
    root = d.b * d.normal(d.m, 2 * d.m)
    return losses.BuresWasserstein(root @ root.T / (2 * d.m), d.n)


def function(d: Draw) -> Any:
    y, size = d.targets(d.n), d.b
    return losses.from_function(lambda w: anp.sum(anp.sqrt(1 + ((w - y) / size) ** 2)), (d.m, d.n), convex=True)


class UsersLogCosh:
    """What a user writes: shape, value, gradient, and nothing else."""

    def __init__(self, targets: np.ndarray, offset: float = 0.0, until: float = np.inf) -> None:
        self.targets, self.shape, self.offset, self.until = targets, targets.shape, offset, until

    def value(self, w: Any) -> float:
        """ln cosh, plus a constant; not a number where W is larger than `until`."""
        if w.norm() > self.until:
            return float("nan")
        e = w.to_dense() - self.targets
        return float((np.logaddexp(e, -e) - np.log(2.0)).sum()) + self.offset

    def gradient(self, w: Any) -> np.ndarray:
        return np.tanh(w.to_dense() - self.targets)


def users_with_an_end(d: Draw) -> Any:
    """Whose value is no number before the flow is at its end."""
    targets = d.targets(d.n)
    return UsersLogCosh(targets, until=max(0.9 * float(np.linalg.norm(targets)), 1.1 * d.teacher.norm()))


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A loss, and what problems have to know of it."""

    make: Callable[[Draw], Any]
    inputs: bool = True  #: it has inputs, of scale a
    targets: bool = True  #: it has targets, of scale b
    square: bool = False  #: it needs m = n
    rows: int = 1  #: m at least

    def size(self, a: float, b: float) -> float:
        """The natural size of W."""
        return (b if self.targets else 1.0) / (a if self.inputs else 1.0)


def both(name: str, make: Callable[[np.ndarray], Any], **options: Any) -> dict[str, Kind]:
    """The same function of the outputs of inputs, and of entries."""
    return {
        f"{name} of inputs": Kind(lambda d: of_inputs(d, make), **options),
        f"{name} of entries": Kind(lambda d: of_entries(d, make), inputs=False, **options),
    }


LOSSES: dict[str, Kind] = {
    "well conditioned": Kind(well_conditioned),
    "least squares": Kind(least_squares),
    "least squares, samples in rows": Kind(in_rows),
    "few samples": Kind(lambda d: least_squares(d, max(1, d.n - 1))),
    "one sample": Kind(lambda d: least_squares(d, 1)),
    "deficient inputs": Kind(deficient),
    "ill conditioned": Kind(ill_conditioned),
    "diagonal": Kind(diagonal),
    "tied": Kind(tied),
    "autoencoder": Kind(autoencoder, inputs=False, targets=False, square=True),  # its W is of size 1 at every scale
    "exact fit": Kind(exact_fit),
    "completion": Kind(completion, inputs=False),
    "completion, mean": Kind(lambda d: completion(d, 0.8, reduction="mean"), inputs=False),
    "exact completion": Kind(exact_completion, inputs=False),
    **both("weighted square", lambda y: losses.Squared(y, np.linspace(0.5, 2.0, y.size).reshape(y.shape))),
    **both("Huber", lambda y: losses.Huber(y, delta=float(np.abs(y).mean()))),
    **both("LogCosh", losses.LogCosh),
    **both("squared hinge", lambda y: losses.SquaredHinge(signs(y)), targets=False),
    **both("logistic", lambda y: losses.Logistic(signs(y)), targets=False),
    **both("Poisson", lambda y: losses.Poisson(counts(y)), targets=False),
    **both("function of outputs", lambda y: lambda z: anp.sum(anp.sqrt(1.0 + (z - y) ** 2))),
    "softmax": Kind(softmax, targets=False, rows=2),
    "separable": Kind(separable, targets=False),
    "bilinear": Kind(bilinear),
    "sensing": Kind(sensing),
    "two measurements": Kind(two_measurements, inputs=False),
    "weight decay": Kind(decayed, inputs=False),
    "weight decay, depth 2": Kind(lambda d: decayed(d, 2), inputs=False),
    "Schatten": Kind(schatten, inputs=False, targets=False),
    "Schatten, depth 2": Kind(lambda d: schatten(d, 2), inputs=False, targets=False),
    "Bures-Wasserstein": Kind(bures_wasserstein, inputs=False),
    "scaled": Kind(lambda d: losses.Scaled(least_squares(d), 1e3)),
    "mean of losses": Kind(lambda d: losses.Mean(completion(d), completion(d, 0.9)), inputs=False),
    "logarithm": Kind(lambda d: losses.Logarithm(least_squares(d))),
    "function": Kind(function, inputs=False),
    "user's": Kind(lambda d: UsersLogCosh(d.targets(d.n)), inputs=False),
    "user's, with a constant": Kind(lambda d: UsersLogCosh(d.targets(d.n), offset=1e3), inputs=False),
    "user's, with an end": Kind(users_with_an_end, inputs=False),
}


class Changed:
    """A loss with some of its answers changed; whatever else it has, it keeps."""

    def __init__(self, loss: Any, **changes: Any) -> None:
        self._loss, self._changes, self.shape = loss, changes, loss.shape
        for name, change in changes.items():
            if name not in ("value", "gradient"):
                setattr(self, name, change)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of copies and pickles, not of losses
            raise AttributeError(name)
        return getattr(self._loss, name)

    def value(self, w: Any) -> Any:
        value = self._loss.value(w)
        return self._changes["value"](w, value) if "value" in self._changes else value

    def gradient(self, w: Any) -> Any:
        g = self._loss.gradient(w)
        return self._changes["gradient"](w, g) if "gradient" in self._changes else g

    def value_and_gradient(self, w: Any) -> tuple[Any, Any]:
        return self.value(w), self.gradient(w)
