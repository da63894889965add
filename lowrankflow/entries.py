"""Entries of a product that is never formed, at given positions; and what positions have to be.

Two kernels with the same answers to roundoff: numpy by chunks, and one compiled by numba where that is installed
(``pip install "lowrankflow[accel]"``). Which of them runs depends on the number of entries alone, so a run repeats bit
for bit on one installation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .validation import Array, refuse_masked

__all__ = ["as_index", "as_positions", "refuse_repeated", "sampled_product"]

_CHUNK = 16384  # two gathered blocks of this many rows stay in the cache at rank 10
# importing numba and compiling take 0.5 to 0.8 s, and 8 ns an entry are gained: from here on that is paid back after 200
# calls, fewer than a trajectory takes
_WORTH_COMPILING = 2**19
_COMPILED_FOR = {np.dtype(np.int32), np.dtype(np.int64)}

_Kernel = Callable[[Array, Array, NDArray[Any], NDArray[Any], Array], None]


def sampled_product(left: Array, right: Array, rows: NDArray[Any], cols: NDArray[Any]) -> Array:
    """Return the entries ``(left @ right)[rows, cols]`` in O(number of entries x inner size)."""
    left, right_t = np.ascontiguousarray(left, np.float64), np.ascontiguousarray(right.T, np.float64)
    out = np.empty(rows.size)
    _kernel(rows, cols)(left, right_t, rows, cols, out)
    return out


def _kernel(rows: NDArray[Any], cols: NDArray[Any]) -> _Kernel:
    """Return the kernel for these positions: compiled where that pays and numba is there."""
    if rows.size < _WORTH_COMPILING or rows.shape != cols.shape or not {rows.dtype, cols.dtype} <= _COMPILED_FOR:
        return _by_chunks
    return _compiled() or _by_chunks


def _by_chunks(left: Array, right_t: Array, rows: NDArray[Any], cols: NDArray[Any], out: Array) -> None:
    chunk = min(_CHUNK, max(rows.size, 1))
    a, b, ones = np.empty((chunk, left.shape[1])), np.empty((chunk, left.shape[1])), np.ones(left.shape[1])
    for start in range(0, rows.size, chunk):
        stop = min(start + chunk, rows.size)
        x, y = a[: stop - start], b[: stop - start]
        # mode="clip" skips numpy's buffered bounds check; the losses check their indices once
        np.take(left, rows[start:stop], axis=0, out=x, mode="clip")
        np.take(right_t, cols[start:stop], axis=0, out=y, mode="clip")
        np.multiply(x, y, out=x)
        np.matmul(x, ones, out=out[start:stop])  # faster than einsum over so short an axis


def _one_by_one(left: Array, right_t: Array, rows: NDArray[Any], cols: NDArray[Any], out: Array) -> None:
    """The loop that numba compiles; positions are clipped as in `_by_chunks`."""
    last_row, last_col = left.shape[0] - 1, right_t.shape[0] - 1
    for p in range(out.size):
        i, j, total = min(max(rows[p], 0), last_row), min(max(cols[p], 0), last_col), 0.0
        for k in range(left.shape[1]):
            total += left[i, k] * right_t[j, k]
        out[p] = total


@cache
def _compiled() -> _Kernel | None:
    """Return `_one_by_one` compiled, serial and kept in memory alone; None without numba, or with its compiler off."""
    try:
        import numba  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return None
    if getattr(numba.config, "DISABLE_JIT", False):  # NUMBA_DISABLE_JIT=1
        return None
    # sums may be reordered, or the inner loop would wait for each addition; NaN and infinity keep their meaning
    kernel: _Kernel = numba.njit(fastmath={"reassoc", "contract"}, nogil=True)(_one_by_one)
    return kernel


def as_index(name: str, value: ArrayLike, size: int, index: np.dtype[Any]) -> NDArray[Any]:
    """Return positions within 0 .. size - 1 as the given type, the array itself where it has it."""
    refuse_masked(name, value)
    array = np.atleast_1d(np.asarray(value))
    whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and np.array_equal(array, np.trunc(array)))
    if array.size and not whole:
        raise TypeError(f"`{name}` must be whole numbers, got dtype {array.dtype}.")
    if array.size and (array.min() < 0 or array.max() >= size):
        raise ValueError(f"`{name}` must lie between 0 and {size - 1}, got {array.min()} .. {array.max()}.")
    return array.astype(index, copy=False)


def as_positions(rows: ArrayLike, cols: ArrayLike, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positions within a shape, in the order given and in the smallest index type that holds them."""
    size = max(*shape, np.size(rows))
    index = np.dtype(np.int32 if size < np.iinfo(np.int32).max else np.int64)
    r, c = as_index("rows", rows, shape[0], index), as_index("cols", cols, shape[1], index)
    if r.shape != c.shape or r.ndim != 1 or r.size == 0:
        raise ValueError(f"`rows` and `cols` must be vectors of one length above 0, got {r.shape} and {c.shape}.")
    return r, c


def refuse_repeated(rows: NDArray[Any], cols: NDArray[Any]) -> NoReturn:
    """Raise for positions of which one at least is known to stand twice, and name it."""
    order = np.lexsort((cols, rows))
    r, c = rows[order], cols[order]
    i = int(np.argmax((r[1:] == r[:-1]) & (c[1:] == c[:-1])))
    raise ValueError(
        f"`rows`, `cols` must name each position once, got ({int(r[i])}, {int(c[i])}) twice."
        " Average repeated observations first."
    )
