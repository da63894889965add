"""What a metric can do, asked once: every optional attribute, resolved in one place.

What each of them means is said with the protocol, `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import validation
from ..validation import Array, optional, optional_flag, optional_method
from .coefficients import Coefficients, Metric, RootCoefficients

__all__ = ["MetricFacts", "facts"]


@dataclass(frozen=True, eq=False)
class MetricFacts:
    """What a metric can do, made by `facts`. The attributes are those of `Metric`: None, or False, where it has none.

    It has ``coefficients(s)`` itself, so that whatever takes a metric takes its facts.

    Attributes
    ----------
    metric : Metric
        Whose they are.
    coefficients : callable
        That of the metric.
    transposable : bool or None
        None: not known.
    symmetric : bool
        False where it says nothing.
    preserves_rank : bool or None
        None: not said; `keeps_rank` looks then.
    root : float
        1 where it has none.
    root_coefficients, frame_rates, differences, mix_differences, flat_coordinates, from_flat_coordinates : callable or None
        Methods of the metric.
    name : str or None
        What tables call it.
    """

    metric: Metric
    coefficients: Callable[[Array], Coefficients]
    transposable: bool | None
    symmetric: bool
    preserves_rank: bool | None
    root: float
    root_coefficients: Callable[[Array], RootCoefficients] | None
    frame_rates: Callable[[Array], tuple[Array, Array]] | None
    differences: Callable[[Array], Array] | None
    mix_differences: Callable[[Array], Array] | None
    flat_coordinates: Callable[[Array], Array] | None
    from_flat_coordinates: Callable[[Array], Array] | None
    name: str | None


def facts(metric: Metric | MetricFacts) -> MetricFacts:
    """Return what a metric can do; of facts, themselves.

    A method that is missing, None or cannot be called is absent; a flag is True, False or not known. A property that
    raises an AttributeError of its own name says that it is missing; any other error is a mistake and goes on.

    Parameters
    ----------
    metric : Metric
        Any object with ``coefficients(s)``.

    Returns
    -------
    MetricFacts

    Raises
    ------
    ValueError, TypeError
        If a flag is neither True, False nor None, or the root is not a positive finite number.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> said = facts(lrf.DepthMetric(3))
    >>> said.root, said.symmetric, said.differences is None
    (3.0, False, False)
    """
    if isinstance(metric, MetricFacts):
        return metric
    root, name = optional(metric, "root"), optional(metric, "name")
    return MetricFacts(
        metric=metric,
        coefficients=metric.coefficients,
        transposable=optional_flag(metric, "transposable", "metric"),
        symmetric=is_symmetric(metric),
        preserves_rank=optional_flag(metric, "preserves_rank", "metric"),
        root=1.0 if root is None else validation.require_number("metric.root", root),
        root_coefficients=optional_method(metric, "root_coefficients"),
        frame_rates=optional_method(metric, "frame_rates"),
        differences=optional_method(metric, "differences"),
        mix_differences=optional_method(metric, "mix_differences"),
        flat_coordinates=optional_method(metric, "flat_coordinates"),
        from_flat_coordinates=optional_method(metric, "from_flat_coordinates"),
        name=name if isinstance(name, str) and name else None,
    )


def is_symmetric(metric: Metric | MetricFacts) -> bool:
    """Return whether a metric is one of the symmetric positive semidefinite matrices: this alone, for every gradient."""
    return bool(optional_flag(metric, "symmetric", "metric"))
