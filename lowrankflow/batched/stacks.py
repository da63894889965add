"""Many points of one shape as one array a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..matrices import LinearNetwork, LowRankMatrix, random_frame
from .arrays import Stack, as_stack, like, namespace, per_member, taken, to_numpy

__all__ = ["LinearNetworks", "LowRankMatrices", "member_number", "stack_of"]


class _Members:
    """What both stacks have: a length, members by their number."""

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, i: int) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class LowRankMatrices(_Members):
    """R matrices U diag(s) V^T of one shape and rank.

    Parameters
    ----------
    u : array, (R, m, k)
        Orthonormal columns.
    s : array, (R, k)
        Positive, in decreasing order.
    vt : array, (R, k, n)
        Orthonormal rows.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit, are not finite, the frames are not orthonormal or the values not positive and decreasing.

    Examples
    --------
    >>> starts = LowRankMatrices.random(100, (4, 3), 2, rng=0)
    >>> len(starts), starts.shape, starts[7].rank
    (100, (4, 3), 2)
    """

    u: Stack
    s: Stack
    vt: Stack

    def __post_init__(self) -> None:
        for name, ndim in (("u", 3), ("s", 2), ("vt", 3)):
            object.__setattr__(self, name, as_stack(name, getattr(self, name), (ndim,)))
        (r, m, k), (_, _, n) = self.u.shape, self.vt.shape
        if tuple(self.s.shape) != (r, k) or tuple(self.vt.shape) != (r, k, n) or k > min(m, n):
            raise ValueError(
                "`u`, `s`, `vt` must have shapes (R, m, k), (R, k) and (R, k, n) with k <= min(m, n), got"
                f" {tuple(self.u.shape)}, {tuple(self.s.shape)} and {tuple(self.vt.shape)}."
            )
        xp = api.array_namespace(self.u, self.s, self.vt)
        eye = like(self.u, np.eye(k))
        for name, gram in (("u", self.u.mT @ self.u), ("vt", self.vt @ self.vt.mT)):
            far = float(xp.max(xp.abs(gram - eye)))
            if far > 1e-8:
                raise ValueError(f"`{name}` must be orthonormal in every member, off by {far:.2g}. Use a QR or an SVD.")
        if not bool(xp.all(self.s > 0)) or (k > 1 and not bool(xp.all(self.s[:, 1:] <= self.s[:, :-1]))):
            raise ValueError("`s` must be positive and decreasing in every member, got a value that is not.")

    @classmethod
    def of(cls, points: Sequence[LowRankMatrix]) -> LowRankMatrices:
        """Return the stack of matrices of one shape and rank."""
        shapes = {(*w.shape, w.rank) for w in points}
        _one_shape("starts", shapes)
        return cls(*(np.stack([getattr(w, name) for w in points]) for name in ("u", "s", "vt")))

    @classmethod
    def random(
        cls, members: int, shape: tuple[int, int], rank: int, *, rng: validation.Rng = None, singular_values: Any = None
    ) -> LowRankMatrices:
        """Return random frames with singular values, (k,) for all or (R, k); None: uniform in (0.5, 1).

        Parameters
        ----------
        members : int
            R.
        shape : tuple of int
            (m, n).
        rank : int
            k.
        rng : int or numpy.random.Generator, optional
            Source of randomness.
        singular_values : array_like, optional
            Positive and decreasing.
        """
        members, rng = validation.require_integer("members", members, low=1), validation.as_rng(rng)
        m, n = validation.require_sizes("shape", shape)
        rank = validation.require_integer("rank", rank, low=1)
        if rank > min(m, n):
            raise ValueError(f"`rank` must not exceed min(m, n) = {min(m, n)}, got {rank}.")
        u = np.stack([random_frame(m, rank, rng=rng) for _ in range(members)])
        v = np.stack([random_frame(n, rank, rng=rng) for _ in range(members)])
        if singular_values is None:
            s = -np.sort(-rng.uniform(0.5, 1.0, (members, rank)))
        else:
            s = as_stack("singular_values", singular_values, (1, 2))
            if tuple(s.shape) not in ((rank,), (members, rank)):
                raise ValueError(
                    f"`singular_values` must have shape ({rank},) or ({members}, {rank}), got {tuple(s.shape)}."
                )
            s = np.broadcast_to(to_numpy(s), (members, rank)).copy()
        return cls(u, s, np.matrix_transpose(v))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.u.shape[1], self.vt.shape[2]

    @property
    def rank(self) -> int:
        """The rank k."""
        return int(self.s.shape[1])

    def __len__(self) -> int:
        return int(self.s.shape[0])

    def __getitem__(self, i: int) -> LowRankMatrix:
        return LowRankMatrix._trusted(
            *(to_numpy(a[member_number(i, len(self)), ...]) for a in (self.u, self.s, self.vt))
        )

    def take(self, chosen: NDArray[np.intp]) -> LowRankMatrices:
        """Return some of the members."""
        return _trusted(LowRankMatrices, **{name: taken(getattr(self, name), chosen, 1) for name in ("u", "s", "vt")})

    def to_dense(self) -> Stack:
        """Return all matrices, (R, m, n)."""
        return (self.u * self.s[:, None, :]) @ self.vt

    def __repr__(self) -> str:
        return f"LowRankMatrices({len(self)} of {self.shape[0]} x {self.shape[1]}, rank {self.rank})"


@dataclass(frozen=True, eq=False, repr=False)
class LinearNetworks(_Members):
    """R networks W_N ... W_1 of one depth and widths; ``factors[0]`` holds all W_1, which act first.

    Parameters
    ----------
    factors : sequence of arrays, (R, d_j, d_(j-1))
        From W_1 to W_N.

    Raises
    ------
    ValueError, TypeError
        If there are none, or they do not chain, or are not finite.

    Examples
    --------
    >>> nets = LinearNetworks.gaussian(100, (4, 3), 2, widths=5, scale=0.1, rng=0)
    >>> len(nets), nets.shape, nets.depth, nets[7].widths
    (100, (4, 3), 2, (5,))
    """

    factors: tuple[Stack, ...]

    def __post_init__(self) -> None:
        found = validation.as_tuple(self.factors)
        if not found:
            raise TypeError(f"`factors` must be a sequence of stacks, got {validation.describe(self.factors)}.")
        stacks = tuple(as_stack(f"factors[{j}]", f, (3,)) for j, f in enumerate(found))
        object.__setattr__(self, "factors", stacks)
        api.array_namespace(*stacks)
        for j, (first, second) in enumerate(pairwise(stacks)):
            if first.shape[0] != second.shape[0] or first.shape[1] != second.shape[2]:
                raise ValueError(
                    f"`factors` do not chain: factors[{j + 1}] has shape {tuple(second.shape)}"
                    f" but factors[{j}] has {tuple(first.shape)}."
                )

    @classmethod
    def of(cls, networks: Sequence[LinearNetwork]) -> LinearNetworks:
        """Return the stack of networks of one depth and widths."""
        _one_shape("networks", {tuple(f.shape for f in net.factors) for net in networks})
        return cls(tuple(np.stack(layer) for layer in zip(*(net.factors for net in networks), strict=True)))

    @classmethod
    def gaussian(
        cls,
        members: int,
        shape: tuple[int, int],
        depth: int,
        *,
        widths: Any,
        scale: Any = 1.0,
        rng: validation.Rng = None,
    ) -> LinearNetworks:
        """Return networks with independent N(0, scale^2 / d_j) entries, d_j the rows of W_j. Not balanced.

        Parameters
        ----------
        members : int
            R.
        shape : tuple of int
            (m, n).
        depth : int
            N.
        widths : int or sequence of int
            Of the hidden layers.
        scale : float or array_like, (R,)
            Of each member.
        rng : int or numpy.random.Generator, optional
            Source of randomness.
        """
        members, rng = validation.require_integer("members", members, low=1), validation.as_rng(rng)
        sizes = LinearNetwork._sizes(shape, depth, widths)
        size = per_member("scale", scale, members)[:, None, None]
        return cls(tuple(size * rng.standard_normal((members, b, a)) / np.sqrt(b) for a, b in pairwise(sizes)))

    @classmethod
    def balanced(cls, points: LowRankMatrices, depth: int) -> LinearNetworks:
        """Return balanced factors of inner width k: diag(s)^(1/N) V^T, diag(s)^(1/N), ..., U diag(s)^(1/N)."""
        depth = validation.require_integer("depth", depth, low=1)
        xp = namespace(points.s)
        root = points.s ** (1 / depth)
        if depth == 1:
            return cls((points.to_dense(),))
        middle = root[:, :, None] * like(points.s, np.eye(points.rank))
        first, last = root[:, :, None] * points.vt, points.u * root[:, None, :]
        return cls((first, *(xp.asarray(middle, copy=True) for _ in range(depth - 2)), last))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.factors[-1].shape[1], self.factors[0].shape[2]

    @property
    def depth(self) -> int:
        """The number N of factors."""
        return len(self.factors)

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of the hidden layers."""
        return tuple(f.shape[1] for f in self.factors[:-1])

    def __len__(self) -> int:
        return int(self.factors[0].shape[0])

    def __getitem__(self, i: int) -> LinearNetwork:
        return LinearNetwork._trusted([to_numpy(f[member_number(i, len(self)), ...]) for f in self.factors])

    def take(self, chosen: NDArray[np.intp]) -> LinearNetworks:
        """Return some of the members."""
        return _trusted(LinearNetworks, factors=tuple(taken(f, chosen, 1) for f in self.factors))

    def to_dense(self) -> Stack:
        """Return all products, (R, m, n)."""
        found = self.factors[0]
        for f in self.factors[1:]:
            found = f @ found
        return found

    def __repr__(self) -> str:
        m, n = self.shape
        return f"LinearNetworks({len(self)} of {m} x {n}, depth {self.depth}, widths {self.widths})"


def _trusted(kind: Callable[..., Any], **parts: Any) -> Any:
    """Return a stack whose parts are known to fit."""
    found = object.__new__(kind)  # type: ignore[arg-type]
    for name, value in parts.items():
        object.__setattr__(found, name, value)
    return found


def member_number(i: int, members: int) -> int:
    """Return the number of a member, counted from the end where it is negative."""
    i = index(i)
    if not -members <= i < members:
        raise IndexError(f"`i` must lie between {-members} and {members - 1}, got {i}.")
    return i % members


def _one_shape(name: str, shapes: set[Any]) -> None:
    if len(shapes) != 1:
        some = " and ".join(str(shape) for shape in sorted(shapes, key=str)[:2])
        raise ValueError(f"`{name}` must be of one shape, got {some or 'none'}. Make a batch of each.")


def stack_of(name: str, starts: Any) -> LowRankMatrices | LinearNetworks:
    """Return a stack of what may be one already, or a sequence of single points."""
    if isinstance(starts, (LowRankMatrices, LinearNetworks)):
        return starts
    found = validation.as_tuple(starts) if not isinstance(starts, (LowRankMatrix, LinearNetwork)) else (starts,)
    for kind, many in ((LowRankMatrix, LowRankMatrices), (LinearNetwork, LinearNetworks)):
        if found and all(isinstance(w, kind) for w in found):
            return many.of(found)
    got = validation.describe(starts if not found else found[0])
    raise TypeError(
        f"`{name}` must be LowRankMatrices, LinearNetworks or a sequence of such points, all of one kind, got {got}."
    )
