"""`classify`: the place of a network in the landscape of a loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import validation
from ..losses import Loss, facts
from ..losses.requirements import require_loss, require_value
from ..losses.tensors import in_arrays
from ..matrices import LinearNetwork
from ..matrices.requirements import require_network
from .anyloss import certify_gradient
from .hessian import extreme_eigenvalues
from .nearest import nearest_place
from .places import GLOBAL, NOT_CRITICAL, STRICT, UNDECIDED, Place, place_of
from .whitened import Whitened

__all__ = ["classify"]

CRITICAL = 1e-8  #: gradient over the size of its terms that passes for zero


@validation.quietly
def classify(
    network: LinearNetwork,
    loss: Loss,
    *,
    threshold: float = CRITICAL,
    nearby: bool = True,
    products: int = 100,
    rng: validation.Rng = 0,
) -> Place:
    r"""Say at which critical point of the factor loss a network is, and how sure that is.

    For the square loss the classification is complete [1]_. With r the rank of the product at a critical point, S its index
    set, :math:`W X = \sum_{i \in S}` of the singular pairs of the whitened targets, and r* the narrowest layer, or the rank of
    the targets if less: a global minimiser if S = {1, ..., r*}; a strict saddle if S is not {1, ..., r}, or if one of its
    pivots is not tightened; else a non-strict saddle.

    Parameters
    ----------
    network : LinearNetwork, (m, n)
        Two factors or more.
    loss : Loss
        `LeastSquares` for the exact theory. Any other loss is judged by its gradient and by Ritz values of its Hessian: a
        negative one proves a strict saddle, the absence of one proves nothing.
    threshold : float
        Factor gradient, over the size of its terms, that passes for zero.
    nearby : bool
        Whether a network that is not critical is rounded to the nearest critical point found, whose place is then
        ``nearby``, with its ``distance``.
    products : int
        Budget of Hessian products, for other losses.
    rng : int or numpy.random.Generator, optional
        Starts the Hessian iteration.

    Returns
    -------
    Place
        Values in the normalisation of the loss; the literature's square loss has no 1/2.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, the network has a single factor, or the loss is not finite there.

    References
    ----------
    .. [1] E. M. Achour, F. Malgouyres, S. Gerchinovitz, The loss landscape of deep linear neural networks: a second-order
       analysis, Journal of Machine Learning Research 25(242), 2024, Theorem 7. Targets of lower rank, more targets than
       inputs and equal singular values: docs/theory.md#landscape.

    Examples
    --------
    >>> import numpy as np, lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> here = classify(lrf.LinearNetwork([np.zeros((2, 2))] * 3), loss)
    >>> here.kind, here.rank, here.order, here.critical_value
    ('non-strict saddle', 0, 3, 2.5)
    """
    require_network("network", network)
    require_loss(loss)
    validation.require_shape("network", network.shape, loss.shape)
    loss = in_arrays(loss, network)
    if network.depth < 2:
        raise ValueError("`network` must have two factors or more, got 1: with one the loss is that of W.")
    threshold = validation.require_number("threshold", threshold)
    if not threshold < 1:
        raise ValueError(f"`threshold` must be below 1, got {threshold:g}: every network would pass for critical.")
    products = validation.require_integer("products", products, low=1)
    with np.errstate(over="ignore", invalid="ignore"):
        value = require_value(loss.value(network))
        size = sum(float(np.log10(max(1.0, float(np.linalg.norm(f, 2))))) for f in network.factors)
    if not (np.isfinite(value) and size < 140):
        raise ValueError(
            f"`network` must be of a size that its products are finite, got a loss of {value:g}. Change the unit."
        )
    said = facts(loss)
    if said.spectrum is None or said.whiten is None:
        return _by_numbers(network, loss, value, threshold, products, rng)
    problem = Whitened.of(loss)
    here = place_of(problem, network, value, threshold)
    if here.kind in (NOT_CRITICAL, UNDECIDED) and nearby:
        return replace(here, nearby=nearest_place(problem, network, threshold))
    return here


def _by_numbers(
    network: LinearNetwork, loss: Loss, value: float, threshold: float, products: int, rng: validation.Rng
) -> Place:
    """Return what gradient and Hessian say: that is not the whole truth."""
    found = certify_gradient(loss, network)
    gradient = found.relative_factor_gradient
    here = Place(
        NOT_CRITICAL, exact=False, value=value, gradient=gradient, threshold=threshold,
        notes=("no exact theory for this loss: judged by its gradient and by Ritz values of its Hessian",),
    )  # fmt: skip
    if not gradient <= threshold:
        return here
    if found.kind == GLOBAL:
        return replace(here, kind=GLOBAL, notes=(*here.notes, "convex in W, and the gradient end to end is zero"))
    ends = extreme_eigenvalues(loss, network, products=products, rng=rng)
    if ends.negative:
        return replace(
            here, kind=STRICT, order=2,
            notes=(*here.notes, f"least eigenvalue of the Hessian at most {ends.upper_bound:.3g}, scale {ends.scale:.3g}"),
        )  # fmt: skip
    why = f"no negative eigenvalue found in {ends.products} Hessian products, which proves nothing; {found.reason}"
    return replace(here, kind=UNDECIDED, notes=(*here.notes, why))
