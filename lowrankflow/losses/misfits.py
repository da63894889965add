"""Scalar functions of measured outputs: the second half of a `Measured` loss.

A misfit has ``value(z)``, ``gradient(z)`` and ``hessian(z, dz)`` for outputs z of the shape of its targets. What does
theory ask of it? ``convex``; ``curvature``, a bound on its second derivatives (None where there is none); ``lower_bound``,
one on its values; ``twice``, whether the second derivative is continuous.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .. import validation
from ..validation import Array
from .functions import Differentiated

__all__ = [
    "Huber",
    "LogCosh",
    "Logistic",
    "Misfit",
    "Poisson",
    "Softmax",
    "Squared",
    "SquaredHinge",
    "Traced",
]


class Misfit(Protocol):
    """What `Measured` asks of a misfit.

    The rest is optional; what is missing or None is absent: ``hessian(z, dz)``, ``margins(z)``; ``convex``, ``curvature``,
    ``lower_bound``, ``twice``, ``exponential_tail``, ``traceable`` (by autograd); ``targets`` or ``output_shape``, checked
    against the outputs.
    """

    def value(self, z: Array) -> float:
        """Return the scalar."""
        ...

    def gradient(self, z: Array) -> Array:
        """Return its derivatives, of the shape of z."""
        ...


class _Pointwise:
    """A sum over the outputs of a function of one output and one target."""

    targets: Array

    traceable = True  #: `value` can be traced by autograd
    convex = True  #: in the outputs, hence in W
    twice = True  #: twice continuously differentiable
    curvature: float | None = 1.0  #: largest second derivative
    lower_bound: float | None = 0.0  #: no value is below it

    def __init__(self, targets: ArrayLike, name: str = "targets") -> None:
        self.targets = as_reals(name, targets)
        if self.targets.size == 0:
            raise ValueError(f"`{name}` must not be empty: nothing was observed.")

    @validation.quietly
    def value(self, z: Array) -> Any:
        """Return the sum over the outputs."""
        return self._terms(z, _numpy_of(z)).sum()

    @validation.quietly
    def gradient(self, z: Array) -> Array:
        """Return the derivative at each output."""
        return self._slopes(z)

    @validation.quietly
    def hessian(self, z: Array, dz: Array) -> Array:
        """Return the second derivatives times `dz`."""
        return self._curvatures(z) * dz

    def _terms(self, z: Any, xp: Any) -> Any:
        raise NotImplementedError

    def _slopes(self, z: Array) -> Array:
        raise NotImplementedError

    def _curvatures(self, z: Array) -> Array:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' x '.join(map(str, self.targets.shape))} targets)"


def as_reals(name: str, values: ArrayLike) -> Array:
    """Return finite real numbers of any shape, to keep."""
    array = np.asarray(validation.as_real(name, values), dtype=np.float64)
    validation.require_finite(name, array)
    return validation.own(array)


def _numpy_of(z: Any) -> Any:
    """Return autograd's numpy for what autograd traces, numpy otherwise."""
    if isinstance(z, np.ndarray):
        return np
    import autograd.numpy as anp

    return anp


class Squared(_Pointwise):
    r"""The square :math:`\tfrac12 \sum_i c_i (z_i - y_i)^2`, with weights c.

    Parameters
    ----------
    targets : array_like
        y, of the shape of the outputs.
    weights : array_like, optional
        c, non-negative, of the same shape; None: 1.

    Raises
    ------
    ValueError, TypeError
        If a target or weight is not a finite number, a weight is negative or all are zero.
    """

    curvature: float | None

    def __init__(self, targets: ArrayLike, weights: ArrayLike | None = None) -> None:
        super().__init__(targets)
        self.weights: Array | None = None
        self.curvature = 1.0
        if weights is not None:
            self.weights = as_reals("weights", weights)
            validation.require_shape("weights", self.weights.shape, self.targets.shape, "the targets have shape")
            if self.weights.min() < 0 or not self.weights.any():
                raise ValueError(
                    f"`weights` must be non-negative and not all zero, got a smallest of {self.weights.min():g}."
                )
            self.curvature = float(self.weights.max())

    def _terms(self, z: Any, xp: Any) -> Any:
        squares = 0.5 * (z - self.targets) ** 2
        return squares if self.weights is None else self.weights * squares

    def _slopes(self, z: Array) -> Array:
        e = z - self.targets
        return e if self.weights is None else self.weights * e

    def _curvatures(self, z: Array) -> Array:
        return np.ones_like(z) if self.weights is None else self.weights


class Huber(_Pointwise):
    r"""Huber's loss: :math:`\tfrac12 e^2` for :math:`|e| \le \delta`, :math:`\delta |e| - \tfrac12 \delta^2` beyond.

    Parameters
    ----------
    targets : array_like
        y; e = z - y.
    delta : float
        Where the square goes over into the absolute value.

    Raises
    ------
    ValueError, TypeError
        If a target is not a finite number or `delta` is not positive.
    """

    delta: float

    twice = False

    def __init__(self, targets: ArrayLike, delta: float = 1.0) -> None:
        super().__init__(targets)
        self.delta = validation.require_number("delta", delta)

    def _terms(self, z: Any, xp: Any) -> Any:
        size = xp.abs(z - self.targets)
        inner = xp.minimum(size, self.delta)
        return inner * (size - 0.5 * inner)

    def _slopes(self, z: Array) -> Array:
        return np.clip(z - self.targets, -self.delta, self.delta)

    def _curvatures(self, z: Array) -> Array:
        return (np.abs(z - self.targets) <= self.delta).astype(np.float64)


class LogCosh(_Pointwise):
    r"""The smooth absolute error :math:`\sum_i \ln\cosh(z_i - y_i)`.

    Parameters
    ----------
    targets : array_like
        y, of the shape of the outputs.

    Raises
    ------
    ValueError, TypeError
        If a target is not a finite number.
    """

    def _terms(self, z: Any, xp: Any) -> Any:
        e = z - self.targets
        # ln(1 + sinh^2 e) / 2 keeps its digits near zero, |e| + ln(1 + exp(-2 |e|)) - ln 2 does not overflow
        near = 0.5 * xp.log1p(xp.sinh(xp.clip(e, -1.0, 1.0)) ** 2)
        return xp.where(xp.abs(e) < 1.0, near, xp.logaddexp(e, -e) - np.log(2.0))

    def _slopes(self, z: Array) -> Array:
        return np.tanh(z - self.targets)

    def _curvatures(self, z: Array) -> Array:
        e = 2 * (z - self.targets)
        return 4 * special.expit(e) * special.expit(-e)  # 1 - tanh^2 without its cancellation


class _Binary(_Pointwise):
    """A function of the margin y z, y = -1 or 1."""

    names: tuple[str, ...] | None
    targets: Array

    def __init__(self, labels: ArrayLike) -> None:
        numbers, self.names = as_codes("labels", labels)
        super().__init__(numbers, "labels")
        found = np.unique(self.targets)
        if self.names is not None and len(self.names) != 2:
            raise ValueError(f"`labels` must be of two classes, got {len(self.names)}. Use Softmax.")
        if np.isin(found, (0.0, 1.0)).all() and 0.0 in found:
            self.targets, found = validation.own(2 * self.targets - 1), 2 * found - 1
        if not np.isin(found, (-1.0, 1.0)).all():
            shown = ", ".join(f"{v:g}" for v in found[:4])
            raise ValueError(f"`labels` must be -1 or 1, or 0 or 1, got {shown}.")


class Logistic(_Binary):
    r"""The logistic loss :math:`\sum_i \ln(1 + e^{-y_i z_i})` of labels y = -1 or 1.

    Parameters
    ----------
    labels : array_like
        y, each -1 or 1; 0 or 1, False or True, or one of two texts, of which the first in the alphabet counts as -1.

    Raises
    ------
    ValueError, TypeError
        If a label is neither.

    Notes
    -----
    On separable data it has no minimiser: the flow diverges in norm.
    """

    curvature: float | None = 0.25
    exponential_tail = True  #: falls to zero for ever as the margins grow, and never reaches it

    def _terms(self, z: Any, xp: Any) -> Any:
        return xp.logaddexp(0.0, -self.targets * z)

    def _slopes(self, z: Array) -> Array:
        return -self.targets * special.expit(-self.targets * z)

    def _curvatures(self, z: Array) -> Array:
        return special.expit(z) * special.expit(-z)

    def margins(self, z: Array) -> Array:
        """Return y z: positive where a sample is classified."""
        return self.targets * z


class SquaredHinge(_Binary):
    r"""The squared hinge :math:`\tfrac12 \sum_i \max(0, 1 - y_i z_i)^2` of labels y = -1 or 1.

    Parameters
    ----------
    labels : array_like
        y, each -1 or 1; 0 or 1, False or True, or one of two texts, of which the first in the alphabet counts as -1.

    Raises
    ------
    ValueError, TypeError
        If a label is neither.
    """

    twice = False

    def _terms(self, z: Any, xp: Any) -> Any:
        return 0.5 * xp.maximum(0.0, 1.0 - self.targets * z) ** 2

    def _slopes(self, z: Array) -> Array:
        return -self.targets * np.maximum(0.0, 1.0 - self.targets * z)

    def _curvatures(self, z: Array) -> Array:
        return (self.targets * z < 1.0).astype(np.float64)


class Poisson(_Pointwise):
    r"""Minus the log-likelihood of Poisson counts under the log link, :math:`\sum_i e^{z_i} - y_i z_i`.

    Parameters
    ----------
    counts : array_like
        y, non-negative.

    Raises
    ------
    ValueError, TypeError
        If a count is negative or not a finite number.
    """

    curvature: float | None = None  #: e^z is not bounded
    lower_bound: float | None = None  #: negative for counts above e, and of no use without a curvature

    def __init__(self, counts: ArrayLike) -> None:
        super().__init__(counts, "counts")
        if self.targets.min() < 0:
            raise ValueError(f"`counts` must be non-negative, got a smallest of {self.targets.min():g}.")

    def _terms(self, z: Any, xp: Any) -> Any:
        return _exp(z, xp) - self.targets * z

    def _slopes(self, z: Array) -> Array:
        return _exp(z) - self.targets

    def _curvatures(self, z: Array) -> Array:
        return _exp(z)


def _exp(z: Any, xp: Any = np) -> Any:
    """Return the exponential; infinite, without a warning, where it is not a number of the machine."""
    with np.errstate(over="ignore"):
        return xp.exp(z)


class Softmax:
    r"""Softmax cross-entropy, :math:`\sum_i \ln \sum_c e^{z_{ci}} - z_{y_i i}`, classes in rows, samples in columns.

    Parameters
    ----------
    labels : array_like of int, (p,), or of str, or one-hot, (classes, p)
        y, each between 0 and the number of classes - 1. Texts are numbered in the order of the alphabet, which ``names``
        keeps. One-hot arrays may have their classes in columns, too.
    classes : int, optional
        Number of rows of the outputs; None: the largest label + 1.

    Raises
    ------
    ValueError, TypeError
        If the labels are not whole numbers in that range, or name a single class.
    """

    names: tuple[str, ...] | None
    classes: int
    targets: NDArray[np.intp]

    traceable = True
    exponential_tail = True  #: falls to zero for ever as the margins grow, and never reaches it
    convex: bool = True
    twice: bool = True
    curvature: float = 0.5  #: the largest eigenvalue of diag(p) - p p^T is at most 1/2
    lower_bound: float = 0.0

    def __init__(self, labels: ArrayLike, classes: int | None = None) -> None:
        numbers, self.names = as_codes("labels", labels)
        known = None if self.names is None else len(self.names)
        numbers = as_reals("labels", numbers)
        if numbers.ndim == 2 and classes is None and numbers.size:
            numbers, known = _of_one_hot("labels", numbers)
        self.labels: NDArray[np.intp] = as_labels("labels", numbers, classes)
        self.classes = int(classes or known or int(self.labels.max()) + 1)
        if self.classes < 2:
            raise ValueError("`labels` must name two classes at least, got 0 alone. Pass classes=2 or more.")
        self.targets = self.labels
        self._at = (self.labels, np.arange(self.labels.size))

    @property
    def output_shape(self) -> tuple[int, int]:
        """(classes, samples), the shape of the outputs."""
        return (self.classes, self.labels.size)

    @validation.quietly
    def value(self, z: Any) -> Any:
        """Return the sum over the samples."""
        if _numpy_of(z) is np:
            # ln(1 + sum over the other classes of e^(z_c - z_y)), which keeps its digits where it is tiny
            others = self._others(z)
            top = np.maximum(others.max(axis=0), 0.0)
            rest = np.exp(others - top).sum(axis=0)
            return float((top + np.log1p(np.expm1(-top) + rest)).sum())
        xp = _numpy_of(z)
        top = xp.max(z, axis=0)
        return (top + xp.log(xp.sum(xp.exp(z - top), axis=0)) - z[self._at]).sum()

    def _others(self, z: Array) -> Array:
        """Return z_c - z_y for the classes other than the sample's own, minus infinity for that."""
        others = z - z[self._at]
        others[self._at] = -np.inf
        return others

    def margins(self, z: Array) -> Array:
        """Return z_y minus the largest of the other outputs: positive where a sample is classified."""
        return -self._others(z).max(axis=0)

    @validation.quietly
    def probabilities(self, z: Array) -> Array:
        """Return the softmax of the columns."""
        e = np.exp(z - z.max(axis=0))
        e /= e.sum(axis=0)
        return e

    @validation.quietly
    def gradient(self, z: Array) -> Array:
        """Return the probabilities minus the one-hot labels."""
        p = self.probabilities(z)
        p[self._at] = 0.0
        p[self._at] = -p.sum(axis=0)  # p_y - 1, which would cancel where the sample is classified
        return p

    @validation.quietly
    def hessian(self, z: Array, dz: Array) -> Array:
        """Return (diag(p) - p p^T) dz, column by column."""
        p = self.probabilities(z)
        return p * (dz - (p * dz).sum(axis=0))

    def __repr__(self) -> str:
        return f"Softmax({self.classes} classes, {self.labels.size} labels)"


class Traced:
    """A scalar function of the outputs, differentiated by autograd.

    Parameters
    ----------
    function : callable
        Takes the outputs as an autograd array and returns a scalar: write it with ``autograd.numpy``.

    Raises
    ------
    TypeError
        If it is not callable; on use, if it does not return one real number.
    """

    traceable = True
    convex: bool | None = None  #: not known
    curvature: float | None = None
    lower_bound: float | None = None
    twice: bool | None = None

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = Differentiated(function)

    @validation.quietly
    def value(self, z: Any) -> Any:
        """Return the function."""
        return self._function.value(z)

    def gradient(self, z: Array) -> Array:
        """Return its derivatives."""
        return np.asarray(self._function.gradient(z))

    @validation.quietly
    def hessian(self, z: Array, dz: Array) -> Array:
        """Return its second derivatives times `dz`."""
        return np.asarray(self._function.hessian(z, dz))

    def __repr__(self) -> str:
        return f"Traced({self._function.name})"


_SEPARABLE = (Squared, Huber, LogCosh, Logistic, SquaredHinge, Poisson)


def reordered(misfit: Misfit, order: NDArray[Any]) -> Misfit | None:
    """Return a misfit of the outputs ``z[order]`` with the same value; None where it may not be a sum over outputs."""
    if (
        not isinstance(misfit, _SEPARABLE) or type(misfit) not in _SEPARABLE
    ):  # a subclass may hold more than targets and weights
        return None
    other = copy(misfit)
    other.targets = misfit.targets[order]
    if isinstance(misfit, Squared) and isinstance(other, Squared) and misfit.weights is not None:
        other.weights = misfit.weights[order]
    return other


def require_misfit(misfit: Any) -> Misfit:
    """Refuse what is not a misfit: value(z) and gradient(z)."""
    missing = [name for name in ("value", "gradient") if validation.optional_method(misfit, name) is None]
    if missing or isinstance(misfit, type):
        lacks = f", which lacks {' and '.join(missing)}" if missing and not isinstance(misfit, type) else ""
        raise TypeError(
            f"`misfit` must be a function or have value(z) and gradient(z), got {validation.describe(misfit)}{lacks}."
            " Use Squared(targets), Huber(targets), Logistic(labels), ..."
        )
    return misfit


def as_codes(name: str, labels: Any) -> tuple[Any, tuple[str, ...] | None]:
    """Return texts as the numbers of their classes, in the order of the alphabet, with their names; numbers as they are."""
    if hasattr(labels, "detach") or isinstance(labels, np.ma.MaskedArray):
        return labels, None  # a tensor; one that is refused as numbers
    try:
        array = np.asarray(labels)
    except ValueError:  # ragged, as well
        return labels, None
    if array.dtype.kind not in "OUT" or not array.size or not all(isinstance(item, str) for item in array.flat):
        return labels, None
    names, codes = np.unique(array.astype(str), return_inverse=True)
    return codes.reshape(array.shape), tuple(map(str, names))


def _of_one_hot(name: str, rows: Array) -> tuple[Array, int]:
    """Return labels and the number of classes of an array with a single 1 a sample, classes in rows or in columns."""
    if np.isin(rows, (0.0, 1.0)).all():
        for array in (rows, rows.T):
            if (array.sum(axis=0) == 1).all():
                return array.argmax(axis=0).astype(np.float64), array.shape[0]
    raise ValueError(
        f"`{name}` must be a vector with one label a sample, or one-hot with a single 1 a sample, got shape {rows.shape}."
    )


def as_labels(name: str, labels: ArrayLike, classes: int | None) -> NDArray[np.intp]:
    """Return class labels, whole numbers from 0 to classes - 1."""
    values = validation.as_numbers(name, labels)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"`{name}` must be a vector with one label a sample, got shape {values.shape}.")
    if values.dtype.kind not in "iu" and not np.array_equal(values, np.trunc(values)):
        raise TypeError(f"`{name}` must be whole numbers, got dtype {values.dtype}.")
    most = None if classes is None else validation.require_integer("classes", classes, low=2)
    low, high = int(values.min()), int(values.max())
    if low < 0 or (most is not None and high >= most):
        upper = "" if most is None else f" and {most - 1}, one for each of {most} classes"
        raise ValueError(
            f"`{name}` must lie between 0{upper or ' and the number of classes - 1'}, got {low} .. {high}."
        )
    return validation.own(values.astype(np.intp))
