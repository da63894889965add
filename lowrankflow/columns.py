"""What people plot along a run: functions of (t, W) for `Save` and `gradient_descent`, asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from . import validation
from .geometry import decay_rate, imbalance_rate, kernel_rate
from .geometry import sharpness as sharpness_of
from .kernels import alignment, similarities, tangent_kernel
from .losses import Loss, facts
from .losses.requirements import require_loss
from .matrices import LinearNetwork, singular_values
from .validation import Array

__all__ = ["NAMES", "OF_FACTORS", "distance_to", "held_out", "kernel_distance", "named", "similarity_to"]

Column = Callable[[float, Any], Any]


def named(names: Iterable[str], loss: Loss) -> dict[str, Column]:
    r"""Return columns by their names.

    Parameters
    ----------
    names : iterable of str
        Of `NAMES`:

        - ``sharpness``: largest eigenvalue of the Hessian of the loss of the factors, in the units of the loss;
        - ``imbalance``: :math:`\max_j \|D_j\|_2`, :math:`D_j = W_{j+1}^T W_{j+1} - W_j W_j^T`, which the flow conserves;
        - ``imbalance_spectrum``: the eigenvalues of all D_j, each D_j's increasing, D_1's first;
        - ``layer_alignment``: (N-1,), :math:`\|W_{j+1} W_j\|_2 / (\|W_{j+1}\|_2 \|W_j\|_2)`: 1 exactly where a top right
          singular vector of W_{j+1} is a top left one of W_j;
        - ``mode_strengths``: (q,), :math:`u_i^T B v_i` with :math:`B = W C^{1/2}` the whitened W, and (u_i, v_i) the
          singular pairs of the whitened targets: what W has of each, sigma_i at the minimiser;
        - ``mode_alignment``: (k,), :math:`(u_i^T \hat u_i)(v_i^T \hat v_i)`, with (û_i, v̂_i) the i-th singular pair of B;
        - ``decay_rate``: :math:`-L' / (L - L_*)` under the factor flow, L_* the least value of all matrices;
        - ``kernel_rate``, ``imbalance_rate``: what it is at least, by the kernel, and of two layers by the imbalance and W
          alone (`geometry.SOURCES` says where each comes from);
        - ``kernel_trace``: the trace of the tangent kernel, the mean speed of W for gradients of no direction, times m n;
        - ``effective_rank``: :math:`\exp(-\sum_i p_i \ln p_i)`, p the singular values of W over their sum.

        The first four, rates and the kernel need factors: runs of a FactorFlow and of gradient descent. Modes and rates need
        the square loss.
    loss : Loss
        Of the run.

    Returns
    -------
    dict
        Names to functions of (t, W).

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, or the loss has no targets to align with.

    References
    ----------
    Effective rank: O. Roy, M. Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(2), np.diag([2.0, 1.0]))
    >>> net = lrf.LinearNetwork.identity((2, 2), 2, widths=2)
    >>> path = lrf.gradient_descent(loss, net, step_size=0.1, steps=100, columns=["sharpness", "effective_rank"])
    >>> path.columns["sharpness"][-1].round(4).item()
    4.0
    """
    require_loss(loss)
    if isinstance(names, str):
        raise TypeError(f"`columns` must be names in a list, got {names!r}. Use [{names!r}].")
    found: dict[str, Column] = {}
    for name in names:
        if not isinstance(name, str) or name not in NAMES:
            raise ValueError(f"`columns` must be of {', '.join(NAMES)}, got {validation.describe(name)}.")
        if name in found:
            raise ValueError(f"`columns` must name each once, got {name!r} twice.")
        if (name.startswith("mode_") or name.endswith("_rate")) and facts(loss).spectrum is None:
            raise ValueError(f"`columns` {name!r} needs the targets of a square loss, got {type(loss).__name__}.")
        found[name] = partial(NAMES[name], loss)
    return found


def held_out(loss: Loss) -> Column:
    """Return the column of another loss, for instance that of data that were held out.

    Parameters
    ----------
    loss : Loss
        Of the shape of W.

    Returns
    -------
    callable
        (t, W) to the value, in the normalisation of that loss.
    """
    require_loss(loss)

    def value(t: float, w: Any) -> float:
        return float(loss.value(w))

    return value


def distance_to(path: Callable[[float], Any]) -> Column:
    """Return the column of the distance of the products, ``||W - path(t)||_F``.

    Parameters
    ----------
    path : Trajectory or callable
        W at time t: a run with ``save=Save(dense=True)``, or any function that returns what has ``to_dense``. Beyond the
        end of a run the distance is nan.

    Returns
    -------
    callable
        (t, W) to the distance, in the units of W.
    """
    validation.require_callable("path", path)
    times = getattr(path, "t", None)

    def distance(t: float, w: Any) -> float:
        if times is not None and not times[0] <= t <= times[-1]:
            return float("nan")
        return float(linalg.norm(w.to_dense() - path(t).to_dense()))

    return distance


def kernel_distance(start: LinearNetwork) -> Column:
    """Return the column of the change of the tangent kernel, ``||K - K_0|| / ||K_0||``: 0 while training is lazy.

    Parameters
    ----------
    start : LinearNetwork
        Whose kernel is K_0, of the depth of the run.

    Returns
    -------
    callable
        (t, W) to the distance, of runs of a FactorFlow and of gradient descent.
    """
    first = tangent_kernel(start)

    def distance(t: float, w: Any) -> float:
        return tangent_kernel(_factors("kernel_distance", w)).distance(first)

    return distance


def similarity_to(start: LinearNetwork, inputs: ArrayLike | None = None) -> Column:
    """Return the column of how alike samples still look to each layer as at the start: one cosine a layer, see `kernels`.

    Parameters
    ----------
    start : LinearNetwork
        Of the depth of the run.
    inputs : array_like, (n, p), optional
        Samples in columns; None: the identity.

    Returns
    -------
    callable
        (t, W) to (N,) numbers between 0 and 1, of runs of a FactorFlow and of gradient descent.
    """
    first = similarities(start, inputs)

    def cosines(t: float, w: Any) -> Array:
        now = similarities(_factors("similarity_to", w), inputs)
        return np.array([alignment(a, b) for a, b in zip(now, first, strict=True)])

    return cosines


def _factors(name: str, w: Any) -> LinearNetwork:
    if not isinstance(w, LinearNetwork):
        raise TypeError(f"`columns` {name!r} needs factors, got a run of {type(w).__name__}. Use a FactorFlow.")
    return w


def _sharpness(loss: Loss, t: float, w: Any) -> float:
    return sharpness_of(loss, _factors("sharpness", w))


def _imbalance(loss: Loss, t: float, w: Any) -> float:
    return _factors("imbalance", w).imbalance()


def _imbalance_spectrum(loss: Loss, t: float, w: Any) -> Array:
    return np.concatenate([linalg.eigvalsh(d) for d in _factors("imbalance_spectrum", w).imbalances()])


def _layer_alignment(loss: Loss, t: float, w: Any) -> Array:
    factors = _factors("layer_alignment", w).factors
    norms = [float(linalg.norm(f, 2)) for f in factors]
    # scaled first: norms of tiny factors would underflow in the product
    unit = [f / norm if norm else f for f, norm in zip(factors, norms, strict=True)]
    return np.array([float(linalg.norm(b @ a, 2)) for a, b in pairwise(unit)])


def _mode_strengths(loss: Loss, t: float, w: Any) -> Array:
    spectrum, b = facts(loss).spectrum, loss.whiten(w)  # type: ignore[attr-defined]
    assert spectrum is not None
    return np.asarray(((spectrum.u.T @ b.left) * (b.right @ spectrum.vt.T).T).sum(1))


def _mode_alignment(loss: Loss, t: float, w: Any) -> Array:
    spectrum, b = facts(loss).spectrum, loss.whiten(w)  # type: ignore[attr-defined]
    assert spectrum is not None
    u, _, vt = linalg.svd(b.left @ b.right, full_matrices=False, check_finite=False)
    k = min(spectrum.u.shape[1], u.shape[1], *(w.widths if isinstance(w, LinearNetwork) else (w.rank,)))
    return np.asarray((spectrum.u[:, :k] * u[:, :k]).sum(0) * (spectrum.vt[:k] * vt[:k]).sum(1))


def _rate(name: str, function: Callable[[Loss, LinearNetwork], float], loss: Loss, t: float, w: Any) -> float:
    return function(loss, _factors(name, w))


def _kernel_trace(loss: Loss, t: float, w: Any) -> float:
    return tangent_kernel(_factors("kernel_trace", w)).trace()


def _effective_rank(loss: Loss, t: float, w: Any) -> float:
    s = singular_values(w)
    if not s.sum() > 0:
        return 0.0
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum()))


#: those that runs of factors alone have
OF_FACTORS = (
    "sharpness", "imbalance", "imbalance_spectrum", "layer_alignment", "kernel_trace", "decay_rate", "kernel_rate",
    "imbalance_rate",
)  # fmt: skip

#: the columns that have a name
NAMES: Mapping[str, Callable[[Any, float, Any], Any]] = {
    "sharpness": _sharpness,
    "imbalance": _imbalance,
    "imbalance_spectrum": _imbalance_spectrum,
    "layer_alignment": _layer_alignment,
    "mode_strengths": _mode_strengths,
    "mode_alignment": _mode_alignment,
    "effective_rank": _effective_rank,
    "kernel_trace": _kernel_trace,
    "decay_rate": partial(_rate, "decay_rate", decay_rate),
    "kernel_rate": partial(_rate, "kernel_rate", kernel_rate),
    "imbalance_rate": partial(_rate, "imbalance_rate", imbalance_rate),
}
