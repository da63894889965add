"""Integrators of the dynamical low-rank literature, as baselines: none of them is part of the library.

They solve W' = F(W) on matrices of rank r with a fixed step and know nothing of the metric: F is any function
from a `LowRankMatrix` to a matrix that can be multiplied (see `lowrank.gradient_field`). Ours differ in their
coordinates: they step in the N-th roots of the singular values, these in W itself.
"""

from __future__ import annotations

from typing import NamedTuple

from .bug import augmented_bug, bug, midpoint_bug
from .lowrank import Field, Step, gradient_field, march
from .projected_rk import perk1, perk2, perk4
from .projector_splitting import ksl1, ksl2

__all__ = [
    "METHODS",
    "Field",
    "Method",
    "Step",
    "augmented_bug",
    "bug",
    "gradient_field",
    "ksl1",
    "ksl2",
    "march",
    "midpoint_bug",
    "perk1",
    "perk2",
    "perk4",
]


class Method(NamedTuple):
    """One step of a method, and its order where F is smooth."""

    step: Step
    order: int


METHODS = {
    "PERK1": Method(perk1, 1),
    "PERK2": Method(perk2, 2),
    "PERK4": Method(perk4, 4),
    "KSL1": Method(ksl1, 1),
    "KSL2": Method(ksl2, 2),
    "BUG": Method(bug, 1),
    "augmented BUG": Method(augmented_bug, 1),
    "midpoint BUG": Method(midpoint_bug, 2),
}
