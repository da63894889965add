"""Exact solutions: what a flow must give, to the last digits, without integrating anything.

- `modes`: aligned modes of any depth, balanced, or two factors with any imbalance; learning times. `clock`, `pair`: their
  time in closed form, and its inverse.
- `layers`: two layers from any start whose imbalance is a multiple of the identity. `oja`: Oja's flow. `riccati`: the
  matrix Riccati equation behind both, for any time.
- `rates`: how fast a flow arrives at the best matrix of a rank.
"""

from .layers import Blocks, TwoLayer, two_layer
from .modes import Modes, modes
from .oja import Oja, oja
from .rates import Rates, autoencoder_rates, whitened_rates

__all__ = [
    "Blocks",
    "Modes",
    "Oja",
    "Rates",
    "TwoLayer",
    "autoencoder_rates",
    "modes",
    "oja",
    "two_layer",
    "whitened_rates",
]
