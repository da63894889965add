"""The fixed-rank metrics of the Riemannian optimisation literature, each the quotient of a product of factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import validation
from ..validation import Array
from .coefficients import Coefficients, RootCoefficients
from .depth import DepthMetric
from .sums import step_differences

__all__ = [
    "BuresWassersteinMetric",
    "MNMetric",
    "PolarMetric",
    "R3MCMetric",
    "ScaledGDMetric",
    "SubspaceProjectionMetric",
    "TwoFactorMetric",
]


@dataclass(frozen=True)
class ScaledGDMetric:
    r"""W = L R^T under :math:`\operatorname{tr}(R^TR\, \dot L^T\dot L) + \operatorname{tr}(L^TL\, \dot R^T\dot R)`.

    Its flow is that of preconditioned ("scaled") descent, L' = -G R (R^T R)^{-1}. core = 2, up = vp = 1: the
    embedded metric but for a factor 2 on the r x r block.

    References
    ----------
    .. [1] B. Mishra, K. A. Apuroop, R. Sepulchre, A Riemannian geometry for low-rank matrix completion,
       arXiv:1211.1550, 2012.
    .. [2] T. Tong, C. Ma, Y. Chi, Accelerating ill-conditioned low-rank matrix estimation via scaled gradient descent,
       J. Mach. Learn. Res. 22, 2021.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        one = np.ones_like(s)
        return Coefficients(core=np.full((s.size, s.size), 2.0), up=one, vp=one)

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2), the last index for s = 0: the steps of constant coefficients."""
        return step_differences(s, core=2.0)


@dataclass(frozen=True)
class TwoFactorMetric:
    r"""W = L R^T: :math:`\operatorname{tr}((L^TL)^{-1}\dot L^T\dot L) + \operatorname{tr}((R^TR)^{-1}\dot R^T\dot R)`.

    Its flow is W' = -(W W^T G + G W^T W): core = s_i^2 + s_k^2, up = vp = s^2.

    References
    ----------
    .. [1] B. Mishra, G. Meyer, S. Bonnabel, R. Sepulchre, Fixed-rank matrix factorizations and Riemannian low-rank
       optimization, Comput. Stat. 29, 2014.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        square = s**2
        return Coefficients(core=square[:, None] + square, up=square, vp=square)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        """Return up/s and vp/s."""
        return s, s

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2) = 1, the last index for s = 0."""
        return np.ones((s.size + 1,) * 3)


@dataclass(frozen=True)
class SubspaceProjectionMetric:
    r"""W = L R^T, L on the Stiefel manifold: :math:`\|\dot L\|^2 + \operatorname{tr}((R^TR)^{-1}\dot R^T\dot R)`.

    core = s_i^2 + s_k^2 / 2, mix = -s_i s_k / 2, up = vp = s^2.

    References
    ----------
    .. [1] B. Mishra, G. Meyer, S. Bonnabel, R. Sepulchre, Comput. Stat. 29, 2014.
    """

    transposable = False  #: left and right play different parts

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        square = s**2
        return Coefficients(core=square[:, None] + square / 2, up=square, vp=square, mix=-s[:, None] * s / 2)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        """Return up/s and vp/s."""
        return s, s


@dataclass(frozen=True)
class PolarMetric:
    r"""W = L B R^T, B positive definite: :math:`\|\dot L\|^2 + \|B^{-1/2}\dot BB^{-1/2}\|^2 + \|\dot R\|^2`.

    L and R are on Stiefel manifolds. core = (s_i^2 + s_k^2 + s_i s_k) / 2, mix = -s_i s_k / 2, up = vp = s^2.

    References
    ----------
    .. [1] G. Meyer, S. Bonnabel, R. Sepulchre, Linear regression under fixed-rank constraints: a Riemannian approach,
       ICML 2011.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        square, product = s**2, s[:, None] * s
        return Coefficients(core=(square[:, None] + square + product) / 2, up=square, vp=square, mix=-product / 2)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        """Return up/s and vp/s."""
        return s, s


@dataclass(frozen=True)
class MNMetric:
    r"""W = M N^T, M on the Stiefel manifold, under :math:`\|\dot M\|^2 + \|\dot N\|^2`.

    core = 1 + s_k^2 / 2, mix = -s_i s_k / 2, up = s^2, vp = 1.

    References
    ----------
    .. [1] P.-A. Absil, L. Amodei, G. Meyer, Two Newton methods on the manifold of fixed-rank matrices endowed with
       Riemannian quotient geometries, Comput. Stat. 29, 2014.
    """

    transposable = False  #: left and right play different parts

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        square, one = s**2, np.ones_like(s)
        core, determinant = np.tile(1 + square / 2, (s.size, 1)), 1 + (square[:, None] + square) / 2
        return Coefficients(core=core, up=square, vp=one, mix=-s[:, None] * s / 2, determinant=determinant)


@dataclass(frozen=True)
class R3MCMetric:
    r"""W = U B V^T under :math:`\operatorname{tr}(BB^T\dot U^T\dot U) + \|\dot B\|^2 + \operatorname{tr}(B^TB\dot V^T\dot V)`.

    U and V are on Stiefel manifolds. The weights are those of the Hessian of the square loss, block by block, so that its
    descent is preconditioned, as that of `ScaledGDMetric` is: core = 2, mix = -2 s_i s_k / (s_i^2 + s_k^2), up = vp = 1.

    References
    ----------
    .. [1] B. Mishra, R. Sepulchre, R3MC: A Riemannian three-factor algorithm for low-rank matrix completion,
       IEEE Conference on Decision and Control, 2014, arXiv:1306.2672.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W

    def coefficients(self, s: Array) -> Coefficients:
        one, two = np.ones_like(s), np.full((s.size, s.size), 2.0)
        larger = np.maximum(s[:, None], s)
        quotient = np.minimum(s[:, None], s) / np.where(
            larger == 0, 1.0, larger
        )  # of the smaller by the larger: no overflow
        return Coefficients(core=two, up=one, vp=one, mix=-2 * quotient / (1 + quotient**2))

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2), the last index for s = 0: the steps of constant coefficients."""
        return step_differences(s, core=2.0)

    def mix_differences(self, s: Array) -> Array:
        """Return (f_ik - f_jk) / (s_i^2 - s_j^2) of f_ik = mix_ik / (s_i s_k): 2 / ((s_i^2 + s_k^2) (s_j^2 + s_k^2))."""
        sums = s[:, None] ** 2 + s**2
        return 2 / (sums[:, None, :] * sums)


@dataclass(frozen=True)
class BuresWassersteinMetric:
    r"""The Bures-Wasserstein metric of the symmetric positive semidefinite matrices of fixed rank.

    The quotient of :math:`Y \mapsto Y Y^T` under :math:`\|\dot Y\|_F^2`: for symmetric G, A(G) = 2 (G W + W G),
    core = 2 (s_i + s_k), up = vp = 2 s. The depth-2 metric restricted to these matrices is exactly twice this one.

    Notes
    -----
    `symmetric` says that points have ``u == vt.T``: gradients are symmetrised, (G + G^T) / 2, and the dimension
    n r - r (r - 1) / 2, the spectrum and the volume are those of the symmetric matrices.

    References
    ----------
    .. [1] R. Bhatia, T. Jain, Y. Lim, On the Bures-Wasserstein distance between positive definite matrices,
       Expo. Math. 37, 2019.
    .. [2] E. Massart, P.-A. Absil, Quotient geometry with simple geodesics for the manifold of fixed-rank
       positive-semidefinite matrices, SIAM J. Matrix Anal. Appl. 41, 2020.
    """

    transposable = True  #: the flow of W^T is the transpose of the flow of W
    symmetric = True  #: a metric on the symmetric positive semidefinite matrices
    root: ClassVar[float] = 2.0  #: the flow is smooth in the square roots of the singular values

    @validation.quietly
    def coefficients(self, s: Array) -> Coefficients:
        return Coefficients(core=2 * (s[:, None] + s), up=2 * s, vp=2 * s)

    def frame_rates(self, s: Array) -> tuple[Array, Array]:
        """Return up/s and vp/s."""
        two = np.full_like(s, 2.0)
        return two, two

    def root_coefficients(self, l: Array) -> RootCoefficients:  # noqa: E741
        """Return the coefficients at s = l^2: twice those of the depth-2 metric."""
        c = DepthMetric(2).root_coefficients(l)
        return RootCoefficients(2 * c.sym, 2 * c.skew, 2 * c.left, 2 * c.right)

    def differences(self, s: Array) -> Array:
        """Return (c_ik - c_jk) / (s_i^2 - s_j^2) = 2 / (s_i + s_j), the last index for s = 0."""
        return 2 * DepthMetric(2).differences(s)
