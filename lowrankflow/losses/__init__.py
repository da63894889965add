"""The loss protocol and the shipped losses.

A loss is any object with ``shape`` (m, n), ``value(w)`` and ``gradient(w)``. W is asked only for what
`lowrankflow.matrices` answers; the gradient is anything that supports ``g @ v`` and ``g.T @ u``. What else it has,
`facts` says.

- `LeastSquares`, `Completion`: the square, on inputs and on observed entries.
- `Measured`: a measurement (`Inputs`, `Entries`, `Bilinear`, `Sensing`, their sums) and a misfit (`Squared`, `Huber`,
  `LogCosh`, `Logistic`, `Softmax`, `Poisson`, `SquaredHinge`, or a function).
- `from_function`: an autograd function of the dense W.
- `Schatten`, `BuresWasserstein`: functions of the singular values.
- `Sum`, `Scaled`, `Mean`, `Logarithm`; `Gram`: of the Gram matrix of two layers; `Shifted`: of what is
  added to a frozen matrix.
- `with_constant`: inputs with a constant appended, of whatever loss is made of inputs: for networks with biases.
"""

import warnings
from typing import Any

from .combined import Mean, Scaled, Sum
from .completion import Completion
from .constant import with_constant
from .facts import LossFacts, facts
from .functions import from_function
from .gram import Gram
from .least_squares import LeastSquares
from .logarithm import Logarithm
from .measured import Measured
from .measurements import Bilinear, Entries, Inputs, Measurement, MeasurementSum, Sensing
from .misfits import Huber, LogCosh, Logistic, Misfit, Poisson, Softmax, Squared, SquaredHinge, Traced
from .protocol import Loss
from .shifted import Shifted
from .spectral import BuresWasserstein, Schatten

__all__ = [
    "Bilinear",
    "BuresWasserstein",
    "Completion",
    "Entries",
    "Gram",
    "Huber",
    "Inputs",
    "LeastSquares",
    "LogCosh",
    "Logarithm",
    "Logistic",
    "Loss",
    "LossFacts",
    "Mean",
    "Measured",
    "Measurement",
    "MeasurementSum",
    "Misfit",
    "Poisson",
    "Scaled",
    "Schatten",
    "Sensing",
    "Shifted",
    "Softmax",
    "Squared",
    "SquaredHinge",
    "Sum",
    "Traced",
    "facts",
    "from_function",
    "with_constant",
]

_KINKED = {  # what people look for here and would not find a flow of
    "AbsoluteError": "is not at zero. Use Huber or LogCosh.",
    "Hinge": "is not at the margin. Use SquaredHinge.",
}


def __getattr__(name: str) -> Any:
    """Return what had another name before 1.0; say why what has a kink is not here."""
    if name == "Link":
        warnings.warn("lowrankflow.losses.Link is called Misfit now.", DeprecationWarning, stacklevel=2)
        return Misfit
    why = f"`{name}` must be differentiable to have a flow, and {_KINKED[name]}" if name in _KINKED else ""
    raise AttributeError(why or f"module {__name__!r} has no attribute {name!r}")
