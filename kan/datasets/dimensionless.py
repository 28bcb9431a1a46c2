"""The 27 dimensionless Feynman equations of the KAN paper.

The paper gives the equations without the ranges, which were chosen here. They lie inside the domains, contain no singular points, are
positive where the quantity is positive, and are wide enough for every variable to matter.

Source
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, the table of Feynman data sets.
"""

from __future__ import annotations

import math

from kan.datasets.problem import Problem

__all__ = ["DIMENSIONLESS"]

PI = math.pi

# fmt: off
DIMENSIONLESS: tuple[Problem, ...] = (
    Problem("I.6.2", "exp(-theta**2/(2*sigma**2))/sqrt(2*pi*sigma**2)", ("theta", "sigma"), ((-1, 1), (0.5, 2))),
    Problem(
        "I.6.2b", "exp(-(theta - theta1)**2/(2*sigma**2))/sqrt(2*pi*sigma**2)", ("theta", "theta1", "sigma"),
        ((-1.5, 1.5), (-1.5, 1.5), (0.5, 2)),
    ),
    Problem(
        "I.9.18", "a/((b - 1)**2 + (c - d)**2 + (e - f)**2)", ("a", "b", "c", "d", "e", "f"),
        ((0, 1), (2, 3), (0, 1), (1, 2), (0, 1), (1, 2)),
    ),
    Problem("I.12.11", "1 + a*sin(theta)", ("a", "theta"), ((-1, 1), (0, 2 * PI))),
    Problem("I.13.12", "a*(1/b - 1)", ("a", "b"), ((0, 1), (0.5, 2))),
    Problem("I.15.3x", "(1 - a)/sqrt(1 - b**2)", ("a", "b"), ((-1, 1), (-0.9, 0.9))),
    Problem("I.16.6", "(a + b)/(1 + a*b)", ("a", "b"), ((-0.8, 0.8), (-0.8, 0.8))),
    Problem("I.18.4", "(1 + a*b)/(1 + a)", ("a", "b"), ((0.5, 2), (-1, 1))),
    Problem("I.26.2", "asin(n*sin(theta2))", ("n", "theta2"), ((0, 0.99), (0, 2 * PI))),
    Problem("I.27.6", "1/(1 + a*b)", ("a", "b"), ((0.5, 2), (0.5, 2))),
    Problem("I.29.16", "sqrt(1 + a**2 - 2*a*cos(theta1 - theta2))", ("a", "theta1", "theta2"), ((0, 2), (0, 2 * PI), (0, 2 * PI))),
    Problem("I.30.3", "sin(n*theta/2)**2/sin(theta/2)**2", ("n", "theta"), ((0, 4), (0.4 * PI, 1.6 * PI))),
    Problem("I.30.5", "asin(a/n)", ("a", "n"), ((-1, 1), (1.1, 2))),
    Problem("I.37.4", "1 + a + 2*sqrt(a)*cos(delta)", ("a", "delta"), ((0.1, 1), (0, 2 * PI))),
    Problem("I.40.1", "n0*exp(-a)", ("n0", "a"), ((0, 1), (-1, 2))),
    Problem("I.44.4", "n*log(a)", ("n", "a"), ((0, 1), (0.5, 4))),
    Problem("I.50.26", "cos(a) + alpha*cos(a)**2", ("a", "alpha"), ((0, 2 * PI), (0, 1))),
    Problem("II.2.42", "(a - 1)*b", ("a", "b"), ((-1, 2), (0, 1))),
    Problem("II.6.15a", "c*sqrt(a**2 + b**2)/(4*pi)", ("a", "b", "c"), ((0, 1), (0, 1), (0, 1))),
    Problem("II.11.17", "n0*(1 + a*cos(theta))", ("n0", "a", "theta"), ((0, 1), (-1, 1), (0, 2 * PI))),
    Problem("II.11.27", "n*alpha/(1 - n*alpha/3)", ("n", "alpha"), ((0, 1), (0, 2))),
    Problem("II.35.18", "n0/(exp(a) + exp(-a))", ("n0", "a"), ((0, 1), (-2, 2))),
    Problem("II.36.38", "a + alpha*b", ("a", "alpha", "b"), ((0, 1), (0, 1), (0, 1))),
    Problem("II.38.3", "a/b", ("a", "b"), ((0, 1), (0.5, 2))),
    Problem("III.9.52", "a*sin((b - c)/2)**2/((b - c)/2)**2", ("a", "b", "c"), ((0, 1), (0, PI), (0, PI))),
    Problem("III.10.19", "sqrt(1 + a**2 + b**2)", ("a", "b"), ((-2, 2), (-2, 2))),
    Problem("III.17.37", "beta*(1 + alpha*cos(theta))", ("alpha", "beta", "theta"), ((0, 1), (0, 1), (0, 2 * PI))),
)
# fmt: on
