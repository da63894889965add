"""Centre, scale, reduce to the numerical range: data as the theorems ask for them, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy import linalg

from .. import validation
from ..matrices import EPS, MatrixOrArray, Product
from ..validation import Array
from .values import DataSet, Observations

__all__ = ["RANGE", "STEPS", "ObservedPreparation", "Preparation", "as_steps", "prepare", "prepare_observed"]

STEPS = ("center", "scale", "range")  #: the steps of `prepare`, in the order in which they are done
_LARGEST = 1e150  # of data that are divided by their RMS: their squares are finite, that of the inverse is not zero
RANGE = 1e-10  #: "range" keeps the eigenvectors of X X^T whose eigenvalue exceeds this times the largest


@dataclass(frozen=True, eq=False)
class Preparation:
    r"""What `prepare` did, for the report, and the way back.

    A raw sample x becomes :math:`B^T (x - \mu) / \rho`. Eigenvalues are those of :math:`X X^T`; the
    non-zero ones exceed roundoff, :math:`(\max(n, p) \, \mathrm{eps})^2 \lambda_1`.

    Attributes
    ----------
    steps : tuple of str
        The steps done, in the order of `STEPS`.
    task : str
        "autoencoding" or "regression".
    samples : int
        p.
    n_raw, m_raw, n, m : int
        Dimensions of inputs and targets before and after.
    rank_raw, rank : int
        Numbers of non-zero eigenvalues before and after; the theorems ask for ``rank == n``.
    condition_raw, condition : float
        Largest over smallest non-zero eigenvalue, before and after.
    dropped_share : float
        Sum of the dropped eigenvalues over the sum of all.
    input_mean, target_mean : ndarray, (n_raw,), (m_raw,)
        The means subtracted; zero without "center".
    input_rms, target_rms : float
        Root mean square of all entries after centring; divided by where "scale" is done.
    input_basis : ndarray, (n_raw, n), or None
        B, orthonormal columns; the largest component of each is positive. None without "range".
    """

    steps: tuple[str, ...]
    task: str
    samples: int
    n_raw: int
    m_raw: int
    n: int
    m: int
    rank_raw: int
    rank: int
    condition_raw: float
    condition: float
    dropped_share: float
    input_mean: Array
    target_mean: Array
    input_rms: float
    target_rms: float
    input_basis: Array | None

    @property
    def dropped(self) -> int:
        """Number of directions of the inputs that were dropped."""
        return self.n_raw - self.n

    @property
    def target_basis(self) -> Array | None:
        """The input basis for autoencoding; None for regression, whose targets are not projected."""
        return self.input_basis if self.task == "autoencoding" else None

    def to_raw(self, w: MatrixOrArray) -> tuple[Product, Array]:
        r"""Return (A, b) so that :math:`A x + b` predicts raw targets from a raw sample x.

        .. math:: A = (\rho_Y / \rho_X) \, T W B^T, \qquad b = \mu_Y - A \mu_X .

        Parameters
        ----------
        w : ndarray or matrix of `lowrankflow.matrices`, (m, n)
            A map between prepared inputs and targets.

        Returns
        -------
        Product, (m_raw, n_raw), and ndarray, (m_raw,)

        Raises
        ------
        ValueError
            If `w` is not of shape (m, n).
        """
        validation.require_shape("w", w.shape, (self.m, self.n), "the prepared data ask for")
        left, right = (w, np.eye(self.n)) if isinstance(w, np.ndarray) else w.split()
        if self.target_basis is not None:
            left = self.target_basis @ left
        if self.input_basis is not None:
            right = right @ self.input_basis.T
        scale = self.target_rms / self.input_rms if "scale" in self.steps else 1.0
        matrix = Product(scale * left, right)
        return matrix, self.target_mean - matrix @ self.input_mean

    def describe(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        names = ("task", "samples", "n_raw", "m_raw", "n", "m", "rank_raw", "rank", "condition_raw", "condition",
                 "dropped", "dropped_share", "input_rms", "target_rms")  # fmt: skip
        return {"steps": list(self.steps)} | {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """One line for people."""
        words = {
            "center": "centred",
            "scale": f"divided by RMS {self.input_rms:.3g}"
            + ("" if self.task == "autoencoding" else f" (targets {self.target_rms:.3g})"),
            "range": f"{self.dropped} of {self.n_raw} directions dropped",
        }
        done = ", ".join(words[step] for step in self.steps) or "as they are"
        return f"{done}; condition of X X^T {self.condition_raw:.2g} -> {self.condition:.2g}, rank {self.rank}"


@dataclass(frozen=True)
class ObservedPreparation:
    """What `prepare_observed` did.

    Attributes
    ----------
    steps : tuple of str
        The steps done.
    shape : tuple of int
        (m, n).
    observed : int
        Number of observed entries.
    empty_rows, empty_cols : int
        Rows and columns without any observation; nothing is known about them.
    mean : float
        The mean subtracted; zero without "center".
    rms : float
        Root mean square after centring; divided by where "scale" is done.
    """

    steps: tuple[str, ...]
    shape: tuple[int, int]
    observed: int
    empty_rows: int
    empty_cols: int
    mean: float
    rms: float

    def describe(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        share = self.observed / (self.shape[0] * self.shape[1])
        return {
            "steps": list(self.steps), "task": "completion", "shape": list(self.shape), "observed": self.observed,
            "observed_share": share, "empty_rows": self.empty_rows, "empty_cols": self.empty_cols,
            "mean": self.mean, "rms": self.rms,
        }  # fmt: skip

    def __str__(self) -> str:
        """One line for people."""
        words = {"center": f"mean {self.mean:.3g} subtracted", "scale": f"divided by RMS {self.rms:.3g}"}
        done = ", ".join(words[step] for step in self.steps) or "as they are"
        return f"{done}; {self.observed} entries, {self.empty_rows} rows and {self.empty_cols} columns without any"


def as_steps(steps: str | Iterable[str], known: tuple[str, ...] = STEPS, name: str = "steps") -> tuple[str, ...]:
    """Return the steps in their order; text is split at commas, and "none" means no step."""
    if isinstance(steps, str):
        steps = [] if steps.strip() in ("", "none") else [step.strip() for step in steps.split(",")]
    wanted = validation.as_tuple(steps)
    if wanted is None:
        raise TypeError(f"`{name}` must be names or a text, got {validation.describe(steps)}.")
    for step in wanted:
        if not isinstance(step, str) or step not in known:
            raise ValueError(
                f"`{name}` must be made of {', '.join(known)}, or be none; got {validation.describe(step)}."
            )
    return tuple(step for step in known if step in wanted)


def _rms(x: Array) -> float:
    """Return the root mean square, without over- or underflow."""
    peak = float(abs(x).max())
    return peak * float(np.sqrt(np.mean((x / peak) ** 2))) if peak else 0.0


def _standardise(name: str, x: Array, steps: tuple[str, ...]) -> tuple[Array, Array, float]:
    """Centre and scale samples in rows: return the new array, the means and the RMS after centring."""
    if not x.any():
        raise ValueError(f"`{name}` must not be all zero.")
    validation.require_peak(name, x, _LARGEST)
    mean = np.zeros(x.shape[1])
    if "center" in steps:
        mean = x.mean(axis=0)
        # the second pass takes out the roundoff of a long sum; it is exact for a constant feature, whose
        # deviations are p times the same few units in the last place, so that no roundoff is scaled up
        mean = mean + (x - mean).mean(axis=0)
        x = x - mean
        if not x.any():
            raise ValueError(
                f"`{name}` must not be constant, nothing is left after centring. Leave out the step center."
            )
    rms = _rms(x)
    return (x / rms if "scale" in steps else x.copy()), mean, rms


def _spectrum(x: Array) -> tuple[Array, Array]:
    """Return the singular values and the left singular vectors of (n, p) data; n x p is compressed by QR first."""
    small = cast(Array, np.linalg.qr(x.T, mode="r")).T if x.shape[1] > x.shape[0] else x
    u, s, _ = linalg.svd(small, full_matrices=False, check_finite=False)
    return s, u


def _rank_and_condition(s: Array, shape: tuple[int, ...]) -> tuple[int, float]:
    rank = int((s > max(shape) * EPS * s[0]).sum())
    return rank, float((s[0] / s[rank - 1]) ** 2)


def prepare(data: DataSet, *, steps: str | Iterable[str] = STEPS) -> tuple[Array, Array, Preparation]:
    r"""Return X and Y with the samples in columns, prepared as the theorems ask, and what was done.

    "center" subtracts the mean of each feature, from inputs and targets. "scale" divides by one number, the
    root mean square of all entries, inputs and targets each by their own. "range" projects the inputs onto
    the eigenvectors of :math:`X X^T` with eigenvalue above :math:`10^{-10} \lambda_1`, so that :math:`X X^T`
    becomes diagonal and of full rank; the targets of autoencoding are the projected inputs, those of
    regression stay as they are. The steps are done in this order.

    Parameters
    ----------
    data : DataSet
        p samples in rows.
    steps : sequence of str, or str
        Any of "center", "scale", "range"; text is split at commas; () or "none" leaves the data raw.

    Returns
    -------
    x : ndarray, (n, p)
    y : ndarray, (m, p)
        A copy of `x` for autoencoding.
    preparation : Preparation
        Dimensions, ranks and conditions before and after, and the way back.

    Raises
    ------
    ValueError, TypeError
        If a step is unknown, there is a single sample, or inputs or targets are all zero, constant where they
        are centred, or their largest entry lies outside 1e-150 .. 1e150; if `data` is not a DataSet.

    Notes
    -----
    Without "scale" and "center" the data are used in their units. Directions are found by a singular value
    decomposition of X, not of X X^T, so that eigenvalues down to eps^2 lambda_1 are right.

    Examples
    --------
    >>> x, y, preparation = prepare(DataSet("line", np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])))
    >>> x.shape, preparation.dropped
    ((1, 3), 1)
    """
    if not isinstance(data, DataSet):
        raise TypeError(
            f"`data` must be a DataSet, got {validation.describe(data)}. Use DataSet(name, inputs, targets)."
        )
    wanted = as_steps(steps, STEPS)
    raw = data.inputs
    if raw.shape[0] < 2:
        raise ValueError("`inputs` must hold at least 2 samples, got 1. A sample is a row.")
    rows, mean, rms = _standardise("inputs", raw, wanted)
    x = np.ascontiguousarray(rows.T)
    rank_raw, condition_raw = _rank_and_condition(_spectrum(raw.T)[0], raw.shape)
    s, u = _spectrum(x)
    basis, share = None, 0.0
    if "range" in wanted:
        square = (s / s[0]) ** 2
        kept = int((square > RANGE).sum())
        basis, share = u[:, :kept], float(square[kept:].sum() / square.sum())
        peak = basis[abs(basis).argmax(axis=0), np.arange(kept)]
        basis = basis * np.sign(peak)  # singular vectors have no sign of their own
        x, s = basis.T @ x, s[:kept]
    rank, condition = _rank_and_condition(s, x.shape)
    if data.targets is None:
        y, target_mean, target_rms = x.copy(), mean, rms
    else:
        rows, target_mean, target_rms = _standardise("targets", data.targets, wanted)
        y = np.ascontiguousarray(rows.T)
    return x, y, Preparation(
        steps=wanted, task=data.task, samples=raw.shape[0],
        n_raw=raw.shape[1], m_raw=target_mean.size, n=x.shape[0], m=y.shape[0],
        rank_raw=rank_raw, rank=rank, condition_raw=condition_raw, condition=condition, dropped_share=share,
        input_mean=mean, target_mean=target_mean, input_rms=rms, target_rms=target_rms, input_basis=basis,
    )  # fmt: skip


def prepare_observed(
    observations: Observations, *, steps: str | Iterable[str] = ("center", "scale")
) -> tuple[Observations, ObservedPreparation]:
    """Return the observations with their mean subtracted and divided by their root mean square.

    Parameters
    ----------
    observations : Observations
        Observed entries.
    steps : sequence of str, or str
        Any of "center", "scale"; text is split at commas; () or "none" leaves the values raw. There is no
        "range": rows and columns of the matrix are its coordinates.

    Returns
    -------
    Observations, ObservedPreparation

    Raises
    ------
    ValueError, TypeError
        If a step is unknown, or the values are constant where they are centred, or the largest lies outside
        1e-150 .. 1e150; if `observations` are not Observations.
    """
    if not isinstance(observations, Observations):
        raise TypeError(
            f"`observations` must be Observations, got {validation.describe(observations)}."
            " Use Observations(name, rows, cols, values, shape)."
        )
    wanted = as_steps(steps, STEPS[:2])
    values, mean, rms = _standardise("values", observations.values[:, None], wanted)
    m, n = observations.shape
    return replace(observations, values=values[:, 0]), ObservedPreparation(
        steps=wanted, shape=(m, n), observed=observations.values.size,
        empty_rows=m - np.unique(observations.rows).size, empty_cols=n - np.unique(observations.cols).size,
        mean=float(mean[0]), rms=rms,
    )  # fmt: skip
