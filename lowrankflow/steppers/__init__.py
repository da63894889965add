"""One-step methods. A stepper knows nothing of matrices, and keeps nothing between calls.

- `Euler`, `RK4`: fixed steps.
- `RKC`, `ROCK4`: stabilised explicit Runge-Kutta methods of order 2 and 4, for stiff problems with a real spectrum.

All that changes lives in the state, a tuple of arrays, so it can be saved and a run resumed.
`as_ode_solver` makes a class that ``scipy.integrate.solve_ivp(method=...)`` takes too.
"""

from .chebyshev import RKC
from .fixed import RK4, Euler
from .ode_solver import as_ode_solver
from .protocol import Stepper
from .rock import ROCK4

__all__ = ["RK4", "RKC", "ROCK4", "Euler", "Stepper", "as_ode_solver"]
