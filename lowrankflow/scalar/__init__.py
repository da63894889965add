"""One-dimensional deep linear networks."""
from .descent import Descents, descend
from .flow_time import flow_time
from .outer import Logistic, Square
from .starts import KINDS, critical_variance, rate_law, start
