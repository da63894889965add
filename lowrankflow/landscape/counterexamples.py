r"""Where a hypothesis fails: a local minimum that is not global without differentiability, and one at a bottleneck.

"Every local minimum is global" (Laurent and von Brecht) needs a differentiable loss and hidden layers no narrower than
input and output. Both examples here were constructed for this library, with proofs in a few lines; they are not the ones
printed in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from .. import validation
from ..gradients import pullback
from ..losses import Huber, Inputs, Loss, Measured, Scaled, Squared, Sum
from ..matrices import LinearNetwork, MatrixOrArray
from ..matrices.requirements import require_matrix, require_network
from ..validation import Array

__all__ = [
    "AbsoluteError",
    "BottleneckExample",
    "KinkedExample",
    "bottleneck_example",
    "kinked_example",
    "subgradient_descent",
]


class AbsoluteError:
    r"""The entrywise absolute error :math:`f(W) = \sum_{ij} |W_{ij} - Y_{ij}|`, convex and Lipschitz but not differentiable.

    It has a ``subgradient`` and no ``gradient``: it is no loss of a flow, and nothing of the library takes it for one.

    Parameters
    ----------
    targets : array_like, (m, n)
        Y.

    Attributes
    ----------
    shape : tuple of int
        (m, n).

    Raises
    ------
    ValueError, TypeError
        If the targets are no finite matrix.
    """

    targets: Array
    shape: tuple[int, int]

    convex = True  #: in W
    lower_bound: float = 0.0

    def __init__(self, targets: ArrayLike) -> None:
        self.targets = validation.own(validation.as_matrix("targets", targets))
        m, n = self.targets.shape
        self.shape = (m, n)

    def _residual(self, w: MatrixOrArray) -> Array:
        require_matrix("w", w, self.shape)
        return (w if isinstance(w, np.ndarray) else w.to_dense()) - self.targets

    def value(self, w: MatrixOrArray) -> float:
        """Return f(W)."""
        return float(np.abs(self._residual(w)).sum())

    def subgradient(self, w: MatrixOrArray) -> Array:
        """Return the subgradient of least norm: the signs of the residual, 0 where it is zero."""
        return np.sign(self._residual(w))

    def __repr__(self) -> str:
        return f"AbsoluteError({self.shape[0]} x {self.shape[1]})"


@dataclass(frozen=True, eq=False)
class KinkedExample:
    r"""A local minimum of a convex loss that is not global, at full width: the loss has a kink. Constructed here.

    Widths (2, 2, 2), :math:`f(W) = |W_{11}| + |W_{12}| + |W_{21} - 1| + |W_{22}|`, at :math:`W_2 = e_1 e_1^T`,
    :math:`W_1 = e_2 e_2^T`. With :math:`(W_2 + E)(W_1 + F) = A` exactly

    .. math:: A_{21} = e A_{11} + g A_{22} - e g A_{12}, \quad e = \frac{E_{21}}{1 + E_{11}}, \; g = \frac{F_{21}}{1 + F_{22}},

    hence :math:`f(A) - 1 \ge (1 - |e|) |A_{11}| + (1 - |g|) |A_{22}| + (1 - |e g|) |A_{12}|`, which is non-negative while
    all entries of E and F stay within 1/2. That radius is sharp.

    Attributes
    ----------
    network : LinearNetwork
        The local minimum; its product is zero.
    loss : AbsoluteError
        f, a sum.
    value, best_value : float
        f there, and the global minimum, at W = Y.
    radius : float
        Largest entry of E and F up to which nothing is lower.
    """

    network: LinearNetwork
    loss: AbsoluteError
    value: float = 1.0
    best_value: float = 0.0
    radius: float = 0.5

    def identity_defect(self, network: LinearNetwork) -> float:
        """Return :math:`|A_{21} - (e A_{11} + g A_{22} - e g A_{12})|` at a network near: zero but for roundoff.

        Parameters
        ----------
        network : LinearNetwork, widths (2, 2, 2)
            :math:`(W_2 + E)(W_1 + F)`, with :math:`E_{11}, F_{22} > -1`.
        """
        require_network("network", network)
        w1, w2 = network.factors
        a, e, g = w2 @ w1, w2[1, 0] / w2[0, 0], w1[1, 0] / w1[1, 1]
        return abs(float(a[1, 0] - (e * a[0, 0] + g * a[1, 1] - e * g * a[0, 1])))

    def perturbed(self, size: float, *, rng: validation.Rng = None) -> LinearNetwork:
        """Return the network with E and F uniform in the box of entries up to `size`."""
        size, rng = validation.require_number("size", size), validation.as_rng(rng)
        return LinearNetwork([f + rng.uniform(-size, size, f.shape) for f in self.network.factors])

    def smoothed(self, delta: float) -> Sum:
        r"""Return the differentiable control: Huber's loss over :math:`\delta`, the absolute error beyond `delta`."""
        delta = validation.require_number("delta", delta)
        return Scaled(Measured(Inputs(np.eye(2), 2), Huber(self.loss.targets, delta)), 1 / delta)

    def lowest_in_box(
        self, radius: float, *, samples: int = 50_000, starts: int = 20, rng: validation.Rng = None
    ) -> float:
        r"""Return the least :math:`f - f(\hat W)` that an adversary finds with all entries of E and F up to `radius`.

        An upper bound of the minimum over the box. The adversary takes all corners and random points, and improves the
        best of them and random ones by linear programs: in one factor alone f is piecewise linear and convex.

        Parameters
        ----------
        radius : float
            Half the side of the box.
        samples : int
            Random points.
        starts : int
            Points that are improved.
        rng : int or numpy.random.Generator, optional
            Draws the points.

        Returns
        -------
        float
            Zero to roundoff up to `radius` 1/2, negative beyond.
        """
        radius = validation.require_number("radius", radius)
        samples = validation.require_integer("samples", samples, low=1)
        starts = validation.require_integer("starts", starts, low=1)
        rng = validation.as_rng(rng)
        corners = 2.0 * (np.arange(256)[:, None] >> np.arange(8) & 1) - 1
        points = radius * np.concatenate([corners, rng.uniform(-1, 1, (samples, 8))])
        w1, w2 = (f + points[:, k : k + 4].reshape(-1, 2, 2) for k, f in zip((0, 4), self.network.factors, strict=True))
        values = np.abs(w2 @ w1 - self.loss.targets).sum(axis=(1, 2))
        best = np.argsort(values)[:starts]
        chosen = [*best, *rng.integers(0, values.size, starts)]
        return min(float(values.min()), *(self._improved(w1[i], w2[i], radius) for i in chosen)) - self.value

    def _improved(self, w1: Array, w2: Array, radius: float) -> float:
        """Minimise over one factor and then the other, by linear programs, until nothing is gained."""
        (c1, c2), y = self.network.factors, self.loss.targets
        value = float(np.abs(w2 @ w1 - y).sum())
        for _ in range(20):
            w1 = _least_absolute(w2, y, c1, radius)
            w2 = _least_absolute(w1.T, y.T, c2.T, radius).T
            before, value = value, float(np.abs(w2 @ w1 - y).sum())
            if value > before - 1e-12:
                break
        return value


def _least_absolute(a: Array, y: Array, centre: Array, radius: float) -> Array:
    """Return the X within `radius` of `centre`, entry by entry, that minimises the sum of |A X - Y|; column by column."""
    k, p = a.shape[1], a.shape[0]
    cost = np.concatenate([np.zeros(k), np.ones(p)])
    above = np.block([[a, -np.eye(p)], [-a, -np.eye(p)]])
    columns = []
    for target, middle in zip(y.T, centre.T, strict=True):
        bounds = [(c - radius, c + radius) for c in middle] + [(0, None)] * p
        found: Any = optimize.linprog(cost, A_ub=above, b_ub=np.concatenate([target, -target]), bounds=bounds)
        columns.append(np.clip(found.x[:k], middle - radius, middle + radius))
    return np.column_stack(columns)


def kinked_example() -> KinkedExample:
    r"""Return the local minimum of an absolute error that is not global: differentiability is needed.

    Returns
    -------
    KinkedExample
        Constructed for this library; not the example printed by Laurent and von Brecht.

    Examples
    --------
    >>> example = kinked_example()
    >>> example.loss.value(example.network), example.loss.value(example.loss.targets)
    (1.0, 0.0)
    """
    network = LinearNetwork([np.diag([0.0, 1.0]), np.diag([1.0, 0.0])])
    return KinkedExample(network, AbsoluteError([[0.0, 0.0], [1.0, 0.0]]))


def subgradient_descent(
    loss: AbsoluteError | Loss | Sum, net: LinearNetwork, *, step_size: float, steps: int
) -> LinearNetwork:
    r"""Return the end of subgradient descent on the factors with a constant step.

    Near a kink the iterates jump by the step, so the value ends within an amount of order h of where it would settle.

    Parameters
    ----------
    loss : AbsoluteError or Loss
        An object with ``subgradient(w)``, or, for a differentiable control, ``gradient(w)``.
    net : LinearNetwork, (m, n)
        The start.
    step_size : float
        h, positive.
    steps : int
        Number of updates.

    Returns
    -------
    LinearNetwork

    Raises
    ------
    ValueError, TypeError
        If a number is not positive or `net` is no network.
    """
    h, steps = validation.require_number("step_size", step_size), validation.require_integer("steps", steps, low=1)
    require_network("net", net)
    slope: Any = loss.subgradient if isinstance(loss, AbsoluteError) else loss.gradient
    for _ in range(steps):
        egrads = pullback(net, slope(net))
        net = LinearNetwork._trusted(f - h * g for f, g in zip(net.factors, egrads, strict=True))
    return net


@dataclass(frozen=True, eq=False)
class BottleneckExample:
    r"""A local minimum of a smooth convex loss that is not global: the hidden layer is too narrow. Constructed here.

    Widths (2, 1, 2), :math:`f(W) = (W_{11} - 1)^2 + (W_{22} - \tfrac12)^2 + \omega (W_{12}^2 + W_{21}^2)`, at
    :math:`W = \mathrm{diag}(0, \tfrac12)`, balanced. It is a local minimum for :math:`\omega > 2`, a strict saddle
    below, and never global. The gradient end to end is :math:`-2 e_1 e_1^T`.

    Attributes
    ----------
    network : LinearNetwork
        The critical point.
    loss : Measured
        f, a sum without a factor 1/2.
    omega : float
        The weight of the entries off the diagonal.
    value : float
        f there, 1.
    lower_value : float
        f at diag(1, 0), also of rank one, 1/4.
    gradient_norm : float
        :math:`\|\nabla f\|_F` there, 2.
    hessian_eigenvalues : tuple of float
        Of the loss of the factors, increasing: 0 along the scaling, 2, and :math:`\omega \pm 2`.
    """

    network: LinearNetwork
    loss: Measured
    omega: float
    hessian_eigenvalues: tuple[float, ...]
    value: float = 1.0
    lower_value: float = 0.25
    gradient_norm: float = 2.0

    @property
    def local_minimum(self) -> bool:
        """Whether the critical point is a strict local minimum but for the scaling, the least other eigenvalue positive."""
        return self.omega > 2

    def widened(self) -> LinearNetwork:
        """Return the control: the same product with two hidden units, the second of them zero."""
        w1, w2 = self.network.factors
        return LinearNetwork([np.vstack([w1, 0 * w1]), np.hstack([w2, 0 * w2])])


def bottleneck_example(omega: float = 4.0) -> BottleneckExample:
    r"""Return the local minimum at a bottleneck that is not global: the width condition is needed.

    Parameters
    ----------
    omega : float
        The weight of the entries off the diagonal; a local minimum above 2, a strict saddle below.

    Returns
    -------
    BottleneckExample
        Constructed for this library; not an example printed by Laurent and von Brecht.

    Raises
    ------
    ValueError, TypeError
        If `omega` is not positive.

    Examples
    --------
    >>> example = bottleneck_example()
    >>> float(example.loss.value(example.network)).__round__(12), example.hessian_eigenvalues
    (1.0, (0.0, 2.0, 2.0, 6.0))
    """
    omega = validation.require_number("omega", omega)
    weights = 2 * np.array([[1.0, omega], [omega, 1.0]])  # Squared has a factor 1/2
    loss = Measured(Inputs(np.eye(2), 2), Squared(np.diag([1.0, 0.5]), weights))
    root = np.sqrt(0.5)
    network = LinearNetwork([np.array([[0.0, root]]), np.array([[0.0], [root]])])
    return BottleneckExample(network, loss, omega, tuple(sorted([0.0, 2.0, omega - 2.0, omega + 2.0])))
