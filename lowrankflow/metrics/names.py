"""Metrics by name: ``"embedded"``, ``3``, ``"inf"``, ``"lambda:0.5"``."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

from .coefficients import Metric
from .depth import DepthMetric, EmbeddedMetric
from .imbalanced import KappaBalancedMetric, LambdaBalancedMetric
from .quotients import (
    BuresWassersteinMetric,
    MNMetric,
    PolarMetric,
    R3MCMetric,
    ScaledGDMetric,
    SubspaceProjectionMetric,
    TwoFactorMetric,
)

__all__ = ["as_metric", "named_metrics"]

_PLAIN: dict[str, Callable[[], Metric]] = {
    "embedded": EmbeddedMetric,
    "scaledgd": ScaledGDMetric,
    "twofactor": TwoFactorMetric,
    "subspace": SubspaceProjectionMetric,
    "polar": PolarMetric,
    "mn": MNMetric,
    "r3mc": R3MCMetric,
    "bures-wasserstein": BuresWassersteinMetric,
}


def named_metrics(text: str) -> list[Metric]:
    """Return the metrics of a list such as "embedded,2,3".

    Raises
    ------
    ValueError
        If a name is unknown, a number is none that its metric allows, or there is no name at all.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"`metrics` must be names separated by commas, got {text!r}.")
    return [_named(name) for name in names]


def as_metric(value: Any) -> Any:
    """Return the metric of a name or of a depth; what is neither as it is."""
    named = isinstance(value, (str, Real)) and not isinstance(value, bool)
    return _named(str(value).strip().lower()) if named else value


def _named(name: str) -> Metric:
    kind, *rest = name.split(":")
    if kind in _PLAIN and not rest:
        return _PLAIN[kind]()
    try:
        numbers = [float(number) for number in (rest if kind in ("lambda", "kappa") else name.split(":"))]
    except ValueError:
        numbers = []
    if kind == "lambda" and len(numbers) == 1:
        return LambdaBalancedMetric(numbers[0])
    if kind == "kappa" and numbers:
        return KappaBalancedMetric(numbers)
    if kind not in ("lambda", "kappa") and len(numbers) == 1:
        return DepthMetric(numbers[0])
    known = ", ".join(_PLAIN)
    raise ValueError(f"`metrics` must be one of {known}, a depth, lambda:NUMBER or kappa:NUMBER:..., got {name!r}.")
