"""A network with what `diagnose` asks of it, each measured once: one without biases, one with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import linalg

from .. import validation
from ..descent import step_bound
from ..geometry import sharpness
from ..gradients import end_to_end_operator, riemannian_gradient
from ..kernels import TangentKernel, tangent_kernel
from ..landscape import Place, classify
from ..losses import LeastSquares, Loss
from ..matrices import EPS, AffineNetwork, LinearNetwork, difference, singular_values
from ..metrics import DepthMetric
from ..validation import Array

__all__ = ["AffinePatient", "Patient", "patient", "require_defined"]

Network = LinearNetwork | AffineNetwork

_NEAR = 1.0  # gradient over the size of its terms, beyond which no critical point is near


@dataclass(frozen=True)
class Patient:
    """A network without biases."""

    given: Any  #: the network
    whole: Loss  #: what it is trained for
    initial: Any  #: where its training began, or None
    step: float | None
    seed: int

    why_not = ""  #: why nothing is said of modes and landscape

    @property
    def network(self) -> LinearNetwork:
        """The chain of its weights."""
        assert isinstance(self.given, LinearNetwork)
        return self.given

    @property
    def loss(self) -> Loss | None:
        """The loss of the chain of its weights; None where there is none."""
        return self.whole

    @property
    def value(self) -> float:
        return float(self.whole.value(self.network))

    @cached_property
    def s(self) -> Array:
        """Singular values of W."""
        return singular_values(self.network)

    @cached_property
    def rank(self) -> int:
        """Singular values above roundoff."""
        return int((self.s > self.s[0] * max(self.network.shape) * EPS).sum()) if self.s[0] > 0 else 0

    @cached_property
    def factor_values(self) -> list[Array]:
        """Singular values of the factors."""
        return [linalg.svdvals(f, check_finite=False) for f in self.network.factors]

    @cached_property
    def joints(self) -> list[tuple[Array, float]]:
        """Of each joint the eigenvalues of D_j, and what it is relative to: the larger of the norms beside it, squared."""
        scales = [max(a, b) for a, b in pairwise(self._squares())]
        spectra = [np.asarray(linalg.eigvalsh(d), dtype=np.float64) for d in self.given.imbalances()]
        return list(zip(spectra, scales, strict=True))

    def _squares(self) -> list[float]:
        return [float(s[0]) ** 2 for s in self.factor_values]

    @cached_property
    def imbalance(self) -> float:
        """The largest relative imbalance."""
        return max((float(np.abs(d).max()) / scale if scale > 0 else 0.0 for d, scale in self.joints), default=0.0)

    @cached_property
    def operator_gap(self) -> float:
        """How far the theorem's A_W is from this network's operator, at the gradient, relative; nan where that vanishes."""
        g = self.whole.gradient(self.network)
        own = end_to_end_operator(self.network)(g)
        size = own.norm()
        if not (self.rank and size > 0):
            return math.nan
        w = self.network.to_low_rank(self.rank)
        metric = riemannian_gradient(w, g, DepthMetric(self.network.depth))
        return float(difference(own, metric.at(w)).norm() / size)

    @cached_property
    def place(self) -> Place | None:
        """The place of the chain; the nearest critical point is looked for where there may be one."""
        if self.loss is None:
            return None
        here = classify(self.network, self.loss, nearby=False, rng=self.seed)
        if here.gradient <= here.threshold or here.gradient > _NEAR:
            return here
        return classify(self.network, self.loss, rng=self.seed)

    @cached_property
    def edge(self) -> float:
        """The largest eigenvalue of the Hessian of the loss of what is trained."""
        return sharpness(self.whole, self.network, tol=1e-2)

    def kernel(self, network: Any = None) -> TangentKernel:
        """The tangent kernel, of this network or of another."""
        return tangent_kernel(self.given if network is None else network)

    @cached_property
    def proved_step(self) -> float | None:
        """The step of the theorem on gradient descent, None where its assumptions do not hold."""
        try:
            return float(step_bound(self.whole, self.network).step)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            return None

    def arrays(self, network: Any = None) -> list[Array]:
        """What is trained, of this network or of another."""
        return list((self.given if network is None else network).factors)


@dataclass(frozen=True)
class AffinePatient(Patient):
    r"""A network with biases.

    For the square loss, and a bias in the last layer, with r the mean residual :math:`b + W \bar x - \bar y` of p samples,

    .. math:: L(W_1, b_1, \ldots, W_N, b_N) = L_c(W_N \cdots W_1) + \tfrac p2 \|r\|^2 ,

    L_c the loss on centred data. r depends on b_N by a translation: (W_1, ..., W_N, b_1, ..., b_{N-1}, r) are coordinates. So the
    critical points are those of L_c with r = 0, whatever the hidden biases, with the same kinds; Hessians differ by p I in r.
    """

    @property
    def affine(self) -> AffineNetwork:
        assert isinstance(self.given, AffineNetwork)
        return self.given

    @property
    def network(self) -> LinearNetwork:
        """The chain of its weights."""
        return self.affine.linear

    @cached_property
    def _centred(self) -> tuple[LeastSquares | None, str]:
        """Return the loss of the weights with the best bias, and why there is none."""
        if not isinstance(self.whole, LeastSquares):
            return None, "the loss is not the square loss"
        if self.affine.biases[-1] is None:
            return None, "the last layer has no bias"
        try:
            return self.whole.centred(), ""
        except ValueError:
            return None, "the inputs do not differ, or no constant is appended to them"

    @property
    def loss(self) -> LeastSquares | None:
        """The square loss on centred data, where it is one and the last layer has a bias."""
        return self._centred[0]

    @property
    def why_not(self) -> str:  # type: ignore[override]
        return self._centred[1]

    @property
    def value(self) -> float:
        return float(self.whole.value(self.affine.augmented))

    @cached_property
    def excess(self) -> float:
        """L - L_c: what the loss falls by where the last bias is the best for these weights."""
        assert self.loss is not None
        return max(self.value - float(self.loss.value(self.network)), 0.0)

    def _squares(self) -> list[float]:
        pairs = zip(self.network.factors, self.affine.biases, strict=True)
        return [float(linalg.norm(w if b is None else np.column_stack([w, b]), 2)) ** 2 for w, b in pairs]

    @property
    def operator_gap(self) -> float:
        return math.nan

    @cached_property
    def edge(self) -> float:
        """The largest eigenvalue of the Hessian in weights and biases."""
        return sharpness(self.whole, self.affine.augmented, tol=1e-2, trained=self.affine.trained)

    @property
    def proved_step(self) -> None:
        return None

    def arrays(self, network: Any = None) -> list[Array]:
        """Weights and biases."""
        net = self.given if network is None else network
        return [*net.weights, *(b for b in net.biases if b is not None)]


def patient(network: Network, loss: Loss, initial: Network | None, step: float | None, seed: int) -> Patient:
    """Return a network as it is diagnosed."""
    kind = AffinePatient if isinstance(network, AffineNetwork) else Patient
    return kind(network, loss, initial, step, seed)


def require_defined(name: str, network: Network, loss: Loss) -> None:
    """Refuse a network that the loss is not defined on."""
    if not isinstance(network, AffineNetwork):
        validation.require_shape(name, network.shape, loss.shape)
    elif loss.shape != (network.shape[0], network.shape[1] + 1):
        raise ValueError(
            f"`{name}` has biases and shape {network.shape}, so that the loss must be defined on"
            f" {(network.shape[0], network.shape[1] + 1)}, got {loss.shape}. Append a constant to its inputs:"
            " losses.with_constant(x)."
        )
