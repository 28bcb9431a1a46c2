"""Random formulas: as many as asked for, acceptable, and the same for the same seed."""

import re

import pytest

from kan.datasets.problem_sets import problems
from kan.datasets.random_formulas import random_problems


@pytest.mark.parametrize("name", ["random", "random-again"])
def test_random_formulas(name: str) -> None:
    found = problems(name, count=10, seed=7)
    assert found == problems(name, count=10, seed=7) and found[:4] == problems(name, count=4, seed=7)
    assert found != problems(name, count=10, seed=8)
    assert len({problem.expression() for problem in found}) == 10
    for problem in found:
        once = all(len(re.findall(rf"\b{variable}\b", problem.formula)) == 1 for variable in problem.variables)
        assert once == (name == "random")
        assert len(problem.variables) >= (1 if once else 2)


def test_random_formulas_that_cannot_be() -> None:
    assert random_problems(0, seed=0) == ()
    with pytest.raises(ValueError, match=r"at least 2 variable\(s\); got 3 and 1"):
        random_problems(3, seed=0, read_once=False, most_variables=1)
