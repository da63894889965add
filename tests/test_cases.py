"""The cases of these tests: those that stand for a product hold each pair of it, and are the same in every run."""

from itertools import combinations, product

import pytest
from cases import covering, every_pair, every_value

SIZES = [(19, 8, 4), (3, 3, 3, 3, 3), (5, 7), (4,), (1, 6, 1, 2)]


def pairs(rows, strength):
    return {meeting for row in rows for meeting in combinations(enumerate(row), strength)}


@pytest.mark.parametrize(("sizes", "strength"), [(sizes, k) for sizes in SIZES for k in (1, 2, 3) if k <= len(sizes)], ids=str)
def test_any_two_values_meet(sizes, strength):
    whole = list(product(*map(range, sizes)))
    few = covering(whole, strength)
    assert pairs(few, strength) == pairs(whole, strength)
    assert few == [row for row in whole if row in set(few)]  # in the order given, and each once
    assert few == covering(iter(whole), strength)
    # the largest product of so many sizes is needed, and not much more is enough
    least = 1
    for size in sorted(sizes)[-strength:]:
        least *= size
    assert least <= len(few) <= max(1.6 * least, least + 5)


def test_a_case_that_is_left_out_is_missed():
    """Control: no row of the cover can be spared where it is as small as can be."""
    few = covering(product(range(5), range(4), range(3)))
    assert len(few) == 20
    assert all(pairs(few[:i] + few[i + 1 :], 2) != pairs(few, 2) for i in range(20))


def test_only_what_stands_in_a_row_has_to_meet():
    """Rows of a table with holes: pairs that no row has are not asked for."""
    rows = [(a, b, c) for a, b, c in product(range(4), repeat=3) if a != b]
    assert pairs(covering(rows), 2) == pairs(rows, 2)


def test_marks_name_their_cases_as_marks_of_one_argument_do():
    mark = every_pair(a=[pytest.param(1, id="one"), pytest.param(2, id="two")], f=[abs, 3], x=[(0, 1), 2.5])
    cases = {case.id: case.values for case in mark.args[1]}
    assert mark.args[0] == ["a", "f", "x"]
    assert pairs(cases.values(), 2) == pairs(product((1, 2), (abs, 3), ((0, 1), 2.5)), 2)
    assert {name for case in cases for name in case.split("-")} == {"one", "two", "abs", "3", "(0, 1)", "2.5"}
    assert [case.values for case in every_value(a=[1, 2], b=[3, 4, 5]).args[1]] == [(1, 3), (1, 5), (2, 4)]
