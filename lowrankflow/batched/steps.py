"""How far the members of a batch go: one rule for all of them, or one each."""

from __future__ import annotations

from copy import copy
from typing import Any

import array_api_compat as api
import numpy as np
from numpy.typing import NDArray

from .. import validation
from ..descent.steps import require_step_size
from .arrays import Stack, like, namespace, per_member, taken, to_numpy
from .stacks import LinearNetworks

__all__ = ["Steps"]


class Steps:
    """The step of each member: one rule for all of them, or one each."""

    def __init__(self, step_size: Any, members: int, reference: Stack) -> None:
        several = (None if _is_rule(step_size) else validation.as_tuple(step_size)) or ()
        mixed = any(map(_is_rule, several))
        if mixed and len(several) != members:
            raise ValueError(
                f"`step_size` must be one for all, or one for each of {members} members, got {len(several)}."
            )
        self._rules = several if mixed else None
        self._rule: Any = step_size if _is_rule(step_size) else None
        for one in self._rules or (self._rule,):
            if one is not None:
                require_step_size(one)
        self.constant: Stack | None = None
        if self._rules is None and self._rule is None:
            self.constant = like(reference, per_member("step_size", step_size, members))
        self._count = members

    def of(self, k: int, members: NDArray[np.intp], loss: Any, nets: LinearNetworks, last: Stack) -> Stack:
        """Return the steps h_k of the members that are left, from their loss, networks and last steps."""
        if self.constant is not None:
            return self.constant
        if self._rules is None and not callable(getattr(self._rule, "at", None)):
            return self._scheduled(self._rule(k), members, last)
        before = to_numpy(last)
        found = np.empty(members.size)
        for row, i in enumerate(members):
            rule = self._rule if self._rules is None else self._rules[i]
            if callable(getattr(rule, "at", None)):
                rule = rule.at(k, _single(loss, row), nets[row], float(before[row]))
            found[row] = _number(rule(k) if callable(rule) else rule)
        return like(last, found)

    def _scheduled(self, h: Any, members: NDArray[np.intp], last: Stack) -> Stack:
        """Return what a schedule gave for all members: one number, or one for each of those that there were at first."""
        if not api.is_array_api_obj(h):
            h = np.asarray(_number(h)) if np.ndim(h) == 0 else np.asarray(validation.as_real("step_size(k)", h), float)
        if tuple(h.shape) not in ((), (self._count,)):
            raise ValueError(
                f"`step_size(k)` must be one number, or one for each of {self._count} members, got shape {tuple(h.shape)}."
            )
        return namespace(last).broadcast_to(taken(like(last, h), members, 1), last.shape)

    def take(self, chosen: NDArray[np.intp]) -> Steps:
        """Return the steps of some of the members; rules are asked by the number of the member among all."""
        found = copy(self)
        found.constant = taken(self.constant, chosen, 1)
        return found


def _number(h: Any) -> float:
    """Return a step as it is, also where it is none; refuse what is no number."""
    try:
        return validation.require_number("step_size(k)", h)
    except ValueError:  # nan, infinite, zero or negative: what was computed is kept
        return float(h)


def _is_rule(step: Any) -> bool:
    return callable(step) or callable(getattr(step, "at", None))


def _single(loss: Any, row: int) -> Any:
    """Return the loss of one member."""
    if not hasattr(loss, "__getitem__"):
        raise TypeError(
            f"`step_size` with `at` needs `loss[i]`, the loss of one member, which {type(loss).__name__} has not."
        )
    return loss[row]
