"""Gradient descent on the factors, as people run it: which way, how far, how long.

- `gradient_descent` runs it and returns a `Trajectory`, as `integrate` does.
- Which way: `Gradient`, `HeavyBall`, `Nesterov`, `Adam`, `WeightDecay`, `LayerRates`, any `Rule`.
- Of which samples: `MiniBatches`.
- How far: a number, a schedule (`Decreasing`), `EdgeFraction`.
- How long: `LossBelow`, `GradientBelow`, `TimeReached`, any test of an `Iterate`.
"""

from ..geometry import sharpness
from .batches import MiniBatches
from .rules import Adam, Gradient, HeavyBall, LayerRates, Nesterov, Rule, WeightDecay
from .steps import Decreasing, EdgeFraction, StepRule
from .stops import GradientBelow, Iterate, LossBelow, TimeReached
from .updates import gradient_descent

__all__ = [
    "Adam",
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
    "Rule",
    "StepRule",
    "TimeReached",
    "WeightDecay",
    "gradient_descent",
    "sharpness",
]
