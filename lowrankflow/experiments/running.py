"""`reproduce`: measure, draw, write."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import validation
from .._version import __version__
from ..files import replacing, require_output_folder, write_text
from .result import Compared, Tell

__all__ = ["EXPERIMENTS", "Reproduced", "reproduce", "titles"]

#: in the order of the paper
EXPERIMENTS = (
    "saddle_staircase", "hessian_inertia", "weight_decay_switch", "counterexamples", "kick_and_descend",
    "mode_curves", "lazy_to_rich", "adaptation", "layer_alignment", "rate_bounds", "step_sizes", "descent_beside_flow",
    "edge_of_stability", "imbalance_of_rules", "escape_histogram", "learning_coefficient", "exponential_time",
    "exponential_time_matrices", "phase_diagram", "time_to_loss", "order_of_learning", "torch_run",
)  # fmt: skip
_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Reproduced:
    """An experiment that was made.

    Attributes
    ----------
    name, title, caption : str
    quick : bool
        Whether it was the small version.
    numbers : dict
        What the figure shows.
    compared : tuple of Compared
        The numbers that theory predicts, with what it predicts.
    files : tuple of Path
        The figure, NAME.png, and the numbers, NAME.json; none where no folder was named.
    """

    name: str
    title: str
    caption: str
    quick: bool
    numbers: dict[str, Any]
    compared: tuple[Compared, ...]
    files: tuple[Path, ...]

    @property
    def agrees(self) -> bool:
        """Whether all numbers are as theory predicts."""
        return bool(self.compared) and all(each.agrees for each in self.compared)

    def __str__(self) -> str:
        right = sum(each.agrees for each in self.compared)
        return f"{self.name}: {right} of {len(self.compared)} numbers as predicted"


def titles() -> dict[str, str]:
    """Return the experiments by name, each with what it shows in one line."""
    return {name: _title(_module(name)) for name in EXPERIMENTS}


def reproduce(
    name: str, out: str | os.PathLike[str] | None = None, *, quick: bool = False, progress: Tell | None = None
) -> Reproduced:
    """Make an experiment of the paper: its numbers and its figure, the same ones at every call.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    out : path, optional
        The folder for NAME.png and NAME.json, made if need be; None: nothing is drawn and nothing written.
    quick : bool
        Fewer and smaller runs, in seconds.
    progress : callable, optional
        Told what is being done and the fraction of the whole that is done.

    Returns
    -------
    Reproduced

    Raises
    ------
    ValueError, TypeError
        If there is no such experiment, or the folder cannot be made or written.
    ImportError
        If the data of the experiment need a package that is not installed.

    Notes
    -----
    Both files are made before the first is written, each whole or not at all.

    Examples
    --------
    >>> found = reproduce("counterexamples", quick=True)
    >>> found.agrees, found.files
    (True, ())
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"`name` must be one of {', '.join(EXPERIMENTS)}, got {validation.describe(name)}.")
    validation.require_flags(quick=quick)
    validation.require_callable("progress", progress)
    folder = None if out is None else require_output_folder(out)
    module = _module(name)
    result = module.measure(quick, progress or (lambda stage, fraction: None))
    numbers = json.loads(
        json.dumps(result.numbers, default=_plain, allow_nan=False)
    )  # what is drawn is what is written
    made = Reproduced(name, _title(module), module.CAPTION, quick, numbers, tuple(result.compared), ())
    if folder is None:
        return made
    picture, text = _picture(module, made), _json(made)
    files = folder / f"{name}.png", folder / f"{name}.json"
    with replacing(files[0]) as file:
        file.write(picture)
    write_text(files[1], text)
    return replace(made, files=files)


def _module(name: str) -> ModuleType:
    return import_module(f".{name}", __package__)


def _title(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n")[0].rstrip(".")


def _picture(module: ModuleType, made: Reproduced) -> bytes:
    """Return the figure with its caption below, as the bytes of a PNG."""
    from .look import framed

    stream = io.BytesIO()
    with framed(module.SIZE, made.title, made.caption, made.quick) as (part, figure):
        module.draw(part, made.numbers)
        figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def _json(made: Reproduced) -> str:
    content = {
        "schema": _SCHEMA, "experiment": made.name, "title": made.title, "caption": made.caption, "quick": made.quick,
        "lowrankflow": __version__, "agrees": made.agrees,
        "compared": [asdict(each) | {"agrees": each.agrees} for each in made.compared],
        "numbers": made.numbers,
    }  # fmt: skip
    return json.dumps(content, indent=1, default=_plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return an array or a number of numpy as JSON has it."""
    return value.tolist()
