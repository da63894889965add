r"""Any differentiable loss: where a local minimum has a zero gradient end to end, and how one leaves where it has not.

Let f be a differentiable function of W and L(W_1, ..., W_N) = f(W_N ... W_1). If no hidden layer is narrower than both
input and output, every local minimum of L has :math:`\nabla f(W) = 0` (Laurent and von Brecht); for convex f it is then
global. The proof is an algorithm: where the chain :math:`W_k \cdots W_1` has a left null vector u, the next factor can be
moved by any :math:`\delta u^T` without changing the product. Such a `kick` makes the factor gradient non-zero wherever
the gradient end to end is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from scipy import linalg
from scipy.optimize import minimize

from .. import validation
from ..gradients import factor_gradients, pullback, squared_norm
from ..losses import Loss, facts
from ..losses.requirements import require_gradient, require_loss, require_value
from ..matrices import EPS, LinearNetwork, Product, difference, singular_values
from ..matrices.requirements import require_network
from ..operators import MatrixLike
from ..validation import Array

__all__ = [
    "GradientCertificate",
    "Kick",
    "KickRound",
    "KickedDescent",
    "WidthCondition",
    "certify_gradient",
    "descend",
    "kick",
    "kick_and_descend",
    "width_condition",
]

_BLOCK = 256  # columns of a gradient that are formed at a time
_CHUNK = 300  # gradients of a descent between two looks at the proportions of the factors
_LARGE = 4.0  # times the norms of balanced factors, squared: out of proportion
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
    gradient, moved = _norm(egrad), float(np.sqrt(squared_norm(pullback(net, egrad))))
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


# ---------------------------------------------------------------------------------------------------------------------
# the kick


@dataclass(frozen=True, eq=False)
class Kick:
    r"""A network moved along directions that do not change its product.

    Attributes
    ----------
    network : LinearNetwork
        With the same product.
    side : {"input", "output"}
        From which end the chains were taken whose null spaces are used: :math:`W_k \cdots W_1` or
        :math:`W_N \cdots W_k`.
    free : tuple of int
        A number a factor, W_1's first: the dimension of the null space in which it could move; 0: it stayed.
    sizes : tuple of float
        Frobenius norm by which each factor moved.
    product_change : float
        :math:`\|\tilde W - W\|_F` over :math:`\prod_j \|\tilde W_j\|_2`: roundoff.
    guaranteed : bool
        Whether the width condition holds, so that with probability one the factor gradient is non-zero wherever the
        gradient end to end is, for every loss.
    """

    network: LinearNetwork
    side: str
    free: tuple[int, ...]
    sizes: tuple[float, ...]
    product_change: float
    guaranteed: bool

    @property
    def moved(self) -> bool:
        """Whether any factor moved."""
        return any(self.free)


def kick(net: LinearNetwork, *, size: float = 0.3, rng: validation.Rng = None, tolerance: float | None = None) -> Kick:
    r"""Move the factors along null spaces, so that the product stays and the factor gradient does not vanish.

    Let :math:`m \ge n` and let the columns of :math:`U_k` be an orthonormal basis of the left null space of
    :math:`W_k \cdots W_1`. Then

    .. math:: \tilde W_k = W_k + \Delta_k U_{k-1}^T, \quad k = 2 .. N, \qquad
              \tilde W_N \cdots \tilde W_1 = W_N \cdots W_1

    for all :math:`\Delta_k`. If no hidden layer is narrower than n and the gradient G end to end is not zero, the factor
    gradient is non-zero for almost all :math:`\Delta`: where a chain :math:`W_k \cdots W_1` is rank-deficient by the
    argument of Laurent and von Brecht, elsewhere because :math:`G (W_{N-1} \cdots W_1)^T = 0` would make G zero. For
    m < n the same is done with the transposed network.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        Any network.
    size : float
        Frobenius norm of each :math:`\Delta_k`, in the unit of the factors.
    rng : int or numpy.random.Generator, optional
        Draws the :math:`\Delta_k`, Gaussian. None: another kick at every call.
    tolerance : float, optional
        Singular value of :math:`W_k Q`, Q a basis of the range of the chain before, relative to :math:`\|W_k\|_2`, up to
        which a direction counts as null. None: roundoff. A larger one lets nearly null directions in, and the product
        changes by as much.

    Returns
    -------
    Kick

    Raises
    ------
    ValueError, TypeError
        If `net` is no network, `size` or `tolerance` not positive, or `rng` is none.

    Notes
    -----
    At a saddle of order m the gradient after the kick is of order ``size ** (m - 1)``; at the origin of order
    ``size ** (N - 1)`` (derived here). For m = n the side with more null directions is taken.

    References
    ----------
    .. [1] T. Laurent, J. von Brecht, Deep linear networks with arbitrary loss: all local minima are global, ICML 2018.

    Examples
    --------
    >>> saddle = LinearNetwork([np.diag([1.0, 0.0]), np.diag([2.0, 0.0])])
    >>> moved = kick(saddle, rng=0)
    >>> moved.free, moved.product_change < 1e-15
    ((0, 1), True)
    """
    require_network("net", net)
    size = validation.require_number("size", size)
    cut = None if tolerance is None else validation.require_number("tolerance", tolerance)
    rng = validation.as_rng(rng)
    widths = width_condition(net)
    m, n = net.shape
    forward, backward = (net, "input"), (net.T, "output")
    sides = [forward, backward] if m == n or not widths.met else [forward if n < m else backward]
    found = [(chain, side, _left_null_bases(chain.factors, cut)) for chain, side in sides]
    chain, side, bases = max(found, key=lambda each: sum(u.shape[1] for u in each[2]))
    new, free, sizes = [chain.factors[0]], [0], [0.0]
    for factor, u in zip(chain.factors[1:], bases, strict=True):
        free.append(u.shape[1])
        sizes.append(size if u.shape[1] else 0.0)
        delta = rng.standard_normal((factor.shape[0], u.shape[1]))
        new.append(factor + (size / np.linalg.norm(delta)) * delta @ u.T if u.shape[1] else factor)
    kicked = LinearNetwork._trusted(new)
    if side == "output":
        kicked, free, sizes = kicked.T, free[::-1], sizes[::-1]
    size_of = float(np.prod([linalg.norm(f, 2) for f in kicked.factors]))
    change = _over(difference(kicked, net).norm(), size_of)
    return Kick(kicked, side, tuple(free), tuple(sizes), change, widths.met)


def _left_null_bases(factors: Iterable[Array], tolerance: float | None) -> list[Array]:
    """Return orthonormal bases of the left null spaces of W_k ... W_1, k = 1 .. N-1, by ranges one after the other.

    The range of a chain is that of its last factor on the range before, so no product is formed whose small singular
    values are lost in roundoff.
    """
    *chain, _ = factors
    bases: list[Array] = []
    q = np.eye(chain[0].shape[1]) if chain else np.empty((0, 0))
    for w in chain:
        u, s, _ = linalg.svd(w @ q, full_matrices=True)
        cut = 8 * max(w.shape) * EPS if tolerance is None else tolerance
        rank = int((s > cut * float(linalg.norm(w, 2))).sum())
        q = u[:, :rank]
        bases.append(u[:, rank:])
    return bases


# ---------------------------------------------------------------------------------------------------------------------
# kick, then descend


@dataclass(frozen=True, eq=False)
class KickRound:
    """One kick and the descent after it: norms are Frobenius, values in the normalisation of the loss."""

    kick: Kick
    value_change: float  #: L after the kick minus before: roundoff
    gradient_before: float  #: factor gradient before the kick
    gradient_after: float  #: factor gradient after the kick, before the descent
    value: float  #: L at the end of the descent
    evaluations: int  #: gradients of the descent
    certificate: GradientCertificate  #: at the end of the descent


@dataclass(frozen=True, eq=False)
class KickedDescent:
    """What kicks and descents made of a network.

    Attributes
    ----------
    network : LinearNetwork
        At the end.
    value_before, value : float
        L at the start and at the end, in its normalisation.
    rounds : tuple of KickRound
        One a kick; empty where the gradient end to end was zero at the start.
    certificate : GradientCertificate
        At the end.
    evaluations : int
        Gradients in all.
    reason : str
        Why it ended, in one line.
    """

    network: LinearNetwork
    value_before: float
    value: float
    rounds: tuple[KickRound, ...]
    certificate: GradientCertificate
    evaluations: int
    reason: str

    @property
    def decrease(self) -> float:
        """By how much L fell."""
        return self.value_before - self.value

    @property
    def reached(self) -> bool:
        """Whether the gradient end to end is zero at the end: for a convex loss, a global minimiser."""
        return self.certificate.kind in ("global minimiser", "stationary in W")


def kick_and_descend(
    loss: Loss,
    net: LinearNetwork,
    *,
    size: float = 0.3,
    rounds: int = 3,
    budget: int = 5000,
    zero: float = 1e-6,
    rng: validation.Rng = None,
) -> KickedDescent:
    r"""Leave a critical point by a loss-preserving kick and descend, until the gradient end to end is zero.

    Parameters
    ----------
    loss : Loss
        In its own normalisation; differentiable on all m x n matrices.
    net : LinearNetwork, (m, n)
        The start, critical or not.
    size : float
        As in `kick`.
    rounds : int
        Kicks at most.
    budget : int
        Gradients at most, all rounds together.
    zero : float
        Relative gradient end to end up to which it is taken for zero, as in `certify_gradient`.
    rng : int or numpy.random.Generator, optional
        Draws the kicks.

    Returns
    -------
    KickedDescent

    Raises
    ------
    ValueError, TypeError
        As `certify_gradient` and `kick`.

    Notes
    -----
    Every kick keeps L to roundoff and every descent (`descend`) lowers it. That the end is a global minimiser of a
    convex loss is certified there by its gradient, not promised beforehand: a loss may have no minimiser, and a descent
    may need more than its budget.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> saddle = LinearNetwork([np.diag([1.0, 0.0]), np.diag([2.0, 0.0])])
    >>> found = kick_and_descend(loss, saddle, rng=0)
    >>> found.certificate.kind, round(found.decrease, 8)
    ('global minimiser', 0.5)
    """
    rounds = validation.require_integer("rounds", rounds, low=1)
    budget = validation.require_integer("budget", budget, low=1)
    rng = validation.as_rng(rng)
    certificate = certify_gradient(loss, net, zero=zero)
    before = value = require_value(loss.value(net))
    made: list[KickRound] = []
    spent = 0
    for _ in range(rounds):
        if certificate.relative_gradient <= zero or spent >= budget:
            break
        moved = kick(net, size=size, rng=rng)
        kicked = require_value(loss.value(moved.network))
        gradient = float(np.sqrt(squared_norm(factor_gradients(loss, moved.network))))
        lower, evaluations = descend(loss, moved.network, budget=budget - spent)
        change, start = kicked - value, certificate.factor_gradient
        net, value, spent = lower, require_value(loss.value(lower)), spent + evaluations
        certificate = certify_gradient(loss, net, zero=zero)
        made.append(KickRound(moved, change, start, gradient, value, evaluations, certificate))
    return KickedDescent(
        net, before, value, tuple(made), certificate, spent, _ending(certificate, zero, spent, budget, len(made))
    )


def _ending(certificate: GradientCertificate, zero: float, spent: int, budget: int, kicks: int) -> str:
    if certificate.relative_gradient <= zero:
        return f"The gradient end to end is zero after {kicks} kicks and {spent} gradients."
    if spent >= budget:
        return f"The budget of {budget} gradients was spent after {kicks} kicks. Raise `budget`."
    if not certificate.widths.met:
        return f"All {kicks} kicks were made; at a bottleneck a local minimum may have a non-zero gradient end to end."
    return f"All {kicks} kicks were made and the gradient end to end is not zero. Raise `rounds`, or change `size`."


def descend(
    loss: Loss, net: LinearNetwork, *, budget: int = 5000, tolerance: float = 1e-12
) -> tuple[LinearNetwork, int]:
    r"""Lower the loss of the factors by L-BFGS, which never raises it by more than roundoff.

    Parameters
    ----------
    loss : Loss
        In its own normalisation.
    net : LinearNetwork, (m, n)
        The start.
    budget : int
        Gradients, about: the line search under way is ended.
    tolerance : float
        Largest entry of the factor gradient at which it ends, relative to that of the start; it ends earlier where
        roundoff lets no step lower the loss.

    Returns
    -------
    LinearNetwork, int
        The end and the number of gradients.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, the loss is not finite at the start, or a number is not positive.

    Notes
    -----
    A long step across a plateau can leave some factors very large and others very small, where the loss is flat for
    no good reason. Every 300 gradients such factors, if their product has all the rank that the widths let it have, are
    balanced anew, which keeps the product.
    """
    budget = validation.require_integer("budget", budget, low=1)
    tolerance = validation.require_number("tolerance", tolerance)
    require_loss(loss)
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    value, gradient = _slope(loss, net)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        raise ValueError(
            "`loss` must be finite at the start, got a value or gradient that is not. Start elsewhere or nearer."
        )
    smallest, spent = tolerance * float(abs(gradient).max()), 0
    while spent < budget:
        before = value
        lower, value, used, ended = _lower(loss, net, value, min(_CHUNK, budget - spent), smallest)
        spent += used
        net = _in_proportion(loss, lower)
        if net is lower and (ended or value >= before - 4 * EPS * abs(before)):
            break
    return net, spent


def _lower(
    loss: Loss, net: LinearNetwork, value: float, budget: int, smallest: float
) -> tuple[LinearNetwork, float, int, bool]:
    """Return the end of one L-BFGS run, its value, its gradients, and whether its gradient is small."""
    cuts = [0, *accumulate(f.size for f in net.factors)]

    def network(x: Array) -> LinearNetwork:
        return LinearNetwork._trusted(
            x[a:b].reshape(f.shape) for (a, b), f in zip(pairwise(cuts), net.factors, strict=True)
        )

    def slope(x: Array) -> tuple[float, Array]:
        return _slope(loss, network(x))

    found: Any = minimize(
        slope,
        np.concatenate([f.ravel() for f in net.factors]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": budget, "maxfun": budget, "ftol": 0.0, "gtol": smallest},
    )
    ended = bool(abs(found.jac).max() <= smallest)
    if not found.fun <= value:
        return net, value, int(found.nfev), ended
    return network(found.x), float(found.fun), int(found.nfev), ended


def _slope(loss: Loss, net: LinearNetwork) -> tuple[float, Array]:
    with np.errstate(over="ignore", invalid="ignore"):
        value, egrad = facts(loss).value_and_gradient(net)
        return float(value), np.concatenate([g.ravel() for g in pullback(net, egrad)])


def _in_proportion(loss: Loss, net: LinearNetwork) -> LinearNetwork:
    """Return balanced factors of the same product where those at hand are far larger and no rank can be lost."""
    s = singular_values(net)
    balanced = net.depth * float((s ** (2 / net.depth)).sum())
    if s.min() <= 1e-8 * s.max() or squared_norm(net.factors) <= _LARGE * balanced:
        return net
    calm, value = net.rebalanced(), require_value(loss.value(net))
    return calm if require_value(loss.value(calm)) <= value + 1e-12 * abs(value) else net
