"""What a metric has to be, and the message where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from ..validation import Array
from .coefficients import Coefficients, Metric
from .facts import MetricFacts, facts


def require_metric(metric: Any) -> None:
    """Refuse what is not a metric: an object with ``coefficients(s)``."""
    if isinstance(metric, type) or validation.optional_method(metric, "coefficients") is None:
        raise TypeError(
            f"`metric` must have coefficients(s), got {validation.describe(metric)}. Pass an instance: DepthMetric(3)."
        )


def require_coefficients(metric: Metric | MetricFacts, s: Array) -> Coefficients:
    """Return the coefficients of a metric at `s`: finite, of the shapes of `Coefficients`, with a symmetric mix."""
    c, r = metric.coefficients(s), s.size
    if not all(hasattr(c, part) for part in ("core", "up", "vp", "apply", "solve")):
        raise TypeError(
            f"`metric` must return Coefficients(core, up, vp) from coefficients(s), got {validation.describe(c)}."
        )
    for part, want in (("core", (r, r)), ("up", (r,)), ("vp", (r,)), ("mix", (r, r))):
        value: Any = getattr(c, part, None)
        if value is None and part == "mix":
            continue
        got = np.shape(value)
        if got != want:
            raise ValueError(f"`metric` must have coefficients(s).{part} of shape {want}, got {got}.")
        validation.require_finite(f"coefficients(s).{part}", np.asarray(value))
    mix = getattr(c, "mix", None)
    if mix is not None and not np.allclose(mix, np.asarray(mix).T, rtol=1e-10, atol=0):
        gap = float(np.abs(mix - np.asarray(mix).T).max())
        raise ValueError(f"`metric` must have a symmetric mix to be self-adjoint, got an asymmetry of {gap:.2g}.")
    return c


def require_positive(
    metric: Metric | MetricFacts, s: Array, shape: tuple[int, int], *, degenerate: bool = False
) -> Coefficients:
    """Return the coefficients at `s`, positive on the tangent space of the rank-r matrices of a shape.

    With `degenerate`, the directions that turn the row and column spaces may have the coefficient 0.
    """
    c, (m, n), r = require_coefficients(metric, s), shape, s.size
    parts = {
        "r x r block": c.pair_eigenvalues(),
        "directions that turn the column space (up)": c.up[: r * (m > r)],
        "directions that turn the row space (vp)": c.vp[: r * (n > r)],
    }
    for part, values in parts.items():
        zero = degenerate and part != "r x r block"
        if values.size and not (values.min() > 0 or (zero and values.min() == 0)):
            fix = " DepthMetric(inf) is degenerate below full rank; use a finite depth." if values.min() == 0 else ""
            raise ValueError(
                f"`metric` must be positive on the tangent space, got {float(values.min()):.3g} on the {part}.{fix}"
            )
    return c


def require_differences(
    metric: Metric, purpose: str = "a Riemannian Hessian", fix: str = "ConjugateGradient"
) -> Callable[[Array], Array]:
    """Return the divided differences that Hessian and geodesics need; refuse a metric without them."""
    differences = facts(metric).differences
    if differences is None:
        raise TypeError(
            f"`metric` must have differences(s) for {purpose}, which {type(metric).__name__} has not."
            f" Use DepthMetric, EmbeddedMetric, ScaledGDMetric, TwoFactorMetric, ..., or {fix}."
        )
    return differences


def require_mix_differences(metric: Metric) -> Callable[[Array], Array]:
    """Return the divided differences of a mix, which a metric with one must have beside ``differences``."""
    differences = facts(metric).mix_differences
    if differences is None:
        raise TypeError(
            "`metric` must have mix_differences(s) beside differences(s), because its coefficients have a mix; "
            f"{type(metric).__name__} has not. Add them, or leave out differences(s)."
        )
    return differences
