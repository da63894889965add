r"""The Hessian of the loss of the factors, (W_1, ..., W_N) -> L(W_N ... W_1), as an operator that is only multiplied.

With J the derivative of the product, G = grad L(W) and H_L the Hessian of L at W,

    H V = J^* H_L[J V] + (D J^*[V]) G,

the second term being the curvature of the product. The chain is cut at its narrowest layer into two, each with a narrow
end, so that a Hessian product costs what a few factor gradients do, and nothing is larger than the factors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator

from .. import validation
from ..gradients import product_retraction, raw_factor_gradients, squared_norm
from ..losses import Loss, facts
from ..losses.facts import loss_label
from ..losses.requirements import require_gradient, require_loss
from ..losses.tensors import in_arrays
from ..matrices import EPS, LinearNetwork, Product
from ..matrices.requirements import require_network
from ..operators import MatrixLike
from ..validation import Array

__all__ = ["FactorHessian", "factor_hessian", "join_directions", "split_directions"]

_SHAKE = 64 * EPS  # relative change of the factors that stands for roundoff: theirs, and that of long sums


def join_directions(directions: Sequence[ArrayLike]) -> Array:
    """Return factor directions as one vector: W_1's first, each in C order.

    Parameters
    ----------
    directions : sequence of array_like
        One matrix a factor, W_1's first.

    Returns
    -------
    ndarray, (sum of the sizes,)
    """
    return np.concatenate([np.ravel(e) for e in directions])


def split_directions(network: LinearNetwork, x: ArrayLike) -> list[Array]:
    """Return a vector as factor directions, one matrix a factor of its shape: the inverse of `join_directions`.

    Parameters
    ----------
    network : LinearNetwork
        Whose factors give the shapes.
    x : array_like, (number of parameters,)
        W_1's entries first, each factor in C order.

    Returns
    -------
    list of ndarray
        Views into `x` where it is an array.

    Raises
    ------
    ValueError, TypeError
        If the length of `x` is not the number of parameters, or a value is not finite.
    """
    require_network("network", network)
    return _split(network, validation.as_vector("x", x, sum(f.size for f in network.factors)))


def _split(network: LinearNetwork, x: Array) -> list[Array]:
    shapes = [f.shape for f in network.factors]
    cuts = np.cumsum([a * b for a, b in shapes])
    return [p.reshape(s) for p, s in zip(np.split(x, cuts[:-1]), shapes, strict=True)]


class FactorHessian(LinearOperator):
    """The Hessian of a loss with respect to all factors of a network, made by `factor_hessian`.

    A symmetric ``scipy.sparse.linalg.LinearOperator`` on flat vectors, W_1's entries first, each factor in C order.

    Attributes
    ----------
    loss : Loss
        Of which.
    network : LinearNetwork
        Where.
    exact : bool
        Whether it is by the formula, exact to roundoff; else by central differences of the factor gradients.
    """

    loss: Loss
    network: LinearNetwork
    exact: bool

    def __init__(self, loss: Loss, network: LinearNetwork, *, exact: bool) -> None:
        self.loss, self.network, self.exact = loss, network, exact
        self._shaken: FactorHessian | None = None
        size = sum(f.size for f in network.factors)
        super().__init__(np.dtype(np.float64), (size, size))  # type: ignore[call-arg]  # the stubs know no __init__
        self._product: _Formula | _Differences = _Formula(loss, network) if exact else _Differences(loss, network)

    def _matvec(self, x: Array) -> Array:
        return join_directions(self._product(np.ravel(x)))

    def _adjoint(self) -> FactorHessian:
        return self

    _transpose = _adjoint

    def error(self, x: ArrayLike, image: ArrayLike) -> float:
        r"""Return how far ``image``, the computed H x, is from H x, by an independent evaluation.

        The product is made again with every entry of the factors changed by up to :math:`64\,\epsilon` of itself, and with
        twice the step where it is by differences; the norm of the change is returned, twice (by differences, four times).
        It answers for roundoff, for cancellation inside the loss, for truncation, and for a network that is itself known
        to some units in the last place only. It is an estimate, not an enclosure.

        Parameters
        ----------
        x : array_like, (size,)
            A direction.
        image : array_like, (size,)
            What the operator made of it, ``operator @ x``.

        Returns
        -------
        float
            In the units of ``||H x||``.

        Notes
        -----
        Cost: one product; on first use the factors are copied.
        """
        size = self.shape[0]
        x, image = validation.as_vector("x", x, size), validation.as_vector("image", image, size)
        if self._shaken is None:
            rng = np.random.default_rng(0)  # fixed: the answer must not vary between calls
            moved = [f * (1 + _SHAKE * rng.uniform(-1, 1, f.shape)) for f in self.network.factors]
            self._shaken = FactorHessian(self.loss, LinearNetwork._trusted(moved), exact=self.exact)
            if isinstance(self._shaken._product, _Differences):
                self._shaken._product.step *= 2
        return (2 if self.exact else 4) * float(np.linalg.norm(self._shaken @ x - image))


@validation.quietly
def factor_hessian(loss: Loss, network: LinearNetwork, *, exact: bool | None = None) -> FactorHessian:
    r"""Return the Hessian of :math:`(W_1, \ldots, W_N) \mapsto L(W_N \cdots W_1)` as a linear operator.

    .. math:: H V = J^* \nabla^2 L(W)[J V] + (D J^*[V])\, \nabla L(W), \qquad
              J V = \sum_j W_N \cdots W_{j+1} V_j W_{j-1} \cdots W_1 .

    Parameters
    ----------
    loss : Loss
        In its own normalisation.
    network : LinearNetwork, (m, n)
        Where; any network of the loss's shape, balanced or not.
    exact : bool, optional
        True: by this formula, with the loss's ``hessian(w, z)``. False: by central differences of the factor gradients,
        for which no second derivative is needed. None: True where the loss has a ``hessian``.

    Returns
    -------
    FactorHessian
        A symmetric ``LinearOperator`` on flat vectors, W_1's entries first, each factor in C order: see
        `split_directions` and `join_directions`.

    Raises
    ------
    ValueError, TypeError
        If the shapes of loss and network differ, the gradient cannot be multiplied or is not finite, or ``exact=True`` and
        the loss has no ``hessian``.

    Notes
    -----
    The formula costs four products with the gradient or the loss's Hessian and about six times the products of a chain,
    all of them with blocks as wide as the narrowest hidden layer.

    The differences take two factor gradients a product. Their step :math:`h = \epsilon^{1/3} \|(W_j)\| / \|V\|` balances
    the truncation, :math:`h^2 / 6` times the third derivative of the factor gradients, with roundoff,
    :math:`\epsilon / h`: an error of about :math:`\epsilon^{2/3} = 4 \cdot 10^{-11}` of the Hessian times the number of
    factors squared, and more where the Hessian of the loss changes over lengths that are short beside W;
    ``FactorHessian.error`` measures it.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> from scipy.sparse.linalg import eigsh
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> origin = lrf.LinearNetwork([np.zeros((3, 3)), np.zeros((3, 3))])
    >>> hessian = factor_hessian(loss, origin)  # at the origin of depth 2: minus the singular values of the data
    >>> eigsh(hessian, k=1, which="SA", return_eigenvectors=False, v0=np.ones(hessian.shape[0])).round(6).tolist()
    [-3.0]
    """
    require_loss(loss)
    require_network("network", network)
    validation.require_shape("network", network.shape, loss.shape)
    if exact is not None:
        validation.require_flags(exact=exact)
    loss = in_arrays(loss, network)
    known = facts(loss).hessian is not None
    if exact and not known:
        raise ValueError(
            f"`exact` must be None or False for a loss without `hessian`, got True for {loss_label(loss)}."
            " Add hessian(w, z), or take differences."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(squared_norm(raw_factor_gradients(loss, network)))
    if not finite:
        raise ValueError(
            "`loss.gradient(w)` must be finite at the start, got a value that is not. Start elsewhere or nearer."
        )
    return FactorHessian(loss, network, exact=known if exact is None else bool(exact))


class _Differences:
    """V -> (grad(W + h V) - grad(W - h V)) / 2h, the factor gradients of a loss."""

    def __init__(self, loss: Loss, network: LinearNetwork) -> None:
        self._loss, self._network = loss, network
        # the third derivative costs h^2, roundoff eps / h: least error near h = eps^(1/3)
        self.step = EPS ** (1 / 3) * (np.sqrt(squared_norm(network.factors)) or 1.0)

    def __call__(self, x: Array) -> list[Array]:
        size = np.linalg.norm(x)
        if size == 0:
            return _split(self._network, np.zeros_like(x))
        h = self.step / size
        ends = (product_retraction(self._network, _split(self._network, sign * h * x)) for sign in (1.0, -1.0))
        up, down = (raw_factor_gradients(self._loss, end) for end in ends)
        return [(a - b) / (2 * h) for a, b in zip(up, down, strict=True)]


class _Chain:
    r"""Half of a network: P = F_p ... F_1 with few rows, d, and what its derivatives share.

    The gradients of <M, P> are head_j^T tail_j with head_j = F_p ... F_{j+1} (d x d_j) and
    tail_j = M F_1^T ... F_{j-1}^T (d x d_{j-1}); the head of the last factor is the identity, and left out.
    """

    def __init__(self, factors: Sequence[Array]) -> None:
        self.factors = factors
        self.heads: list[Array] = [factors[-1]]
        for f in reversed(factors[:-1]):
            self.heads.insert(0, self.heads[0] @ f)
        self.value = self.heads.pop(0)
        self.tails: list[Array] = []

    def slopes(self, directions: Sequence[Array]) -> tuple[list[Array], Array]:
        """Return the derivatives of the heads and of P along directions of the factors."""
        slopes = [directions[-1]]
        for f, e, head in zip(
            reversed(self.factors[:-1]), reversed(directions[:-1]), reversed(self.heads), strict=True
        ):
            slopes.insert(0, slopes[0] @ f + head @ e)
        return slopes[1:], slopes[0]

    def weigh(self, m: Array) -> None:
        """Set the M of which the gradients are."""
        self.tails = [m]
        for f in self.factors[:-1]:
            self.tails.append(self.tails[-1] @ f.T)

    def gradient_slopes(self, directions: Sequence[Array], heads: Sequence[Array], m: Array) -> list[Array]:
        """Return the derivatives of the gradients, from those of the heads and of M."""
        found = []
        for j, (f, e, tail) in enumerate(zip(self.factors, directions, self.tails, strict=True)):
            found.append(heads[j].T @ tail + self.heads[j].T @ m if j < len(self.heads) else m)
            if j < len(self.heads):
                m = m @ f.T + tail @ e.T
        return found


class _Formula:
    """V -> J^* H_L[J V] + (D J^*[V]) G, with W = left^T right cut at the narrowest layer."""

    def __init__(self, loss: Loss, network: LinearNetwork) -> None:
        self._network, self._cut = network, network.bottleneck
        hessian = facts(loss).hessian
        assert hessian is not None
        self._hessian = hessian
        self._gradient = require_gradient(loss.gradient(network), network.shape)
        if self._cut == 0:  # a single factor is W itself
            self._w = Product(*network.split())
            return
        self._right = _Chain(network.factors[: self._cut])
        self._left = _Chain([f.T for f in reversed(network.factors[self._cut :])])
        left, right = self._left.value, self._right.value
        self._w = Product(left.T, right)
        self._right.weigh(_times(left, self._gradient))
        self._left.weigh(_times(right, self._gradient.T))

    def _image(self, z: Product) -> MatrixLike:
        """Return H_L[Z]."""
        return require_gradient(self._hessian(self._w, z), self._network.shape, "loss.hessian(w, z)")

    def __call__(self, x: Array) -> list[Array]:
        directions = _split(self._network, x)
        if self._cut == 0:
            eye = np.eye(self._network.shape[1])
            return [self._image(Product(directions[0], eye)) @ eye]
        below, above = directions[: self._cut], [e.T for e in reversed(directions[self._cut :])]
        (right_heads, right_slope), (left_heads, left_slope) = self._right.slopes(below), self._left.slopes(above)
        left, right, g = self._left.value, self._right.value, self._gradient
        image = self._image(Product(np.hstack([left.T, left_slope.T]), np.vstack([right_slope, right])))
        weight = _times(left_slope, g) + _times(left, image)
        moved = self._right.gradient_slopes(below, right_heads, weight)
        weight = _times(right_slope, g.T) + _times(right, image.T)
        return moved + [e.T for e in reversed(self._left.gradient_slopes(above, left_heads, weight))]


def _times(a: Array, g: MatrixLike) -> Array:
    """Return a G, of which only products from the left of an array are known."""
    return (g.T @ a.T).T
