"""The functions f of the product of a one-dimensional network: values with `value`, `derivative` and `infimum`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from .. import validation

__all__ = ["Logistic", "Mirrored", "Outer", "Pair", "Square", "as_outer"]


class Outer(Protocol):
    """A convex function of the product p, elementwise on arrays."""

    @property
    def infimum(self) -> float:
        """What it comes down to; -inf where that is not known."""
        ...

    def value(self, p: Any) -> Any: ...

    def derivative(self, p: Any) -> Any: ...


@dataclass(frozen=True)
class Square:
    r"""The square loss :math:`f(p) = c\,(p - y)^2`.

    Attributes
    ----------
    target : float
        y.
    factor : float
        c: one half by default; 1 is :math:`(p + 1)^2`, the function of the paper's first figure.

    Examples
    --------
    >>> Square(-1.0).value(1.0), Square(-1.0, factor=1.0).derivative(1.0)
    (2.0, 4.0)
    """

    target: float = -1.0
    factor: float = 0.5
    infimum: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        validation.require_finite_number("target", self.target)
        validation.require_number("factor", self.factor)

    def value(self, p: Any) -> Any:
        e = p - self.target
        return self.factor * e * e

    def derivative(self, p: Any) -> Any:
        e = p - self.target
        return e if self.factor == 0.5 else 2 * self.factor * e


@dataclass(frozen=True)
class Logistic:
    r"""The logistic loss :math:`f(p) = \ln(1 + e^p)`, which asks for a negative product.

    Examples
    --------
    >>> float(Logistic().derivative(0.0))
    0.5
    """

    infimum: ClassVar[float] = 0.0

    def value(self, p: Any) -> Any:
        return np.logaddexp(0.0, p)

    def derivative(self, p: Any) -> Any:
        return 0.5 * (1 + np.tanh(0.5 * p))


@dataclass(frozen=True)
class Mirrored:
    """f(-p), of another f."""

    of: Outer

    @property
    def infimum(self) -> float:
        return self.of.infimum

    def value(self, p: Any) -> Any:
        return self.of.value(-p)

    def derivative(self, p: Any) -> Any:
        return -self.of.derivative(-p)


@dataclass(frozen=True)
class Pair:
    """A user's two functions, each elementwise on arrays."""

    of_value: Callable[[Any], Any]
    of_derivative: Callable[[Any], Any]
    infimum: ClassVar[float] = -np.inf

    def value(self, p: Any) -> Any:
        return self._asked("value", self.of_value, p)

    def derivative(self, p: Any) -> Any:
        return self._asked("derivative", self.of_derivative, p)

    @staticmethod
    def _asked(name: str, function: Callable[[Any], Any], p: Any) -> Any:
        p = np.asarray(p, dtype=float)
        found = np.asarray(function(p), dtype=float)
        if found.shape != p.shape:
            raise ValueError(
                f"`f` must have functions of arrays, got a {name} of shape {found.shape} for shape {p.shape}."
            )
        return found


def as_outer(f: object) -> Outer:
    """Return f, or of a pair (value, derivative) of functions of arrays what has them as methods."""
    if isinstance(f, tuple):
        if len(f) != 2 or not all(callable(each) for each in f):
            raise TypeError("`f` must be a pair of functions (value, derivative), got another tuple.")
        return Pair(*f)
    if isinstance(f, type) or not all(callable(getattr(f, name, None)) for name in ("value", "derivative")):
        raise TypeError(
            f"`f` must have value(p) and derivative(p), or be that pair, got {validation.describe(f)}. Use Square(-1)."
        )
    return f  # type: ignore[return-value]
