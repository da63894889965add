"""Losses of many members at once: stacks (R, m, n) in, one number or one gradient a member out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Protocol, Self, cast

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import losses as single
from .. import validation
from ..losses.protocol import Reduction, Samples
from .arrays import Stack, as_stack, namespace, product, squares, taken, to_numpy
from .stacks import member_number

__all__ = ["BatchedLoss", "Completion", "LeastSquares", "Sensing", "require_loss", "stacked"]


class BatchedLoss(Protocol):
    """What is asked of a loss of R members. Arrays are of the namespace in which the starts are.

    Optional: ``sides(lt, vt, ut)``, which returns (G V)^T and (G^T U)^T of the gradients G at W = L V^T without forming
    either, for stacks lt (R, k, m), vt (R, k, n), ut (R, l, m); and ``loss[i]``, the single loss of member i, for what has
    no batched form.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), that of each W."""
        ...

    @property
    def members(self) -> int | None:
        """R; None where all members share one loss, so that there may be any number of them."""
        ...

    def value(self, w: Stack) -> Stack:
        """Return L(W) of each member, (R,), for w (R, m, n)."""
        ...

    def gradient(self, w: Stack) -> Stack:
        """Return the Frobenius gradients, (R, m, n)."""
        ...

    def take(self, chosen: NDArray[np.intp]) -> BatchedLoss:
        """Return the loss of some of the members; itself where they share it."""
        ...


class _Members:
    """What the losses have in common: their members, by number or some of them."""

    members: int | None
    _data: tuple[Stack, Stack]  #: as given, of all members that there were at first
    _ones: Sequence[Any] | None = None  #: single losses that it was made of
    _numbers: NDArray[np.intp] | None = None  #: which of the members at first these are; None: all
    _axes: ClassVar[Mapping[str, int]] = {}  #: arrays, and how many axes they have where each member has its own

    def take(self, chosen: NDArray[np.intp]) -> Self:
        """Return the loss of some of the members."""
        if self.members is None:
            return self
        found = copy(self)
        found.members = int(chosen.size)
        found._numbers = chosen if self._numbers is None else self._numbers[chosen]
        for name, axes in self._axes.items():
            value = getattr(self, name)
            setattr(found, name, value if isinstance(value, float) else taken(value, chosen, axes))
        return found

    def __getitem__(self, i: int) -> Any:
        """Return the single loss of a member."""
        i = i if self.members is None else member_number(i, self.members)
        number = i if self._numbers is None else int(self._numbers[i])
        if self._ones is not None:
            return self._ones[0 if self.members is None else number]
        return self._one(number)

    def _one(self, i: int) -> Any:
        """Return the single loss of a member at first, of the data as given."""
        raise NotImplementedError


class LeastSquares(_Members):
    r"""The square losses :math:`L(W) = \tfrac12 \|W X - Y\|_F^2` of R members, shared or each its own data.

    Parameters
    ----------
    inputs : array_like
        X, (n, p) for all members or (R, n, p), samples in columns; (p, n) or (R, p, n) with ``samples="rows"``.
    targets : array_like
        Y, (m, p) or (R, m, p); (p, m) or (R, p, m).
    reduction : {"sum", "mean"}
        "mean" divides by p.
    samples : {"columns", "rows"}
        Orientation of both.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    members : int or None
        R; None where both are shared.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit, are not finite or not float64.

    Notes
    -----
    As in `lowrankflow.losses.LeastSquares` more samples than inputs are compressed by a QR factorisation, an identity.
    What members share is multiplied for all of them in one product.

    Examples
    --------
    >>> loss = LeastSquares(np.eye(2), np.stack([np.eye(2), 2 * np.eye(2)]))
    >>> loss.members, loss.value(np.zeros((2, 2, 2))).tolist()
    (2, [1.0, 4.0])
    """

    members: int | None
    shape: tuple[int, int]

    _axes: ClassVar[Mapping[str, int]] = {
        "_inputs": 3,
        "_targets": 3,
        "_gram": 3,
        "_cross": 3,
        "_cross_t": 3,
        "_constant": 1,
    }

    def __init__(
        self, inputs: Any, targets: Any, *, reduction: Reduction = "sum", samples: Samples = "columns"
    ) -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        validation.require_choice("samples", samples, ("columns", "rows"))
        x, y = _data("inputs", inputs, (2, 3)), _data("targets", targets, (2, 3))
        xp = api.array_namespace(x, y)
        if samples == "rows":
            x, y = x.mT, y.mT
        if x.shape[-1] != y.shape[-1]:
            raise ValueError(
                f"`targets` must have as many samples as `inputs`, got {y.shape[-1]} and {x.shape[-1]}."
                f" See `samples`, now {samples!r}."
            )
        self.members = _members([x, y], 3)
        self.shape = (int(y.shape[-2]), int(x.shape[-2]))
        self._data, self._reduction = (x, y), reduction
        if reduction == "mean":
            x, y = x / x.shape[-1] ** 0.5, y / x.shape[-1] ** 0.5
        self._constant: Stack | float = 0.0
        if x.shape[-1] > x.shape[-2]:
            q, r = xp.linalg.qr(x.mT, mode="reduced")
            yq = y @ q
            rest = y - yq @ q.mT
            self._constant = 0.5 * xp.sum(rest * rest, axis=(-2, -1))
            x, y = r.mT, yq
        self._inputs, self._targets = x, y
        self._gram, self._cross, self._cross_t = x @ x.mT, y @ x.mT, x @ y.mT

    def value(self, w: Stack) -> Stack:
        """Return L(W) of each member, a sum of squares of residuals."""
        residual = product(w, self._inputs) - self._targets
        return 0.5 * namespace(w).sum(residual * residual, axis=(-2, -1)) + self._constant

    def gradient(self, w: Stack) -> Stack:
        """Return (W X - Y) X^T of each member."""
        return product(w, self._gram) - self._cross

    def sides(self, lt: Stack, vt: Stack, ut: Stack) -> tuple[Stack, Stack]:
        """Return (G V)^T and (G^T U)^T at W = L V^T, G = L V^T C - B."""
        right = product(vt, self._gram)
        gv = (right @ vt.mT) @ lt - product(vt, self._cross_t)
        return gv, (ut @ lt.mT) @ right - product(ut, self._cross)

    def _one(self, i: int) -> Any:
        x, y = (to_numpy(a if a.ndim == 2 else a[i, ...]) for a in self._data)
        return single.LeastSquares(x, y, reduction=self._reduction)

    def __repr__(self) -> str:
        return f"batched.LeastSquares({_many(self)}, {self._data[0].shape[-1]} samples, reduction={self._reduction!r})"


class Completion(_Members):
    r"""The square losses on observed entries of R members, :math:`L(W) = \tfrac12 \sum_{ij} c_{ij} (W_{ij} - y_{ij})^2`.

    Parameters
    ----------
    observed : array_like
        c, (m, n) for all members or (R, m, n): which entries were observed, True or False, or non-negative weights; at
        least one of each member positive.
    values : array_like
        y, (m, n) or (R, m, n); what stands where nothing was observed does not matter.
    reduction : {"sum", "mean"}
        "mean" divides by the number of observed entries of the member.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    members : int or None
        R; None where both are shared.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit, are not finite, a weight is negative or a member has observed nothing.

    Notes
    -----
    Masks are dense: made for many small problems. One large one is `lowrankflow.losses.Completion`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shares = np.array([0.3, 0.6, 0.9])[:, None, None]
    >>> loss = Completion(rng.random((3, 5, 4)) < shares, np.ones((5, 4)))
    >>> loss.members, loss.shape
    (3, (5, 4))
    """

    members: int | None
    shape: tuple[int, int]

    _axes: ClassVar[Mapping[str, int]] = {"_weights": 3, "_values": 3}

    def __init__(self, observed: Any, values: Any, *, reduction: Reduction = "sum") -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        c, y = _data("observed", observed, (2, 3)), _data("values", values, (2, 3), gaps=True)
        xp = api.array_namespace(c, y)
        if c.shape[-2:] != y.shape[-2:]:
            raise ValueError(f"`values` has shape {tuple(y.shape)} but `observed` has {tuple(c.shape)}.")
        seen = xp.sum(xp.astype(c > 0, xp.float64), axis=(-2, -1))
        if bool(xp.any(c < 0)) or not bool(xp.all(seen > 0)):
            raise ValueError(
                "`observed` must be non-negative, and positive somewhere in every member, got one that is not."
            )
        if bool(xp.any((c > 0) & ~xp.isfinite(y))):
            raise ValueError("`values` must be finite where they were observed, got nan or inf.")
        y = xp.where(xp.isfinite(y), y, xp.zeros_like(y))
        self.members = _members([c, y], 3)
        self.shape = (int(c.shape[-2]), int(c.shape[-1]))
        self._data, self._reduction = (c, y), reduction
        self._weights, self._values = c if reduction == "sum" else c / seen[..., None, None], y

    def value(self, w: Stack) -> Stack:
        """Return L(W) of each member."""
        residual = w - self._values
        return 0.5 * namespace(w).sum(self._weights * residual * residual, axis=(-2, -1))

    def gradient(self, w: Stack) -> Stack:
        """Return the weighted residuals of each member."""
        return self._weights * (w - self._values)

    def _one(self, i: int) -> Any:
        c, y = (to_numpy(a if a.ndim == 2 else a[i, ...]) for a in self._data)
        if not np.isin(c, (0.0, 1.0)).all():
            raise TypeError("`observed` must be True or False for the loss of one member, got weights.")
        rows, cols = np.nonzero(c)
        return single.Completion(rows, cols, y[rows, cols], self.shape, reduction=self._reduction)

    def __repr__(self) -> str:
        return f"batched.Completion({_many(self)}, reduction={self._reduction!r})"


class Sensing(_Members):
    r"""The square losses of linear measurements of R members, :math:`L(W) = \tfrac12 \sum_q (\langle A_q, W \rangle - y_q)^2`.

    Parameters
    ----------
    matrices : array_like
        A_1, ..., A_p, (p, m, n) for all members or (R, p, m, n).
    values : array_like
        y, (p,) or (R, p).
    reduction : {"sum", "mean"}
        "mean" divides by p.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    members : int or None
        R; None where both are shared.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit or are not finite.

    Examples
    --------
    >>> loss = Sensing(np.ones((1, 2, 2)), [[4.0], [8.0]])
    >>> loss.members, loss.value(np.ones((2, 2, 2))).tolist()
    (2, [0.0, 8.0])
    """

    members: int | None
    shape: tuple[int, int]

    _axes: ClassVar[Mapping[str, int]] = {"_maps": 3, "_values": 2}

    def __init__(self, matrices: Any, values: Any, *, reduction: Reduction = "sum") -> None:
        validation.require_choice("reduction", reduction, ("sum", "mean"))
        a, y = _data("matrices", matrices, (3, 4)), _data("values", values, (1, 2))
        xp = api.array_namespace(a, y)
        if a.shape[-3] != y.shape[-1]:
            raise ValueError(f"`values` must be as many as `matrices`, got {y.shape[-1]} and {a.shape[-3]}.")
        counts = {int(s.shape[0]) for s, axes in ((a, 4), (y, 2)) if s.ndim == axes}
        self.members = _one_count(counts)
        self.shape = (int(a.shape[-2]), int(a.shape[-1]))
        self._data, self._reduction = (a, y), reduction
        root = 1.0 if reduction == "sum" else a.shape[-3] ** -0.5
        flat = xp.reshape(a, (*a.shape[:-2], -1))
        self._maps, self._values = root * flat, root * y

    def _residual(self, w: Stack) -> Stack:
        xp = namespace(w)
        return product(xp.reshape(w, (w.shape[0], 1, -1)), self._maps.mT)[:, 0, :] - self._values

    def value(self, w: Stack) -> Stack:
        """Return L(W) of each member."""
        return 0.5 * squares(self._residual(w))

    def gradient(self, w: Stack) -> Stack:
        """Return sum_q r_q A_q of each member."""
        return namespace(w).reshape(product(self._residual(w)[:, None, :], self._maps), w.shape)

    def _one(self, i: int) -> Any:
        a, y = (to_numpy(s if s.ndim == own - 1 else s[i, ...]) for s, own in zip(self._data, (4, 2), strict=True))
        return single.Measured(single.Sensing(a), single.Squared(y), reduction=self._reduction)

    def __repr__(self) -> str:
        return f"batched.Sensing({_many(self)}, {self._data[0].shape[-3]} matrices, reduction={self._reduction!r})"


def stacked(losses: Any) -> BatchedLoss:
    """Return the batched loss of single ones of one kind and shape; of one alone, that all members share.

    What all of them have in common, inputs or targets, is kept once.

    Parameters
    ----------
    losses : Loss, sequence of Loss or BatchedLoss
        `LeastSquares`, `Completion`, or `Measured` with `Squared`, whose measurement is written out as matrices; a batched
        loss is returned as it is.

    Raises
    ------
    ValueError, TypeError
        If they differ in kind or shape, or have no batched form.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> stacked([lrf.losses.LeastSquares(np.eye(2), i * np.eye(2)) for i in (1, 2, 3)]).members
    3
    """
    alone = hasattr(losses, "value")
    ones = (losses,) if alone else validation.as_tuple(losses)
    if not ones:
        raise TypeError(f"`losses` must be a loss, or one for each member, got {validation.describe(losses)}.")
    kinds = [next((make for says, make in _KINDS if says(loss)), None) for loss in ones]
    if alone and kinds[0] is None:
        require_loss(losses)
        return losses
    shapes = {getattr(loss, "shape", None) for loss in ones}
    if len(shapes) > 1:
        some = " and ".join(sorted(map(str, shapes))[:2])
        raise ValueError(f"`losses` must be of one shape, got {some}. Make a batch of each.")
    make = kinds[0]
    if make is None or any(kind is not make for kind in kinds):
        other = next(loss for loss, kind in zip(ones, kinds, strict=True) if kind is None or kind is not make)
        raise TypeError(
            "`losses` must be all LeastSquares, all Completion or all Measured with Squared, or one object with `value` and"
            f" `gradient` of stacks (R, m, n), got {validation.describe(other)}."
        )
    found = make(ones, alone)
    found.members, found._ones = None if alone else len(ones), ones
    return found


def require_loss(loss: Any) -> None:
    """Refuse what is no batched loss."""
    missing = [name for name in ("shape", "members", "value", "gradient", "take") if not hasattr(loss, name)]
    if missing:
        raise TypeError(
            f"`losses` must have `shape`, `members`, `value`, `gradient` and `take`, got {validation.describe(loss)}"
            f" without {', '.join(missing)}. See lowrankflow.batched.BatchedLoss."
        )


def _data(name: str, value: Any, ndim: tuple[int, ...], *, gaps: bool = False) -> Stack:
    """Return an array of data: no finite entry is beyond what can be squared."""
    array = as_stack(name, value, ndim, gaps=gaps)
    xp = namespace(array)
    peak = xp.max(xp.abs(xp.where(xp.isfinite(array), array, xp.zeros_like(array))))
    validation.require_peak(name, np.array([float(peak)]))
    return array


def _squares(ones: Sequence[single.LeastSquares], alone: bool) -> LeastSquares:
    """Return the batched loss; what was compressed already is taken as it is."""
    data = [loss.compressed for loss in ones]
    samples = max(x.shape[1] for x, _, _ in data)  # samples of zeros add nothing
    x, y = (
        _shared([np.pad(a, ((0, 0), (0, samples - a.shape[1]))) for a in arrays], alone)
        for arrays in list(zip(*data, strict=True))[:2]
    )
    found = LeastSquares(x, y)
    found._constant = data[0][2] if alone else np.array([c for _, _, c in data])
    return found


def _completions(ones: Sequence[single.Completion], alone: bool) -> Completion:
    observed, values = np.zeros((2, len(ones), *ones[0].shape))
    for i, loss in enumerate(ones):
        observed[i, loss.rows, loss.cols] = loss.curvature  # the weight of an entry
        values[i, loss.rows, loss.cols] = loss.values
    return Completion(_shared(list(observed), alone), _shared(list(values), alone))


def _sensing(ones: Sequence[single.Measured], alone: bool) -> Sensing:
    """Return the batched loss: the matrix of each output is what the adjoint makes of its unit vector."""
    most = max(int(np.prod(loss.measurement.outputs)) for loss in ones)
    maps, values = np.zeros((len(ones), most, *ones[0].shape)), np.zeros((len(ones), most))
    for i, loss in enumerate(ones):
        outputs, n = tuple(loss.measurement.outputs), loss.shape[1]
        misfit = cast(single.Squared, loss.misfit)
        root = np.ones(outputs) if misfit.weights is None else np.sqrt(misfit.weights)
        root = root if loss.reduction == "sum" else root / np.sqrt(loss.measurement.samples)
        p = root.size
        for q, unit in enumerate(np.eye(p)):
            maps[i, q] = loss.measurement.adjoint((unit * root.ravel()).reshape(outputs)) @ np.eye(n)
        values[i, :p] = (root * misfit.targets).ravel()
    return Sensing(_shared(list(maps), alone), _shared(list(values), alone))


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
    (lambda loss: isinstance(loss, single.LeastSquares), _squares),
    (lambda loss: isinstance(loss, single.Completion), _completions),
    (lambda loss: isinstance(loss, single.Measured) and type(loss.misfit) is single.Squared, _sensing),
)


def _shared(arrays: Sequence[NDArray[np.float64]], alone: bool) -> NDArray[np.float64]:
    """Return one array where all are equal, else their stack."""
    same = alone or all(a is arrays[0] or np.array_equal(a, arrays[0]) for a in arrays)
    return arrays[0] if same else np.stack(arrays)


def _members(arrays: Sequence[Stack], axes: int) -> int | None:
    """Return how many members the arrays have; None where all of them are shared."""
    return _one_count({int(a.shape[0]) for a in arrays if a.ndim == axes})


def _one_count(counts: set[int]) -> int | None:
    """Return the one number of members; None where there is none."""
    if len(counts) > 1:
        raise ValueError(f"Arrays of one loss must have one number of members, got {' and '.join(map(str, counts))}.")
    return counts.pop() if counts else None


def _many(loss: Any) -> str:
    m, n = loss.shape
    return f"{m} x {n}, {'shared' if loss.members is None else f'{loss.members} members'}"
