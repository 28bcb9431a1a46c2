"""Random formulas for the development of methods, so that the published test sets remain unseen.

A formula is a tree. Its leaves are the variables, each once (read-once) or some of them twice. Two subtrees are added, subtracted,
multiplied or divided, and a function of one variable may be applied to a subtree, with round constants inside and in front.
A formula is discarded if it is linear or a duplicate, if it is undefined somewhere in the box, if its values have heavy tails, hardly any
variation or many oscillations, or if it hardly depends on one of its variables.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import torch

from kan.datasets.problem import Problem

if TYPE_CHECKING:
    import sympy

__all__ = ["random_problems"]

RANGES = ((-1, 1), (-2, 2), (0, 1), (0.5, 2), (1, 3))
CONSTANTS = ("2", "3", "4", "5", "1/2", "3/2", "1/3", "pi", "0.3", "0.7", "1.2", "2.5")
CALLS = ("exp", "log", "sqrt", "sin", "cos", "tanh", "1/sqrt")
POWERS = ("{}**2", "{}**3", "1/{}")

POINTS = 400
"""Number of points in the box at which a formula is examined."""

MAX_DEVIATION = 8.0
"""Largest admissible deviation of a value from the mean, in standard deviations."""

MAX_TURNING_POINTS = 5
"""Largest admissible number of turning points along a line through the box."""

MIN_RELATIVE_EFFECT = 0.05
"""Smallest root mean square change of the values when one variable is drawn again, relative to their standard deviation."""


def random_problems(count: int, seed: int, read_once: bool = True, most_variables: int = 4) -> tuple[Problem, ...]:
    """Return problems with random formulas.

    Args:
        count: number of problems. A larger number adds problems and does not change the first ones.
        seed: seed of the private generators.
        read_once: whether every variable occurs once in the formula; otherwise one or two occur twice.
        most_variables: largest number of variables. The number is uniform from 1 on, or from 2 on without `read_once`.

    Raises:
        ValueError: if no such problems exist.

    >>> [problem.formula for problem in random_problems(2, seed=4)]
    ['...', '...']
    """
    least = 1 if read_once else 2
    if count < 0 or most_variables < least:
        raise ValueError(f"expected a count of at least 0 and at least {least} variable(s); got {count} and {most_variables}.")
    kind = "once" if read_once else "again"
    found: list[Problem] = []
    seen: set[sympy.Expr] = set()
    for k in range(count):
        problem = _problem(f"{kind}-{seed}-{k}", random.Random(f"{kind} {seed} {k}"), read_once, most_variables, seen)
        seen.add(problem.expression())
        found.append(problem)
    return tuple(found)


def _problem(name: str, generator: random.Random, read_once: bool, most_variables: int, seen: set[sympy.Expr]) -> Problem:
    """Return the first acceptable formula that a generator makes."""
    while True:
        variables = tuple(f"x{i}" for i in range(generator.randint(1 if read_once else 2, most_variables)))
        again = [] if read_once else generator.sample(variables, generator.randint(1, min(2, len(variables))))
        leaves = [*variables, *again]
        generator.shuffle(leaves)
        ranges = tuple(generator.choice(RANGES) for _ in variables)
        problem = Problem(name, _tree(leaves, generator), variables, ranges)
        if problem.expression() not in seen and _acceptable(problem, read_once):
            return problem


def _tree(leaves: list[str], generator: random.Random) -> str:
    """Return a formula with these leaves, in this order."""
    if len(leaves) == 1:
        return _around(leaves[0], generator, 0.6)
    cut = generator.randint(1, len(leaves) - 1)
    one, other = _tree(leaves[:cut], generator), _tree(leaves[cut:], generator)
    sign = generator.choice("++-**/")
    if sign in "+-" and generator.random() < 0.4:
        one = f"{generator.choice(CONSTANTS)}*{_closed(one)}"
    # Brackets are needed around the second part of a sum, and around both parts of a product.
    joined = f"{one} {sign} {_closed(other)}" if sign in "+-" else f"{_closed(one)}{sign}{_closed(other)}"
    return _around(joined, generator, 0.35)


def _around(inside: str, generator: random.Random, probability: float) -> str:
    """Return a function of a subtree with the given probability, otherwise the subtree."""
    if generator.random() >= probability:
        return inside
    if generator.random() < 0.4:
        inside = f"{generator.choice(CONSTANTS)}*{_closed(inside)}"
    if generator.random() < 0.3:
        inside = f"{inside} + {generator.choice(CONSTANTS)}"
    name = generator.choice(CALLS + POWERS)
    return name.format(_closed(inside)) if name in POWERS else f"{name}({inside})"


def _closed(formula: str) -> str:
    """Return a formula in brackets, unless it is a variable or a call without brackets inside."""
    return formula if re.fullmatch(r"\w+(\([^()]*\))?", formula) else f"({formula})"


def _acceptable(problem: Problem, read_once: bool) -> bool:
    """Whether a formula is suitable as a problem."""
    expr, symbols = problem.expression(), problem.symbols()
    if expr.free_symbols != set(symbols) or not any(expr.diff(symbol).free_symbols for symbol in symbols):
        return False
    if not read_once and all(expr.count(symbol) < 2 for symbol in symbols):  # as in (x y)/x
        return False
    f, bounds = problem.function(), torch.tensor(problem.ranges, dtype=torch.float64).T
    generator = torch.Generator().manual_seed(0)
    shape = (2, POINTS, len(symbols))
    x, anew = bounds[0] + (bounds[1] - bounds[0]) * torch.rand(shape, generator=generator, dtype=torch.float64)
    y = f(x)
    spread = y.std()
    if not bool(torch.isfinite(y).all()) or not 1e-2 < float(spread) < 1e3 or float((y - y.mean()).abs().max()) > MAX_DEVIATION * spread:
        return False
    lines = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None, None]
    slopes = f((x[:20] + lines * (anew[:20] - x[:20])).flatten(0, 1)).reshape(100, 20).diff(dim=0)
    if int((slopes[1:] * slopes[:-1] < 0).sum(0).max()) > MAX_TURNING_POINTS:
        return False
    for i in range(len(symbols)):
        other = x.clone()
        other[:, i] = anew[:, i]
        change = (f(other) - y).square().mean().sqrt()
        if not float(change) > MIN_RELATIVE_EFFECT * float(spread):  # NaN too
            return False
    return True
