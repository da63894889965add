"""What a metric has to be, and the message where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validation
from ..validation import Array


def require_metric(metric: Any) -> None:
    """Refuse what is not a metric: an object with ``coefficients(s)``."""
    if isinstance(metric, type) or not callable(getattr(metric, "coefficients", None)):
        raise TypeError(
            f"`metric` must have coefficients(s), got {validation.describe(metric)}. Pass an instance: DepthMetric(3)."
        )


def require_coefficients(metric: Any, s: Array) -> Any:
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


def require_positive(metric: Any, s: Array, shape: tuple[int, int], *, degenerate: bool = False) -> Any:
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


def require_differences(metric: Any, purpose: str = "a Riemannian Hessian", fix: str = "ConjugateGradient") -> None:
    """Refuse a metric without the divided differences that Hessian and geodesics need."""
    if not callable(getattr(metric, "differences", None)):
        raise TypeError(
            f"`metric` must have differences(s) for {purpose}, which {type(metric).__name__} has not."
            f" Use DepthMetric, EmbeddedMetric, ScaledGDMetric, TwoFactorMetric, ..., or {fix}."
        )
