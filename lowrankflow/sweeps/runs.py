"""A run as a value: what is done with a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from .. import columns, validation
from ..metrics.names import as_metric
from ..problems.rules import as_json
from .words import require_known

__all__ = ["RUN_VALUES", "Run"]

KINDS = ("flow", "descent", "verify", "compare", "landscape")
OPTIMIZERS = ("gradient", "heavy-ball", "nesterov", "adam")
STARTS = ("balanced", "gaussian")

#: results of a trajectory that are no column of the library
OF_PATHS = ("loss", "excess", "stationarity", "singular_values", "hidden_error", "hidden_loss")

#: what each kind of run takes beside its kind and its columns
_TAKEN = {
    "flow": ("until", "gtol", "target", "times", "flow", "metric", "method", "start", "imbalance"),
    "descent": (
        "until", "gtol", "target", "start", "imbalance", "step", "edge", "steps", "optimizer", "optimizer_args",
        "weight_decay", "keep_every",
    ),
    "verify": (),
    "compare": (),
    "landscape": (),
}  # fmt: skip


def _optional(require: Callable[..., Any], **options: Any) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else require(name, value, **options)


def _choice(*choices: str) -> Callable[[str, Any], str]:
    return lambda name, value: validation.require_choice(name, value, choices)


def _until(name: str, value: Any) -> float | str | None:
    if isinstance(value, str):
        return validation.require_choice(name, value, ("converged",))
    return None if value is None else validation.require_number(name, value)


def _times(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    found = validation.as_vector(name, value)
    if not found.size or found[0] < 0 or (found[1:] <= found[:-1]).any():
        raise ValueError(f"`{name}` must be increasing from 0 or later, got {found.size} that are not.")
    return tuple(map(float, found))


def _columns(name: str, value: Any) -> tuple[str, ...]:
    items = validation.as_tuple(value)
    if items is None or not all(isinstance(item, str) for item in items):
        raise TypeError(f"`{name}` must be names in a list, got {validation.describe(value)}.")
    return tuple(dict.fromkeys(map(str, items)))


def _metric(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"`{name}` must be a name or a depth, got {validation.describe(value)}.")
    as_metric(value)  # refuses what is none
    return value if isinstance(value, str) else f"{value:g}"


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"`{name}` must be a text, got {validation.describe(value)}.")
    return value


def _arguments(name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    items = tuple(value.items()) if isinstance(value, Mapping) else validation.as_tuple(value)
    if items is None or not all(isinstance(item, tuple) and len(item) == 2 for item in items):
        raise TypeError(f"`{name}` must be a mapping of names to numbers, got {validation.describe(value)}.")
    return tuple(sorted((str(k), validation.require_number(f"{name}.{k}", v, positive=False)) for k, v in items))


#: by field: (name, what was given) -> what is kept
RUN_VALUES: dict[str, Callable[[str, Any], Any]] = {
    "kind": _choice(*KINDS),
    "columns": _columns,
    "until": _until,
    "gtol": validation.require_number,
    "target": _optional(validation.require_number),
    "times": _times,
    "flow": _choice("riemannian", "factors"),
    "metric": _metric,
    "method": _text,
    "start": _choice(*STARTS),
    "imbalance": lambda name, value: validation.require_number(name, value, positive=False),
    "step": _optional(validation.require_number),
    "edge": _optional(validation.require_number),
    "steps": lambda name, value: validation.require_integer(name, value, low=1),
    "optimizer": _choice(*OPTIMIZERS),
    "optimizer_args": _arguments,
    "weight_decay": lambda name, value: validation.require_number(name, value, positive=False),
    "keep_every": _optional(validation.require_integer, low=1),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    r"""What is done with a problem, and what is kept of it: numbers, texts, and arrays of few numbers.

    Parameters
    ----------
    kind : {"flow", "descent", "verify", "compare", "landscape"}
        Integrate a flow; train the factors; or the report of ``lowrankflow verify``, ``compare``, ``landscape``.
    columns : sequence of str
        What is kept. Of flows and descent: "loss", "excess" (the loss over the least one of rank r), "stationarity",
        "singular_values", "hidden_error", "hidden_loss" (of the entries that ``missing`` hid), and the names of
        ``lowrankflow.columns``; the loss where none is named. Of a verification its claims. Of a comparison "loss", "time",
        "gradients" and the other numbers of its tables, by metric. Of a place in the landscape "kind", "rank", "loss", ... .
    until : float or "converged", optional
        Of flows: the end time, in the units of the loss, or until the stationarity is `gtol` of that at the start; by default
        the last of `times`, else "converged". Of descent: "converged", or None for all its `steps`. A flow ends at the
        problem's ``natural_end``, in natural units, and with its ``max_evaluations`` (200 000), too.
    gtol : float
        Of the stationarity, relative to that at the start.
    target : float, optional
        End where the loss falls to this value, in the normalisation of the loss: ``t`` is then the time that takes.
    times : sequence of float, optional
        Of flows: keep the columns at these times, in the units of the loss; nan after the end of the run.
    flow : {"riemannian", "factors"}
        The flow of W, or that of the factors.
    metric : str or float, optional
        Of the Riemannian flow; None: that of the problem's depth.
    method : str
        As of `integrate`.
    start : {"balanced", "gaussian"}
        Of runs of factors: balanced factors of W(0), or factors of independent entries N(0, scale^2 / d_j), scale that of
        the problem.
    imbalance : float
        Of balanced factors: A W_1, W_2 A^{-1} in the place of W_1, W_2, with A = exp(imbalance diag(-1 .. 1)).
    step, edge : float, optional
        Of descent, one of them: the step, in units of flow time, or the step over the edge of stability 2 / sharpness.
    steps : int
        Updates of descent.
    optimizer : {"gradient", "heavy-ball", "nesterov", "adam"}
        Of descent, with `optimizer_args` such as {"momentum": 0.9} and a `weight_decay`.
    keep_every : int, optional
        Of descent: keep the columns every so many updates; None: at the end.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks its rule, or is of another kind of run.
    """

    kind: str = "flow"
    columns: Any = ()
    until: float | str | None = None
    gtol: float = 1e-6
    target: float | None = None
    times: Any = None
    flow: str = "riemannian"
    metric: Any = None
    method: str = "auto"
    start: str = "balanced"
    imbalance: float = 0.0
    step: float | None = None
    edge: float | None = None
    steps: int = 1000
    optimizer: str = "gradient"
    optimizer_args: Any = ()
    weight_decay: float = 0.0
    keep_every: int | None = None

    def __post_init__(self) -> None:
        for name, as_value in RUN_VALUES.items():
            object.__setattr__(self, name, as_value(name, getattr(self, name)))
        self._require_own_fields()
        self._require_columns()
        if self.kind == "descent":
            if (self.step is None) == (self.edge is None):
                got = "neither" if self.step is None else "both"
                raise ValueError(f"`step` or `edge` must be given for descent, one of them, got {got}. Try edge = 0.5.")
            if self.until not in (None, "converged"):
                raise ValueError(f"`until` must be converged for descent, got {self.until}. Use steps.")
            if self.start == "gaussian" and self.imbalance:
                raise ValueError("`imbalance` is of balanced factors, got a gaussian start with it. Leave one out.")
        if self.flow == "riemannian" and self.kind == "flow" and (self.start != "balanced" or self.imbalance):
            raise ValueError('`start` and `imbalance` are of factors, got a riemannian flow. Use flow = "factors".')
        if self.flow == "factors" and self.metric is not None:
            raise ValueError("`metric` is of the riemannian flow, got one for the factors. Leave it out.")

    def _require_own_fields(self) -> None:
        for f in fields(self):
            if f.name in ("kind", "columns", *_TAKEN[self.kind]) or getattr(self, f.name) == f.default:
                continue
            homes = [kind for kind, names in _TAKEN.items() if f.name in names]
            raise ValueError(f"`{f.name}` is of {' and '.join(homes)}, got a run of kind {self.kind}. Leave it out.")

    def _require_columns(self) -> None:
        if self.kind in ("flow", "descent"):
            known = (*OF_PATHS, *columns.NAMES)
            for name in self.columns:
                if name in columns.OF_FACTORS and self.kind == "flow" and self.flow == "riemannian":
                    raise ValueError(f'`columns` {name!r} needs factors, got a riemannian flow. Use flow = "factors".')
        elif self.kind == "verify":
            from ..claims import CLAIMS  # a room that takes half a second, for which no flow has to wait

            known = tuple(name for name in CLAIMS if " " not in name and not name.startswith("check_"))
        else:
            return  # of tables and places: they know what they have
        for name in self.columns:
            require_known("columns", name, known)

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, as JSON has it."""
        return {
            f.name: as_json(value)
            for f in fields(self)
            if f.default is not MISSING and (value := getattr(self, f.name)) != f.default
        }
