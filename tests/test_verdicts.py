"""Verdicts on random problems: the quick form of benchmarks/verdicts.py, with the problems that were once judged wrongly."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# Each was once a true claim that read "failed", a warning, or a claim that was not made although its hypotheses hold
ONCE_WRONG = {
    63: "imbalance, where W does not move",
    75: "tolerance, not claimed: RK45 takes four steps",
    98: "discrete, whose order has not settled",
    101: "tolerance, where RK45 takes few steps",
    143: "pointwise, of a product that had lost sigma_r",
    183: "discrete, whose order has not settled",
}
ANY = range(300, 306)  # not looked at when the claims were written


@pytest.fixture(scope="module")
def trials():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from trials import faults, problems
    finally:
        sys.path.remove(str(BENCHMARKS))
    return faults, problems


@pytest.mark.parametrize("number", [*ONCE_WRONG, *ANY], ids=lambda n: f"{n}: {ONCE_WRONG.get(n, 'any')}")
def test_no_true_claim_fails(number, trials):
    faults, problems = trials
    problem = problems.draw(number, 0)
    outcome = faults.verify(problem, 60.0, None, None, lambda stage: None)
    assert outcome.clean, (str(problem), outcome.error, outcome.warnings, [str(c) for c in outcome.failed])
    assert {name for name in problem.expected if outcome[name].verdict != "passed"} == set(), str(problem)
