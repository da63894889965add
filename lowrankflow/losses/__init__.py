"""The loss protocol and the shipped losses.

A loss is any object with ``shape`` (m, n), ``value(w)`` and ``gradient(w)``. W is asked only for what
`lowrankflow.matrices` answers; the gradient is anything that supports ``g @ v`` and ``g.T @ u``. What else it has,
`facts` says.

- `LeastSquares`, `Completion`: the square, on inputs and on observed entries.
- `Measured`: a measurement (`Inputs`, `Entries`, `Bilinear`, `Sensing`, their sums) and a link (`Squared`, `Huber`,
  `LogCosh`, `Logistic`, `Softmax`, `Poisson`, `SquaredHinge`, or a function).
- `from_function`: an autograd function of the dense W.
- `Schatten`, `BuresWasserstein`: functions of the singular values.
- `Sum`, `Scaled`, `Mean`, `Logarithm`.
"""

from .combined import Mean, Scaled, Sum
from .completion import Completion
from .facts import LossFacts, facts
from .functions import from_function
from .least_squares import LeastSquares
from .links import AbsoluteError, Hinge, Huber, Link, LogCosh, Logistic, Poisson, Softmax, Squared, SquaredHinge, Traced
from .logarithm import Logarithm
from .measured import Measured
from .measurements import Bilinear, Entries, Inputs, Measurement, MeasurementSum, Sensing
from .protocol import Loss
from .spectral import BuresWasserstein, Schatten

__all__ = [
    "AbsoluteError",
    "Bilinear",
    "BuresWasserstein",
    "Completion",
    "Entries",
    "Hinge",
    "Huber",
    "Inputs",
    "LeastSquares",
    "Link",
    "LogCosh",
    "Logarithm",
    "Logistic",
    "Loss",
    "LossFacts",
    "Mean",
    "Measured",
    "Measurement",
    "MeasurementSum",
    "Poisson",
    "Scaled",
    "Schatten",
    "Sensing",
    "Softmax",
    "Squared",
    "SquaredHinge",
    "Sum",
    "Traced",
    "facts",
    "from_function",
]
