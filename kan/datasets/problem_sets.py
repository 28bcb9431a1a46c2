"""Sets of problems of symbolic regression, by name.

============== ======= =============================================================================================
set            number  what
============== ======= =============================================================================================
feynman        120     the Feynman equations in the ranges of "AI Feynman" and SRBench
feynman-pykan  120     the same in the ranges of pykan
kan27          27      the dimensionless equations of the KAN paper
special        15      the special functions of the KAN paper; ten have no elementary closed form
rulekan        30      products, powers, nested functions and fuzzy rules
nguyen         12      polynomials and elementary functions of one and two variables
random         any     read-once formulas from a generator
random-again   any     formulas from a generator in which variables occur more than once
============== ======= =============================================================================================
"""

from __future__ import annotations

from kan.datasets.ai_feynman import AI_FEYNMAN
from kan.datasets.dimensionless import DIMENSIONLESS
from kan.datasets.feynman import EQUATIONS, Equation
from kan.datasets.nguyen import NGUYEN
from kan.datasets.problem import Problem
from kan.datasets.random_formulas import random_problems
from kan.datasets.rulekan import RULEKAN
from kan.datasets.special import SPECIAL
from kan.errors import unknown_name

__all__ = ["PROBLEM_SETS", "problems"]


def _posed(equation: Equation) -> Problem:
    """Return the problem that a row of a table of equations poses."""
    variables, ranges = tuple(equation.variables.split()), equation.ranges
    pairs = ranges if isinstance(ranges[0], list) else [ranges] * len(variables)
    return Problem(equation.name, equation.formula, variables, tuple((low, high) for low, high in pairs))


TABLES: dict[str, tuple[Problem, ...]] = {
    "feynman": tuple(_posed(AI_FEYNMAN[number]) for number in range(1, 121)),
    "feynman-pykan": tuple(_posed(EQUATIONS[number]) for number in range(1, 121)),
    "kan27": DIMENSIONLESS,
    "special": SPECIAL,
    "rulekan": RULEKAN,
    "nguyen": NGUYEN,
}

PROBLEM_SETS = (*TABLES, "random", "random-again")
"""Names of the sets."""


def problems(name: str, count: int = 30, seed: int = 0) -> tuple[Problem, ...]:
    """Return the problems of a set.

    Args:
        name: one of `PROBLEM_SETS`.
        count, seed: number of problems and seed of the generator, for the random sets.

    Raises:
        ValueError: if there is no such set.

    >>> len(problems("kan27")), problems("feynman")[11].formula
    (27, 'q*(Ef + B*v*sin(theta))')
    """
    if name in TABLES:
        return TABLES[name]
    if name not in PROBLEM_SETS:
        raise unknown_name("problem set", name, PROBLEM_SETS)
    return random_problems(count, seed, read_once=name == "random")
