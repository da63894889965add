r"""Kicks: how critical points are left at which the gradient end to end is not zero, without raising the loss.

The proof of Laurent and von Brecht is an algorithm: where the chain :math:`W_k \cdots W_1` has a left null vector u, the
next factor can be moved by any :math:`\delta u^T` without changing the product. Such a `kick` makes the factor gradient
non-zero wherever the gradient end to end is, and a descent goes on from there.
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
from ..gradients import pulled_back, raw_factor_gradients, squared_norm
from ..losses import Loss, facts
from ..losses.requirements import require_loss, require_value
from ..matrices import EPS, LinearNetwork, difference, singular_values
from ..matrices.requirements import require_network
from ..validation import Array
from .anyloss import GradientCertificate, certify_gradient, width_condition

__all__ = ["Kick", "KickRound", "KickedDescent", "descend", "kick", "kick_and_descend"]

_CHUNK = 300  # gradients of a descent between two looks at the proportions of the factors
_LARGE = 4.0  # times the norms of balanced factors, squared: out of proportion


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
    change = difference(kicked, net).norm()
    return Kick(kicked, side, tuple(free), tuple(sizes), change / size_of if change > 0 else 0.0, widths.met)


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


@validation.quietly
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
        gradient = float(np.sqrt(squared_norm(raw_factor_gradients(loss, moved.network))))
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


@validation.quietly
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
        return float(value), np.concatenate([g.ravel() for g in pulled_back(net, egrad)])


def _in_proportion(loss: Loss, net: LinearNetwork) -> LinearNetwork:
    """Return balanced factors of the same product where those at hand are far larger and no rank can be lost."""
    s = singular_values(net)
    balanced = net.depth * float((s ** (2 / net.depth)).sum())
    if s.min() <= 1e-8 * s.max() or squared_norm(net.factors) <= _LARGE * balanced:
        return net
    calm, value = net.rebalanced(), require_value(loss.value(net))
    return calm if require_value(loss.value(calm)) <= value + 1e-12 * abs(value) else net
