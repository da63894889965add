"""Where a flow cannot be compared, because it does not move or the data do not see it: refused before anything runs."""

from __future__ import annotations

import numpy as np

from ..claims.limits import set_text
from ..gradients import projected
from ..losses import Loss, facts
from ..matrices import EPS, LowRankMatrix, Product
from .courses import Modes

__all__ = ["require_moving", "require_seen"]

_ROUNDOFF = 100  # what a last-digit change of W does to the projected gradient, with two digits of reserve


def require_seen(loss: Loss, start: LowRankMatrix) -> None:
    """Refuse a W(0) of more rank than the inputs have directions: what no sample sees never moves."""
    spectrum = facts(loss).spectrum
    if spectrum is None or spectrum.eigenvalues.size >= start.rank:
        return
    seen, samples = spectrum.eigenvalues.size, getattr(loss, "samples", None)
    what = f"{samples} samples" if samples == seen else f"inputs of rank {seen}"
    raise ValueError(
        f"`start` must not exceed the rank of the inputs, got rank {start.rank} for {what}. Lower the rank."
    )


def require_moving(loss: Loss, start: LowRankMatrix) -> None:
    """Refuse a W(0) at which the projected gradient is roundoff, and say which critical point it is."""
    rng = np.random.default_rng(0)
    left, right = (part * (1 + EPS * rng.choice([-1.0, 1.0], part.shape)) for part in start.split())
    there = projected(start, loss.gradient(start))
    noise = _ROUNDOFF * (projected(start, loss.gradient(Product(left, right))) - there).norm()
    if not there.norm() <= noise:  # what is not finite is another mistake
        return
    which = ""
    if Modes.known(loss):
        learned, apart = Modes(loss).learned(start)
        which = f", the one of the singular pairs J = {set_text(learned)}" if apart < 1e-6 else ""
    raise ValueError(
        f"`start` must not be a critical point{which}, got a projected gradient of {there.norm():.2g}, which is roundoff:"
        " nothing moves. Start elsewhere, for instance at random_point(m, n, rank, rng=0)."
    )
