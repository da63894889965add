r"""Any differentiable loss: where a local minimum has a zero gradient end to end, as a certificate.

Let f be a differentiable function of W and L(W_1, ..., W_N) = f(W_N ... W_1). If no hidden layer is narrower than both
input and output, every local minimum of L has :math:`\nabla f(W) = 0` (Laurent and von Brecht); for convex f it is then
global. `kicks` are the other half: how one leaves where it has not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .. import validation
from ..gradients import pulled_back, squared_norm
from ..losses import Loss, facts
from ..losses.requirements import require_gradient, require_loss
from ..matrices import LinearNetwork, Product
from ..matrices.requirements import require_network
from ..operators import MatrixLike

__all__ = ["GradientCertificate", "WidthCondition", "certify_gradient", "width_condition"]

_BLOCK = 256  # columns of a gradient that are formed at a time
_FAR = 1e3  # between a zero gradient and one that is called non-zero: nothing is decided there


# ---------------------------------------------------------------------------------------------------------------------
# widths


@dataclass(frozen=True)
class WidthCondition:
    r"""Whether :math:`\min(d_1, \ldots, d_{N-1}) \ge \min(d_0, d_N)`, with the numbers.

    Attributes
    ----------
    widths : tuple of int
        (d_0, d_1, ..., d_N), from the input to the output.
    """

    widths: tuple[int, ...]

    @property
    def hidden(self) -> int:
        """The narrowest hidden width; for a single factor, which has none, that of the ends."""
        return min(self.widths[1:-1], default=self.ends)

    @property
    def ends(self) -> int:
        """The narrower of input and output."""
        return min(self.widths[0], self.widths[-1])

    @property
    def margin(self) -> int:
        """How many units the narrowest hidden layer has more than it needs; negative where it is a bottleneck."""
        return self.hidden - self.ends

    @property
    def met(self) -> bool:
        """Whether the condition holds; then W ranges over all m x n matrices too."""
        return self.margin >= 0

    def __str__(self) -> str:
        sign, word = (">=", "met") if self.met else ("<", "not met")
        return f"width condition {word}: narrowest hidden layer {self.hidden} {sign} min(d_0, d_N) = {self.ends}"


def width_condition(network: LinearNetwork | Iterable[int]) -> WidthCondition:
    r"""Return whether no hidden layer is narrower than input and output, :math:`\min(d_1 .. d_{N-1}) \ge \min(d_0, d_N)`.

    Parameters
    ----------
    network : LinearNetwork or sequence of int
        A network, or its widths (d_0, d_1, ..., d_N), from the input to the output.

    Returns
    -------
    WidthCondition

    Raises
    ------
    ValueError, TypeError
        If the widths are not at least two whole positive numbers.

    Notes
    -----
    The condition is sufficient. A loss that does not see a direction of the outputs needs a unit less: softmax does not
    see what is added to all classes, so that c - 1 hidden units are enough for c classes (derived here).

    References
    ----------
    .. [1] T. Laurent, J. von Brecht, Deep linear networks with arbitrary loss: all local minima are global, ICML 2018.

    Examples
    --------
    >>> print(width_condition([4, 2, 3]))
    width condition not met: narrowest hidden layer 2 < min(d_0, d_N) = 3
    """
    if isinstance(network, LinearNetwork):
        return WidthCondition((network.shape[1], *network.widths, network.shape[0]))
    widths = validation.as_tuple(network)
    if widths is None:
        raise TypeError(f"`network` must be a LinearNetwork or its widths, got {validation.describe(network)}.")
    if len(widths) < 2:
        raise ValueError(f"`network` must have at least two widths (d_0, ..., d_N), got {len(widths)}.")
    return WidthCondition(tuple(validation.require_integer("network", d, low=1) for d in widths))


# ---------------------------------------------------------------------------------------------------------------------
# the certificate


@dataclass(frozen=True)
class GradientCertificate:
    r"""What the gradient end to end says about a network, with the numbers that decide.

    All gradients are Frobenius norms. The relative ones have no unit: they are divided by their natural scale.

    Attributes
    ----------
    widths : WidthCondition
        Whether a local minimum must have a zero gradient end to end.
    convex : bool or None
        Whether the loss says that it is convex; None: not known.
    gradient, gradient_scale : float
        :math:`\|\nabla f(W)\|`, and the larger of it and :math:`\|\nabla f(0)\|`, in units of the loss over W.
    factor_gradient, factor_scale : float
        :math:`\|\nabla L\|` over all factors, and `gradient_scale` times :math:`\ell^{N-1}`, where :math:`\ell` is the
        largest spectral norm of a factor, or the N-th root of :math:`\|\nabla f(0)\|` over the curvature where that is larger.
    zero, nonzero : float
        Relative gradient end to end up to which it is taken for zero, and from which on for non-zero.
    critical_below : float
        Relative factor gradient up to which the network is called critical.
    gap_at_least : float
        :math:`\|\nabla f(W)\|^2 / (2 \beta) \le f(W) - \inf f` for a convex loss of known curvature :math:`\beta`; else 0.
    """

    widths: WidthCondition
    convex: bool | None
    gradient: float
    gradient_scale: float
    factor_gradient: float
    factor_scale: float
    zero: float
    nonzero: float
    critical_below: float
    gap_at_least: float

    @property
    def relative_gradient(self) -> float:
        """The gradient end to end over its scale."""
        return _over(self.gradient, self.gradient_scale)

    @property
    def relative_factor_gradient(self) -> float:
        """The factor gradient over its scale."""
        return _over(self.factor_gradient, self.factor_scale)

    @property
    def critical(self) -> bool:
        """Whether the network is critical to its threshold."""
        return self.relative_factor_gradient <= self.critical_below

    @property
    def kind(self) -> str:
        """What is known: "global minimiser", "stationary in W", "no local minimum" or "not decided".

        "stationary in W" is a zero gradient end to end of a loss that does not say that it is convex. "no local minimum"
        needs the width condition; at a bottleneck a non-zero gradient end to end decides nothing unless the factor
        gradient is non-zero too.
        """
        if self.relative_gradient <= self.zero:
            return "global minimiser" if self.convex else "stationary in W"
        if self.relative_gradient < self.nonzero:
            return "not decided"
        return "no local minimum" if self.widths.met or self._moves else "not decided"

    @property
    def _moves(self) -> bool:
        """Whether the factor gradient alone shows that this is no local minimum, as far from zero as the other must be."""
        return self.relative_factor_gradient >= _FAR * self.critical_below

    @property
    def margin(self) -> float:
        """By what factor the relative gradient end to end is on its side of the threshold that decides; below 1: between."""
        rho = self.relative_gradient
        if rho <= self.zero:
            return self.zero / rho if rho > 0 else float("inf")
        return rho / self.nonzero

    @property
    def reason(self) -> str:
        """The deciding number and what would have to change for the answer to be another, in one line."""
        rho = self.relative_gradient
        if rho <= self.zero:
            number = f"the gradient end to end is {rho:.2g} of its scale, zero up to {self.zero:.2g}"
            extra = "" if self.convex else "; the loss does not say that it is convex"
            return f"{number}{extra}; a gradient {self.margin:.2g} times as large would not pass for zero"
        if rho < self.nonzero:
            return (
                f"the gradient end to end is {rho:.2g} of its scale, zero up to {self.zero:.2g} and non-zero from"
                f" {self.nonzero:.2g} on; descend further"
            )
        number = f"the gradient end to end is {rho:.2g} of its scale, {self.margin:.2g} times what is called non-zero"
        if self.widths.met:
            return f"{number}; {self.widths}"
        moving = f"the factor gradient is {self.relative_factor_gradient:.2g} of its scale"
        return f"{number}; {self.widths}; {moving}"

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def _over(value: float, scale: float) -> float:
    return value / scale if value > 0 else 0.0


@validation.quietly
def certify_gradient(
    loss: Loss, net: LinearNetwork, *, zero: float = 1e-6, critical: float = 1e-8
) -> GradientCertificate:
    r"""Say whether the gradient end to end is zero at a network, and what follows.

    With G the Frobenius gradient of f at W: if G = 0 and f is convex, the network is a global minimiser, whatever its
    widths. If :math:`G \ne 0` and no hidden layer is narrower than input and output, it is no local minimum, even where
    all factor gradients :math:`(W_N \cdots W_{j+1})^T G (W_{j-1} \cdots W_1)^T` vanish.

    Parameters
    ----------
    loss : Loss
        In its own normalisation; differentiable on all m x n matrices.
    net : LinearNetwork, (m, n)
        Where, critical or not.
    zero : float
        Relative gradient end to end up to which it is taken for zero; from 1000 times that on it is non-zero, and
        between the two nothing is decided.
    critical : float
        Relative factor gradient up to which the network is called critical.

    Returns
    -------
    GradientCertificate

    Raises
    ------
    ValueError, TypeError
        If the shapes of loss and network differ, a threshold is not positive, the gradient is not finite, or the loss is
        smooth on matrices of one rank alone.

    Notes
    -----
    The norm of G takes its products with unit vectors, 256 at a time; an m x n array is formed only by a loss whose
    gradient is one. The scales and thresholds are the library's own choice.

    References
    ----------
    .. [1] T. Laurent, J. von Brecht, Deep linear networks with arbitrary loss: all local minima are global, ICML 2018.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> saddle = LinearNetwork([np.diag([1.0, 0.0]), np.diag([2.0, 0.0])])
    >>> found = certify_gradient(loss, saddle)
    >>> found.critical, found.kind
    (True, 'no local minimum')
    """
    zero = validation.require_number("zero", zero)
    critical = validation.require_number("critical", critical)
    _require_smooth(loss, net)
    known = facts(loss)
    egrad = require_gradient(loss.gradient(net), net.shape)
    at_zero = _norm(loss.gradient(_zero_matrix(net.shape)))
    gradient, moved = _norm(egrad), float(np.sqrt(squared_norm(pulled_back(net, egrad))))
    if not (np.isfinite(gradient) and np.isfinite(moved)):
        raise ValueError("`loss.gradient(w)` must be finite, got a value that is not. Start elsewhere or nearer.")
    scale = max(gradient, at_zero if np.isfinite(at_zero) else 0.0)
    gap = gradient**2 / (2 * known.curvature) if known.convex and known.curvature else 0.0
    return GradientCertificate(
        width_condition(net),
        known.convex,
        gradient,
        scale,
        moved,
        scale * _length(net, scale, known.curvature) ** (net.depth - 1),
        zero,
        _FAR * zero,
        critical,
        gap,
    )


def _require_smooth(loss: Loss, net: LinearNetwork) -> None:
    require_loss(loss)
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    if facts(loss).fixed_rank:
        raise ValueError(
            f"`loss` must be differentiable on all {net.shape[0]} x {net.shape[1]} matrices, got one that is smooth on"
            " matrices of one rank alone. The theory of local minima does not apply."
        )


def _zero_matrix(shape: tuple[int, int]) -> Product:
    return Product(np.zeros((shape[0], 1)), np.zeros((1, shape[1])))


def _length(net: LinearNetwork, gradient: float, curvature: float | None) -> float:
    """Return the natural size of a factor: what there is, or what the loss would make of zero, if that is more."""
    present = max(float(linalg.norm(f, 2)) for f in net.factors)
    return max(present, (gradient / curvature) ** (1 / net.depth)) if curvature else present


def _norm(egrad: MatrixLike) -> float:
    """Return the Frobenius norm of what is only multiplied, from its products with unit vectors on the shorter side."""
    if isinstance(egrad, np.ndarray):
        return float(np.linalg.norm(egrad))
    m, n = egrad.shape
    narrow, size = (egrad, n) if n <= m else (egrad.T, m)
    total = 0.0
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        total += float(np.linalg.norm(narrow @ np.eye(size, stop - start, -start)) ** 2)
    return float(np.sqrt(total))
