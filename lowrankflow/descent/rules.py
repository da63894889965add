"""Which way an update goes: from factor gradients to directions.

A rule is a value. All that it remembers from one update to the next is in its memory, arrays of the shapes of the factors, so
that a run can be put down and taken up again to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..matrices import LinearNetwork
from ..matrices.requirements import as_trained
from ..validation import Array

__all__ = ["Adam", "Gradient", "HeavyBall", "LayerRates", "Memory", "Nesterov", "Only", "Rule", "WeightDecay"]

Memory = Mapping[str, Sequence[Array]]  #: names to arrays, one of the shape of each factor


class Rule(Protocol):
    r"""What is asked of a rule; the update is :math:`W_j \leftarrow W_j - h_k D_j`.

    Both methods are functions of their arguments alone, and change none of them.
    """

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return the memory before the first update; {} where there is none."""
        ...

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return D_1, ..., D_N of the update k = 0, 1, ..., and the memory after it."""
        ...


@dataclass(frozen=True)
class Gradient:
    r"""Plain gradient descent, :math:`D_j = \nabla_{W_j} L`."""

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return no memory."""
        return {}

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the gradients."""
        return egrads, memory


@dataclass(frozen=True)
class HeavyBall:
    r"""Polyak's momentum, :math:`M_j \leftarrow \beta M_j + \nabla_{W_j} L`, :math:`D_j = M_j`.

    Near a minimum linearly stable for h < 2 (1 + beta) / sharpness; for small h it follows the flow at speed 1 / (1 - beta).

    Parameters
    ----------
    momentum : float
        beta, at least 0 and below 1.

    References
    ----------
    B. T. Polyak, Some methods of speeding up the convergence of iteration methods, USSR Comput. Math. Math. Phys. 4(5), 1964.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        _require_share("momentum", self.momentum)

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return no momentum."""
        return {"momentum": _zeros(factors)}

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the momentum after the gradients."""
        m = [self.momentum * v + g for v, g in zip(memory["momentum"], egrads, strict=True)]
        return m, {"momentum": m}


@dataclass(frozen=True)
class Nesterov(HeavyBall):
    r"""Nesterov's momentum, :math:`M_j \leftarrow \beta M_j + \nabla_{W_j} L`, :math:`D_j = \nabla_{W_j} L + \beta M_j`.

    With a constant step the same iterates as the gradient at the point ahead, in the coordinates of that point. Near a minimum
    linearly stable for h < 2 (1 + beta) / ((1 + 2 beta) sharpness): less than without momentum.

    Parameters
    ----------
    momentum : float
        beta, at least 0 and below 1.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the gradients, and the momentum after them."""
        m, memory = super().directions(k, egrads, factors, memory)
        return [g + self.momentum * v for g, v in zip(egrads, m, strict=True)], memory


@dataclass(frozen=True)
class Adam:
    r"""Adam: :math:`D = \hat m / (\sqrt{\hat v} + \epsilon)` entry by entry, with the means corrected for their start.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              \hat m = m / (1 - \beta_1^{k+1}), \quad \hat v = v / (1 - \beta_2^{k+1}).

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the means of gradients and squares, at least 0 and below 1.
    epsilon : float
        Positive, in the units of the gradient.

    References
    ----------
    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _require_share("beta1", self.beta1)
        _require_share("beta2", self.beta2)
        validation.require_number("epsilon", self.epsilon)

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return means of zero."""
        return {"mean": _zeros(factors), "square": _zeros(factors)}

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the mean gradients over the roots of the mean squares."""
        a, b = self.beta1, self.beta2
        mean = [a * m + (1 - a) * g for m, g in zip(memory["mean"], egrads, strict=True)]
        square = [b * v + (1 - b) * (g * g) for v, g in zip(memory["square"], egrads, strict=True)]
        first, second = 1 - a ** (k + 1), 1 - b ** (k + 1)
        d = [m / first / ((v / second) ** 0.5 + self.epsilon) for m, v in zip(mean, square, strict=True)]
        return d, {"mean": mean, "square": square}


@dataclass(frozen=True)
class WeightDecay:
    r"""Weight decay: gamma W_j is added to the gradients, or to the directions of a rule (decoupled).

    On the gradients it is descent on :math:`L + \tfrac\gamma2 \sum_j \|W_j\|_F^2`; the loss that a run reports is L.

    Parameters
    ----------
    decay : float
        gamma, non-negative, in the units of the loss over W^2.
    rule : Rule
        What the gradients go through.
    decoupled : bool
        Add gamma W_j behind the rule, as AdamW does.

    References
    ----------
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """

    decay: float
    rule: Rule = field(default_factory=Gradient)
    decoupled: bool = False

    def __post_init__(self) -> None:
        validation.require_number("decay", self.decay, positive=False)
        validation.require_flags(decoupled=self.decoupled)
        require_rule("rule", self.rule)

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return the memory of the rule."""
        return self.rule.start(factors)

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the directions of the rule, decay before or behind it."""
        if not self.decoupled:
            egrads = [g + self.decay * w for g, w in zip(egrads, factors, strict=True)]
            return self.rule.directions(k, egrads, factors, memory)
        d, memory = self.rule.directions(k, egrads, factors, memory)
        return [e + self.decay * w for e, w in zip(d, factors, strict=True)], memory


@dataclass(frozen=True)
class LayerRates:
    r"""Rates of their own for the layers: :math:`D_j` of a rule times eta_j.

    From factors with :math:`\eta_{j+1}^{-1} W_{j+1}^T W_{j+1} = \eta_j^{-1} W_j W_j^T` the flow of the product is the
    depth-N flow with the clock :math:`(\prod_j \eta_j)^{1/N}` (derived).

    Parameters
    ----------
    rates : sequence of float
        eta_1, ..., eta_N, positive.
    rule : Rule
        What the gradients go through.
    """

    rates: tuple[float, ...]
    rule: Rule = field(default_factory=Gradient)

    def __init__(self, rates: Iterable[float], rule: Rule | None = None) -> None:
        values = validation.as_tuple(rates)
        if not values:
            raise TypeError(
                f"`rates` must be a sequence of positive numbers, one a factor, got {validation.describe(rates)}."
            )
        object.__setattr__(self, "rates", tuple(validation.require_number("rates", r) for r in values))
        object.__setattr__(self, "rule", Gradient() if rule is None else rule)
        require_rule("rule", self.rule)

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return the memory of the rule.

        Raises
        ------
        ValueError
            If the factors are not as many as the rates.
        """
        if len(factors) != len(self.rates):
            raise ValueError(f"`rates` must be one a factor, got {len(self.rates)} for {len(factors)} factors.")
        return self.rule.start(factors)

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the directions of the rule, each times its rate."""
        d, memory = self.rule.directions(k, egrads, factors, memory)
        return [rate * e for rate, e in zip(self.rates, d, strict=True)], memory


@dataclass(frozen=True, repr=False, eq=False)
class Only:
    r"""Some entries alone: :math:`D_j` of a rule for those that are trained, zero for the others, which stay as they are.

    Parameters
    ----------
    trained : sequence of arrays of bool
        Which entries of the factors, an array a factor, such as `AffineNetwork.trained`.
    rule : Rule
        What the gradients go through.
    """

    trained: Sequence[NDArray[np.bool_]]
    rule: Rule = field(default_factory=Gradient)

    def __post_init__(self) -> None:
        values = validation.as_tuple(self.trained)
        if not values:
            got = validation.describe(self.trained)
            raise TypeError(f"`trained` must hold an array of True and False for each factor, got {got}.")
        object.__setattr__(self, "trained", values)
        require_rule("rule", self.rule)

    def start(self, factors: Sequence[Array]) -> Memory:
        """Return the memory of the rule.

        Raises
        ------
        ValueError, TypeError
            If `trained` does not fit the factors.
        """
        as_trained(self.trained, factors)
        return self.rule.start(factors)

    def directions(
        self, k: int, egrads: Sequence[Array], factors: Sequence[Array], memory: Memory
    ) -> tuple[Sequence[Array], Memory]:
        """Return the directions of the rule where there is something to train."""
        d, memory = self.rule.directions(k, egrads, factors, memory)
        return [np.where(free, e, 0.0) for free, e in zip(self.trained, d, strict=True)], memory

    def __repr__(self) -> str:  # by which a checkpoint knows it again
        free = np.concatenate([np.ravel(each) for each in self.trained])
        digest = hashlib.sha256(np.packbits(free).tobytes()).hexdigest()[:12]
        return f"Only({int(free.sum())} of {free.size} entries, {digest}, {self.rule!r})"


def require_rule(name: str, rule: object) -> None:
    """Refuse what is no rule."""
    if isinstance(rule, type) or not all(callable(getattr(rule, verb, None)) for verb in ("start", "directions")):
        raise TypeError(
            f"`{name}` must have methods `start` and `directions`, got {validation.describe(rule)}. Use Adam()."
        )


def tried(rule: Rule, egrads: Sequence[Array], net: LinearNetwork) -> Memory:
    """Return the memory at the start; refuse a rule whose directions are none of the network."""
    memory = rule.start(net.factors)
    if not isinstance(memory, Mapping):
        raise TypeError(
            f"`rule.start` must return a mapping, {{}} where it remembers nothing, got {validation.describe(memory)}."
        )
    _require_arrays("rule.start", memory, net)
    found = rule.directions(0, frozen(egrads), frozen(net.factors), memory)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise TypeError("`rule.directions` must return directions and the memory after them, got something else.")
    got, want = ([np.shape(a) for a in arrays] for arrays in (found[0], net.factors))
    if got != want:
        raise ValueError(f"`rule.directions` must return one array a factor, of shapes {want}, got {got}.")
    _require_arrays("rule.directions", found[1], net)
    return memory


def frozen(arrays: Sequence[Array]) -> list[Array]:
    """Return views that cannot be written to."""
    views = [a.view() for a in arrays]
    for view in views:
        view.flags.writeable = False
    return views


def is_ours(rule: object) -> bool:
    """Whether a rule, and all within it, is of this module, which changes none of its arguments."""
    return type(rule).__module__ == __name__ and (not hasattr(rule, "rule") or is_ours(rule.rule))


def _require_arrays(name: str, memory: Memory, net: LinearNetwork) -> None:
    """Refuse a memory that a checkpoint would not hold."""
    for key, values in memory.items():
        if isinstance(values, (list, tuple)) and [type(a) for a in values] == [np.ndarray] * net.depth:
            continue
        got = validation.describe(values)
        raise TypeError(f"`{name}` must keep one array a factor under {key!r}, got {got}. What counts updates is `k`.")


def _require_share(name: str, value: float) -> None:
    if not 0 <= validation.require_number(name, value, positive=False) < 1:
        raise ValueError(f"`{name}` must be at least 0 and below 1, got {value:g}.")


def _zeros(factors: Sequence[Array]) -> list[Array]:
    return [0.0 * f for f in factors]
