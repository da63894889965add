"""Data sets, files, and how they are prepared.

Files and data sets hold one sample a row (`values`: `DataSet`, and `Observations` for a matrix known in part); they
come with scikit-learn (`bundled`) or from a user's files (`reading`, `checkpoints`; `text` and pandas make a `tables.Table` of
them, which says what is a feature). `preparation` turns them into X (n, p) and
Y (m, p) with the samples in columns, centred, scaled and reduced to their numerical range, and says what it did and
how to get back.
"""

from .bundled import available, load
from .checkpoints import Recorder, checkpoint_files, read_run
from .networks import read_factors, read_network
from .preparation import RANGE, STEPS, ObservedPreparation, Preparation, as_steps, prepare, prepare_observed
from .reading import read_inputs, read_observed
from .text import require_delimiter
from .values import DataSet, Observations

__all__ = [
    "RANGE",
    "STEPS",
    "DataSet",
    "Observations",
    "ObservedPreparation",
    "Preparation",
    "Recorder",
    "as_steps",
    "available",
    "checkpoint_files",
    "load",
    "prepare",
    "prepare_observed",
    "read_factors",
    "read_inputs",
    "read_network",
    "read_observed",
    "read_run",
    "require_delimiter",
]
