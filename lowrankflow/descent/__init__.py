"""Gradient descent on the factors, as people run it: which way, how far, how long.

- `gradient_descent` runs it and returns a `Trajectory`, as `integrate` does.
- Which way: `Gradient`, `HeavyBall`, `Nesterov`, `Adam`, `WeightDecay`, `LayerRates`, `Only` for some entries, any `Rule`.
- Of which samples: `MiniBatches`.
- How far: a number, a schedule (`Decreasing`), `EdgeFraction`.
- What theory says of it: `step_bound`, the step that is proved; `certificate`, a bound of its distance to the flow.
- Beyond the edge of stability: `mode_edge`, `two_cycle`, `bifurcation`.
- How long: `LossBelow`, `GradientBelow`, `TimeReached`, any test of an `Iterate`.
"""

from ..geometry import sharpness
from .batches import MiniBatches
from .bounds import StepBound, step_bound
from .edge import bifurcation, mode_edge, two_cycle
from .rules import Adam, Gradient, HeavyBall, LayerRates, Nesterov, Only, Rule, WeightDecay
from .shadowing import Certificate, certificate
from .steps import Decreasing, EdgeFraction, StepRule
from .stops import GradientBelow, Iterate, LossBelow, TimeReached
from .updates import gradient_descent

__all__ = [
    "Adam",
    "Certificate",
    "Decreasing",
    "EdgeFraction",
    "Gradient",
    "GradientBelow",
    "HeavyBall",
    "Iterate",
    "LayerRates",
    "LossBelow",
    "MiniBatches",
    "Nesterov",
    "Only",
    "Rule",
    "StepBound",
    "StepRule",
    "TimeReached",
    "WeightDecay",
    "bifurcation",
    "certificate",
    "gradient_descent",
    "mode_edge",
    "sharpness",
    "step_bound",
    "two_cycle",
]
