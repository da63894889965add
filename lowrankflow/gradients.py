"""Factor gradients and Riemannian gradients, and the maps between them.

G is the Frobenius gradient of the loss at the product W = W_N ... W_1. It is only ever multiplied:
``g @ v`` and ``g.T @ u``. `pullback` carries G to the factors, `product_rule` carries factor directions
back to W; one after the other they are the end-to-end operator, which on balanced factors is A_W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from . import validation
from .losses import Loss
from .losses.requirements import require_gradient, require_loss
from .matrices import LinearNetwork, LowRankMatrix, Product, Tangent
from .matrices.requirements import (
    as_directions,
    require_balanced,
    require_network,
    require_point,
    require_symmetric_point,
    require_symmetric_tangent,
    require_tangent,
)
from .metrics import DepthMetric, Metric
from .metrics.facts import is_symmetric
from .metrics.requirements import require_coefficients, require_metric
from .operators import MatrixLike, both_sides
from .validation import Array

__all__ = [
    "convert_gradient",
    "end_to_end_operator",
    "factor_gradients",
    "horizontal_lift",
    "inner_product",
    "log_volume",
    "product_rule",
    "project",
    "pullback",
    "riemannian_gradient",
    "riemannian_gradient_from_factors",
    "tangent_kernel_spectrum",
    "tangent_norm",
]


@validation.quietly
def project(w: LowRankMatrix, egrad: MatrixLike) -> Tangent:
    r"""Project a matrix onto the tangent space of the rank-k manifold at `w`.

    With :math:`W = U S V^T`, returns the triple :math:`(U_p, C, V_p)` for which

    .. math:: P_W(G) = U C V^T + U_p V^T + U V_p^T, \quad
              C = U^T G V,\; U_p = (I - UU^T) G V,\; V_p = (I - VV^T) G^T U .

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    egrad : matrix-like, (m, n)
        Only ``egrad @ v`` and ``egrad.T @ u`` are used; it is never densified.

    Returns
    -------
    Tangent
        ``up`` (m, k), ``core`` (k, k), ``vp`` (n, k); ``u.T @ up == 0``, ``vt @ vp == 0``.

    Raises
    ------
    ValueError, TypeError
        If `w` is not a LowRankMatrix, or `egrad` is not finite, is complex, is not of shape (m, n) or cannot be multiplied.

    Notes
    -----
    Cost: two products with `egrad` and O((m + n) k^2). Orthogonal in the Frobenius inner product
    whatever metric is used later.

    References
    ----------
    .. [1] B. Vandereycken, Low-rank matrix completion by Riemannian optimization,
       SIAM J. Optim. 23(2), 2013, doi:10.1137/110845768.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> w = lrf.random_point(4, 3, 2, rng=0)
    >>> z = lrf.project(w, np.ones((4, 3)))
    >>> bool(np.allclose(w.u.T @ z.up, 0))
    True
    """
    require_point("w", w)
    z = projected(w, require_gradient(egrad, w.shape, "egrad", "`w` has shape"))
    _require_finite("egrad", *z)
    return z


def _require_finite(name: str, *arrays: Array) -> None:
    """Refuse a gradient of which a product is not finite: no NaN is returned as a result."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"`{name}` must be finite, got NaN or infinity. Check the loss at this point.")


def projected(w: LowRankMatrix, egrad: MatrixLike) -> Tangent:
    """Return what `project` does, without its checks: trial steps may blow up."""
    v = w.vt.T
    gv, gu = both_sides(egrad, v, w.u)
    core = w.u.T @ gv
    # vp from V^T G^T U afresh, not from core: near a critical point the two differ by the roundoff of G
    return Tangent(gv - w.u @ core, core, gu - v @ (w.vt @ gu))


@validation.quietly
def riemannian_gradient(w: LowRankMatrix, egrad: MatrixLike, metric: Metric) -> Tangent:
    r"""Return the Riemannian gradient A_W(G) of a loss whose Frobenius gradient at `w` is `egrad`.

    For the depth-N metric :math:`A_W(G) = \sum_{j=1}^N (WW^T)^{(N-j)/N}\, G\, (W^TW)^{(j-1)/N}`,
    evaluated in the singular frame: the blocks of :math:`U^T G V` times ``metric.coefficients(s)``.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    egrad : matrix-like, (m, n)
        Frobenius gradient; only multiplied.
    metric : Metric
        For instance ``DepthMetric(3)``.

    Returns
    -------
    Tangent

    Raises
    ------
    ValueError, TypeError
        As `project`; if `w` is not symmetric and the metric is one of the symmetric matrices.

    References
    ----------
    .. [1] B. Bah, H. Rauhut, U. Terstiege, M. Westdickenberg, Inf. Inference 11(1), 2022.
    """
    require_metric(metric)
    z = project(w, egrad)
    if is_symmetric(metric):
        require_symmetric_point("w", w, metric)
        z = z.symmetrised()
    return metric.coefficients(w.s).apply(z)


@validation.quietly
def inner_product(w: LowRankMatrix, z1: Tangent, z2: Tangent, metric: Metric) -> float:
    r"""Return the metric :math:`g_W(Z_1, Z_2) = \langle A_W^{-1} Z_1, Z_2 \rangle_F` of two tangent vectors at `w`.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    z1, z2 : Tangent
        Tangent vectors in the frames of `w`.
    metric : Metric
        For instance ``DepthMetric(3)``.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If the metric is degenerate there (infinite depth below full rank), or a tangent vector has not the shapes that
        `w` asks for (is not symmetric under a metric of the symmetric matrices). That its frames are orthogonal to
        those of `w` is taken for granted.
    """
    _check_tangents(w, metric, z1=z1, z2=z2)
    return metric.coefficients(w.s).solve(z1).dot(z2)


@validation.quietly
def tangent_norm(w: LowRankMatrix, z: Tangent, metric: Metric) -> float:
    r"""Return the length :math:`\sqrt{g_W(Z, Z)}` of a tangent vector at `w`.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    z : Tangent
        Tangent vector in the frames of `w`.
    metric : Metric
        For instance ``DepthMetric(3)``.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        As `inner_product`.
    """
    _check_tangents(w, metric, z=z)
    return float(np.sqrt(metric.coefficients(w.s).solve(z).dot(z)))


@validation.quietly
def convert_gradient(w: LowRankMatrix, rgrad: Tangent, source: Metric, target: Metric) -> Tangent:
    r"""Return the Riemannian gradient under another metric, :math:`A_2 A_1^{-1} Z`, without the loss.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    rgrad : Tangent
        A Riemannian gradient under `source`.
    source, target : Metric
        The two metrics.

    Returns
    -------
    Tangent
        The gradient of the same loss under `target`; from a metric of the symmetric matrices, that of its symmetric part.

    Raises
    ------
    ValueError, TypeError
        If `source` is degenerate there, or `rgrad` does not fit `w`.
    """
    _check_tangents(w, source, rgrad=rgrad)
    _check_tangents(w, target)
    z = source.coefficients(w.s).solve(rgrad)
    return target.coefficients(w.s).apply(z.symmetrised() if is_symmetric(target) else z)


@validation.quietly
def tangent_kernel_spectrum(w: LowRankMatrix, metric: Metric) -> Array:
    r"""Return the eigenvalues of :math:`A_W` on the tangent space, in decreasing order.

    For the depth-N metric they are the non-zero eigenvalues of the neural tangent kernel of balanced factors (and, at
    a global minimum of :math:`\frac12\|W - \Phi\|_F^2`, of the Hessian), the largest being
    :math:`N s_1^{2-2/N}`: descent is stable there for steps below two over it.

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    metric : Metric
        For instance ``DepthMetric(3)``.

    Returns
    -------
    ndarray, (k (m + n - k),)
        One a dimension; n k - k (k - 1) / 2 of them under a metric of the symmetric matrices.

    Raises
    ------
    ValueError, TypeError
        If `w` is not a LowRankMatrix, or `metric` not a metric.
    """
    _check_tangents(w, metric)
    return metric.coefficients(w.s).spectrum(w.shape, symmetric=is_symmetric(metric))


def log_volume(w: LowRankMatrix, metric: Metric) -> float:
    r"""Return :math:`\ln \sqrt{\det g}`, the volume factor of a metric over that of the embedded one.

    .. math:: \ln \sqrt{\det g} = -\tfrac12 \sum_i \ln \lambda_i(A_W) .

    Parameters
    ----------
    w : LowRankMatrix, (m, n) of rank k
        Base point.
    metric : Metric
        For instance ``DepthMetric(3)``.

    Returns
    -------
    float
        Infinite where the metric is degenerate.

    Raises
    ------
    ValueError, TypeError
        As `tangent_kernel_spectrum`.
    """
    with np.errstate(divide="ignore"):
        return float(-0.5 * np.log(tangent_kernel_spectrum(w, metric)).sum())


def _check_tangents(w: LowRankMatrix, metric: Metric, **tangents: Tangent) -> None:
    """Refuse points and tangent vectors on which the metric is not defined."""
    require_point("w", w)
    require_metric(metric)
    require_coefficients(metric, w.s)
    for name, z in tangents.items():
        require_tangent(name, z, w)
    if is_symmetric(metric):
        require_symmetric_point("w", w, metric)
        for name, z in tangents.items():
            require_symmetric_tangent(name, z, metric)


@validation.quietly
def pullback(net: LinearNetwork, egrad: MatrixLike) -> list[Array]:
    r"""Carry a matrix G to the factors: :math:`(W_N \cdots W_{j+1})^T G\, (W_{j-1} \cdots W_1)^T`, j = 1 .. N.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        Any network, balanced or not.
    egrad : matrix-like, (m, n)
        Multiplied twice, with blocks as wide as the narrowest hidden layer.

    Returns
    -------
    list of ndarray
        One array a factor, with its shape; W_1's first.

    Raises
    ------
    ValueError, TypeError
        If `egrad` is not finite, is complex, is not of the network's shape or cannot be multiplied.

    Notes
    -----
    Both chains are cut at the narrowest layer p, so the cost besides the two products with G is
    d_p times the number of parameters, and nothing of size m x n appears unless a factor has it.
    """
    require_network("net", net)
    grads = pulled_back(net, require_gradient(egrad, net.shape, "egrad", "the network has shape"))
    _require_finite("egrad", *grads)
    return grads


def pulled_back(net: LinearNetwork, egrad: MatrixLike) -> list[Array]:
    """Return what `pullback` does, without its checks: trial steps may blow up."""
    factors, p = net.factors, net.bottleneck
    if p == 0:
        return [egrad @ np.eye(net.shape[1])]
    left, right = net.split()
    grads: list[Array] = [np.empty(0)] * len(factors)
    # layers 1 .. p: A_j = (left^T G) W_1^T ... W_{j-1}^T (d_p x d_{j-1}), then B_j = W_p ... W_{j+1} (d_p x d_j)
    below = [(egrad.T @ left).T]
    for f in factors[: p - 1]:
        below.append(below[-1] @ f.T)
    chain = None
    for j in range(p - 1, -1, -1):
        grads[j] = below[j] if chain is None else chain.T @ below[j]
        if j > 0:
            chain = factors[j] if chain is None else chain @ factors[j]
    # layers p+1 .. N: A_j = W_{j+1}^T ... W_N^T (G right^T) (d_j x d_p), then B_j = W_{j-1} ... W_{p+1} (d_{j-1} x d_p)
    above = [egrad @ right.T]
    for f in reversed(factors[p + 1 :]):
        above.append(f.T @ above[-1])
    chain = None
    for j in range(p, len(factors)):
        a = above[len(factors) - 1 - j]
        grads[j] = a if chain is None else a @ chain.T
        if j < len(factors) - 1:
            chain = factors[j] if chain is None else factors[j] @ chain
    return grads


@validation.quietly
def factor_gradients(loss: Loss, net: LinearNetwork) -> list[Array]:
    r"""Return the gradients of :math:`L(W_N \cdots W_1)` with respect to the factors.

    .. math:: \nabla_{W_j} = (W_N \cdots W_{j+1})^T\, \nabla L(W)\, (W_{j-1} \cdots W_1)^T .

    Parameters
    ----------
    loss : Loss
        Any object with ``shape``, ``value(w)``, ``gradient(w)``.
    net : LinearNetwork
        Any network of the loss's shape, balanced or not.

    Returns
    -------
    list of ndarray
        One array a factor, W_1's first, in the normalisation of the loss.

    Raises
    ------
    ValueError, TypeError
        If the shapes of loss, network and gradient differ, or the gradient is not finite or cannot be multiplied.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> net = lrf.LinearNetwork.identity((3, 3), 2, widths=3)
    >>> [g.diagonal().tolist() for g in lrf.factor_gradients(loss, net)]
    [[-2.0, -1.0, 0.0], [-2.0, -1.0, 0.0]]
    """
    grads = raw_factor_gradients(loss, net)
    _require_finite("loss.gradient(w)", *grads)
    return grads


def raw_factor_gradients(loss: Loss, net: LinearNetwork) -> list[Array]:
    """Return what `factor_gradients` does, finite or not, for those who say so in words of their own."""
    require_loss(loss)
    require_network("net", net)
    validation.require_shape("net", net.shape, loss.shape)
    return pulled_back(net, require_gradient(loss.gradient(net), net.shape))


@validation.quietly
def product_rule(net: LinearNetwork, directions: Sequence[ArrayLike]) -> Product:
    r"""Return the derivative of the product along factor directions, :math:`\sum_j W_N..W_{j+1} E_j W_{j-1}..W_1`.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        Any network.
    directions : sequence of array_like
        One direction a factor, W_1's first, each of its factor's shape.

    Returns
    -------
    Product
        Of inner size twice the narrowest hidden width; never m x n.

    Raises
    ------
    ValueError, TypeError
        If the number or a shape of the directions does not fit the network, or a value is not finite.
    """
    require_network("net", net)
    return _product_rule(net, as_directions("directions", directions, net.factors))


def _product_rule(net: LinearNetwork, directions: Sequence[Array]) -> Product:
    factors, p = net.factors, net.bottleneck
    if p == 0:
        return Product(directions[0], np.eye(net.shape[1]))
    left, right = net.split()

    def derivative(chain: Sequence[Array], moves: Sequence[Array]) -> Array:
        """Derivative of chain[-1] ... chain[0], by the product rule one factor at a time."""
        value, slope = chain[0], moves[0]
        for f, e in zip(chain[1:], moves[1:], strict=True):
            value, slope = f @ value, f @ slope + e @ value
        return slope

    # transposed below p, so that both chains begin at the narrow layer
    below = derivative([f.T for f in reversed(factors[:p])], [e.T for e in reversed(directions[:p])]).T
    above = derivative(factors[p:], directions[p:])
    return Product(np.hstack([left, above]), np.vstack([below, right]))


@validation.quietly
def riemannian_gradient_from_factors(net: LinearNetwork, egrads: Sequence[ArrayLike]) -> Product:
    r"""Return the Riemannian gradient of the product from a list of factor gradients of any framework.

    .. math:: \sum_{j=1}^N (W_N \cdots W_{j+1})\, \nabla_{W_j}\, (W_{j-1} \cdots W_1),

    which is :math:`A_W(\nabla L(W))`, the gradient under the depth-N metric, where the factors are
    balanced, and minus the velocity of the product under the factor flow in any case.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        The network at which the gradients were taken.
    egrads : sequence of array_like
        One gradient a factor, W_1's first (what ``loss.backward()`` leaves in ``layer.weight.grad``).

    Returns
    -------
    Product
        ``project(w, result)`` gives it as a `Tangent` at ``w = net.to_low_rank()``.

    Raises
    ------
    ValueError, TypeError
        If the number or a shape of the gradients does not fit, or a value is not finite.
    """
    require_network("net", net)
    return _product_rule(net, as_directions("egrads", egrads, net.factors))


@validation.quietly
def horizontal_lift(net: LinearNetwork, z: MatrixLike, *, tolerance: float = 1e-8) -> list[Array]:
    r"""Return the horizontal lift of a tangent vector to balanced factors.

    .. math:: \dot W_j = (W_N \cdots W_{j+1})^T\, A_W^{-1}(Z)\, (W_{j-1} \cdots W_1)^T .

    Among all factor directions that move the product by Z it has the least norm, and
    :math:`\sum_j \|\dot W_j\|_F^2 = g_W(Z, Z)`: the product map is a Riemannian submersion.

    Parameters
    ----------
    net : LinearNetwork, (m, n)
        Balanced factors.
    z : matrix-like, (m, n)
        The tangent vector as a matrix, e.g. ``tangent.at(w)``; its normal part is dropped.
    tolerance : float
        Largest relative imbalance that is taken for balanced.

    Returns
    -------
    list of ndarray
        One direction a factor, W_1's first.

    Raises
    ------
    ValueError
        If the factors are not balanced, or the shape of `z` is not (m, n).
    TypeError
        If `z` is no matrix. A bare `Tangent` is none: its coordinates mean nothing without the frames of its base point.
    """
    if isinstance(z, Tangent):
        raise TypeError(
            "`z` must be a matrix, got a Tangent, whose coordinates need the frames of its base point. Pass z.at(w)."
        )
    require_network("net", net)
    require_balanced(net.relative_imbalance(), validation.require_number("tolerance", tolerance, positive=False))
    w = net.to_low_rank()
    tangent = projected(w, require_gradient(z, net.shape, "z", "the network has shape"))
    _require_finite("z", *tangent)
    return pulled_back(net, DepthMetric(net.depth).coefficients(w.s).solve(tangent).at(w))


def end_to_end_operator(net: LinearNetwork) -> Callable[[MatrixLike], Product]:
    r"""Return the operator that the factor flow of any network applies to the gradient.

    .. math:: Z \mapsto \sum_{j=1}^N (W_N..W_{j+1})(W_N..W_{j+1})^T\, Z\, (W_{j-1}..W_1)^T (W_{j-1}..W_1) .

    It is positive semidefinite, moves the product by W' = -op(G) under the factor flow, and equals
    A_W on balanced factors; on unbalanced ones it is in general not a function of W.

    Returns
    -------
    callable
        Takes a matrix-like Z of shape (m, n), returns a `Product`.
    """
    require_network("net", net)

    def operator(z: MatrixLike) -> Product:
        grads = pulled_back(net, require_gradient(z, net.shape, "z", "the network has shape"))
        _require_finite("z", *grads)
        return _product_rule(net, grads)

    return operator


def product_retraction(net: LinearNetwork, directions: Sequence[Array]) -> LinearNetwork:
    """Return the network with factors W_j + E_j: the retraction of second order of the depth-N metric."""
    return LinearNetwork._trusted(f + e for f, e in zip(net.factors, directions, strict=True))


def squared_norm(directions: Sequence[Array]) -> float:
    """Return sum_j ||E_j||_F^2 of a list of factor directions."""
    return float(sum(np.vdot(e, e) for e in directions))
