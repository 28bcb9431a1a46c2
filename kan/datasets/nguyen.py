"""Nguyen's twelve formulas of one and two variables, with the ranges of their first publication.

They were first posed with sets of 20 points, which ``problem.sample(20)`` draws.

Source
    N. Q. Uy et al., "Semantically-based crossover in genetic programming: application to real-valued symbolic regression", 2011,
    doi:10.1007/s10710-010-9121-2, for 1 to 10; 11 and 12 became customary with B. K. Petersen et al., "Deep symbolic
    regression", 2021, arXiv:1912.04871.
"""

from __future__ import annotations

from kan.datasets.problem import Problem

__all__ = ["NGUYEN"]

ROWS = [
    ("x**3 + x**2 + x", "x", (-1, 1)),
    ("x**4 + x**3 + x**2 + x", "x", (-1, 1)),
    ("x**5 + x**4 + x**3 + x**2 + x", "x", (-1, 1)),
    ("x**6 + x**5 + x**4 + x**3 + x**2 + x", "x", (-1, 1)),
    ("sin(x**2)*cos(x) - 1", "x", (-1, 1)),
    ("sin(x) + sin(x + x**2)", "x", (-1, 1)),
    ("log(x + 1) + log(x**2 + 1)", "x", (0, 2)),
    ("sqrt(x)", "x", (0, 4)),
    ("sin(x) + sin(y**2)", "x y", (0, 1)),
    ("2*sin(x)*cos(y)", "x y", (0, 1)),
    ("x**y", "x y", (0, 1)),
    ("x**4 - x**3 + y**2/2 - y", "x y", (0, 1)),
]

NGUYEN: tuple[Problem, ...] = tuple(
    Problem(f"Nguyen-{number}", formula, tuple(names.split()), (pair,) * len(names.split()))
    for number, (formula, names, pair) in enumerate(ROWS, start=1)
)
