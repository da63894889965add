"""Entries of a product that is never formed, at given positions.

Two kernels with the same answers to roundoff: numpy by chunks, and one compiled by numba where that is installed
(``pip install "lowrankflow[accel]"``). Which of them runs depends on the number of entries alone, so a run repeats bit
for bit on one installation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .validation import Array

__all__ = ["sampled_product"]

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
