"""Random formulas to develop methods on, so that the published test sets stay unseen.

A formula is a tree. Its leaves are the variables, each once (read-once) or some of them twice; two subtrees are added, subtracted,
multiplied or divided, and a function of one variable may be put around a subtree, with round constants inside and in front.
Formulas are thrown away that are linear or come twice, that have no value somewhere in the box, heavy tails, hardly any variation, many
waves, or a variable that hardly matters.
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
HEAVIEST_TAIL = 8.0
"""Largest deviation from the mean, in standard deviations."""

MOST_TURNS = 5
"""Turning points along a line through the box."""

LEAST_EFFECT = 0.05
"""What drawing a variable anew must change, root mean square, over the standard deviation of the values."""


def random_problems(count: int, seed: int, read_once: bool = True, most_variables: int = 4) -> tuple[Problem, ...]:
    """Problems with random formulas.

    Args:
        count: number of problems. The first ones do not depend on it.
        seed: of the private generators.
        read_once: every variable stands in the formula once; otherwise one or two stand there twice.
        most_variables: the number of variables is uniform from 1 (2 if `read_once` is not set) to this.

    Raises:
        ValueError: if no such problems can be made.

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
    """The first acceptable formula of a generator."""
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
    """A formula with these leaves, in this order."""
    if len(leaves) == 1:
        return _around(leaves[0], generator, 0.6)
    cut = generator.randint(1, len(leaves) - 1)
    one, other = _tree(leaves[:cut], generator), _tree(leaves[cut:], generator)
    sign = generator.choice("++-**/")
    if sign in "+-" and generator.random() < 0.4:
        one = f"{generator.choice(CONSTANTS)}*{_closed(one)}"
    # Of a sum only the second part must be closed, of a product both.
    joined = f"{one} {sign} {_closed(other)}" if sign in "+-" else f"{_closed(one)}{sign}{_closed(other)}"
    return _around(joined, generator, 0.35)


def _around(inside: str, generator: random.Random, probability: float) -> str:
    """A function of a subtree, or the subtree."""
    if generator.random() >= probability:
        return inside
    if generator.random() < 0.4:
        inside = f"{generator.choice(CONSTANTS)}*{_closed(inside)}"
    if generator.random() < 0.3:
        inside = f"{inside} + {generator.choice(CONSTANTS)}"
    name = generator.choice(CALLS + POWERS)
    return name.format(_closed(inside)) if name in POWERS else f"{name}({inside})"


def _closed(formula: str) -> str:
    """In brackets, unless it is a variable or a call without brackets inside."""
    return formula if re.fullmatch(r"\w+(\([^()]*\))?", formula) else f"({formula})"


def _acceptable(problem: Problem, read_once: bool) -> bool:
    """Whether a formula is one to be asked for."""
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
    if not bool(torch.isfinite(y).all()) or not 1e-2 < float(spread) < 1e3 or float((y - y.mean()).abs().max()) > HEAVIEST_TAIL * spread:
        return False
    lines = torch.linspace(0, 1, 100, dtype=torch.float64)[:, None, None]
    slopes = f((x[:20] + lines * (anew[:20] - x[:20])).flatten(0, 1)).reshape(100, 20).diff(dim=0)
    if int((slopes[1:] * slopes[:-1] < 0).sum(0).max()) > MOST_TURNS:
        return False
    for i in range(len(symbols)):
        other = x.clone()
        other[:, i] = anew[:, i]
        change = (f(other) - y).square().mean().sqrt()
        if not float(change) > LEAST_EFFECT * float(spread):  # NaN too
            return False
    return True
