"""Thin QR and singular value decompositions, of which a flow makes four for every state that it looks at."""

from __future__ import annotations

from typing import cast

import numpy as np
from scipy import linalg

from ..validation import Array

__all__ = ["thin_qr", "thin_svd"]

_SMALL = 32  # columns up to which LAPACK works unblocked, so that its least workspace does


def thin_qr(a: Array) -> tuple[Array, Array]:
    """Thin QR; of few columns by LAPACK itself, a third of the time that the wrapper takes, with the same bits."""
    m, k = a.shape
    if not 0 < k <= min(m, _SMALL):
        return cast(tuple[Array, Array], linalg.qr(a, mode="economic", check_finite=False))
    packed, tau, _, _ = linalg.lapack.dgeqrf(a)
    r = np.triu(packed[:k])
    return linalg.lapack.dorgqr(packed, tau, overwrite_a=True)[0], r


def thin_svd(a: Array) -> tuple[Array, Array, Array]:
    """Thin SVD; of small matrices by LAPACK itself, as `thin_qr`.

    Raises
    ------
    numpy.linalg.LinAlgError, ValueError
        If it does not converge, or a value is not finite.
    """
    if not 0 < max(a.shape) <= _SMALL:
        return linalg.svd(a, full_matrices=False, check_finite=False)
    u, s, vt, info = linalg.lapack.dgesdd(a, full_matrices=False)
    if info > 0:
        raise np.linalg.LinAlgError("SVD did not converge")
    if info < 0:
        raise ValueError("illegal value in a matrix whose SVD is asked for")
    return u, s, vt
