"""The 30 analytic tasks of the RuleKAN benchmark: products of functions of one variable, powers of sums, nested functions, fuzzy rules.

They are difficult for a network with one function per edge, since products such as ``exp(-0.7 x) sin(2.4 x)`` occur on single edges.

Source
    F. Sovrano et al., "In-context symbolic regression with Kolmogorov-Arnold networks", 2026, arXiv:2603.15250, and the task catalogue of
    the repository Francesco-Sovrano/RuleKAN, from which the formulas and the ranges are.
"""

from __future__ import annotations

import math

from kan.datasets.problem import Problem

__all__ = ["RULEKAN"]

PI = math.pi
UNIT, WIDE = (0, 1), (-1.5, 1.5)

# fmt: off
ROWS: list[tuple[str, str, list[tuple[float, float]]]] = [
    # Products and sums of functions
    ("same_var_exp_sin", "0.8*exp(-0.7*x0)*sin(2.4*x0)", [WIDE]),
    ("cross_log_cos", "0.75*log(1 + x0**2)*cos(1.7*x1)", [(-2, 2), (-PI, PI)]),
    (
        "mixed_rank4",
        "1.3*exp(-0.9*x0)*sin(2.2*x1) + 0.75*log(1 + x2**2)*cos(1.6*x3) + 0.25*tanh(2*x4) + 0.4*exp(-0.65*x4)*sin(2.35*x4)",
        [(0, 2), (-PI, PI), (-2, 2), (-PI, PI), WIDE],
    ),
    ("three_way_product", "0.9*sin(2*x0)*exp(0.55*x1)*sqrt(1 + (1.2*x2)**2)", [WIDE] * 3),
    ("two_same_var_mechanisms", "0.3*tanh(2*x0) + 0.55*exp(-0.6*x0)*sin(2.5*x0)", [WIDE]),
    ("rational_product_mix", "0.9*cos(2*x0)/(1 + 1.5*x1**2) + 0.55*sqrt(1 + x2**2)*tanh(1.7*x3) + 0.2*sin(3*x4)", [WIDE] * 5),
    # Powers of sums
    ("power_inv_bilinear", "1/(1 + 0.8*x0*x1)", [(-0.8, 0.8)] * 2),
    ("power_inv_quadratic_sum", "1/(1 + 0.6*x0**2 + 0.4*x1**2)", [(-1, 1)] * 2),
    ("power_square_affine_sum", "(0.8 + 0.4*x0 + 0.3*x1)**2", [(-1, 1)] * 2),
    ("power_ratio_product", "(0.7 + 0.4*x0)/(1 + 0.6*x0*x1)", [(-0.8, 0.8)] * 2),
    # Nested functions
    ("nested_same_sin_exp", "sin(exp(0.7*x0))", [WIDE]),
    ("nested_same_tanh_sin", "tanh(1.6*sin(2.2*x0))", [WIDE]),
    ("nested_cross_sin_product", "sin(1.3*x0*x1) + 0.2*x2**2", [WIDE] * 3),
    (
        "mixed_nested_products",
        "0.7*exp(-0.5*x0)*sin(2.1*x1) + 0.4*tanh(1.4*sin(2*x2))/(1 + x3**2) + 0.35*exp(-0.7*x4)*sin(2.4*x4)",
        [WIDE] * 5,
    ),
    ("nested_cross_oscillator", "sin(2.5*sin(1.6*x0) + 0.7*cos(1.3*x1))", [(-PI, PI)] * 2),
    # The KAN paper's examples
    ("pykan_exp_sin_square", "exp(sin(pi*x0) + x1**2)", [(-1, 1)] * 2),
    ("pykan_singularity", "sin(2*(log(x0) + log(x1)))", [(0.2, 5)] * 2),
    ("pykan_radial", "sqrt(x0**2 + x1**2)", [(-1, 1)] * 2),
    # Formulas like Feynman's
    ("feynman_kinetic", "0.5*x0*x1**2", [(0.2, 3), (-2, 2)]),
    ("feynman_gravity", "x0*x1/x2**2", [(0.5, 2)] * 3),
    ("feynman_gaussian", "exp(-x0**2/2)/sqrt(2*pi)", [(-3, 3)]),
    ("feynman_lorentz_mix", "x0*x1 + x0*x2*x3", [(-2, 2)] * 4),
    ("feynman_resonance", "1/((x1**2 - x0**2)**2 + (x2*x0)**2)", [(0.2, 2), (0.5, 2), (0.1, 1)]),
    # Fuzzy rules: a gate x in [0, 1] between two branches
    ("fuzzy_ite_cross", "(1 - x0)*0.7*sin(2.1*x1) + x0*1.1*exp(-0.75*x2)", [UNIT, WIDE, WIDE]),
    ("fuzzy_ite_same_variable", "(1 - x0)*0.65*sin(2.4*x0) + x0*0.85*tanh(2*x0)", [UNIT]),
    ("fuzzy_ite_shared_branch_variable", "(1 - x0)*0.8*cos(1.8*x1) + x0*0.55*exp(-0.6*x1)", [UNIT, WIDE]),
    (
        "fuzzy_nested_tree", "(1 - x0)*((1 - x1)*0.6*cos(1.7*x2) + x1*0.9*exp(-0.8*x3)) + x0*0.5*tanh(1.9*x4)",
        [UNIT, UNIT, WIDE, WIDE, WIDE],
    ),
    (
        "fuzzy_two_independent_rules",
        "0.7*((1 - x0)*sin(2*x2) + x0*exp(-0.7*x3)) + 0.4*((1 - x1)*cos(1.5*x4) + x1*tanh(1.8*x5))",
        [UNIT, UNIT, WIDE, WIDE, WIDE, WIDE],
    ),
    (
        "fuzzy_product_branches", "(1 - x0)*0.8*exp(-0.45*x1)*sin(2.2*x2) + x0*0.6*sqrt(1 + (1.15*x3)**2)*cos(1.55*x4)",
        [UNIT, WIDE, WIDE, WIDE, WIDE],
    ),
    (
        "fuzzy_same_gate_product_branches", "(1 - x0)*0.7*exp(-0.55*x0)*sin(2*x1) + x0*0.65*tanh(2.1*x0)*cos(1.45*x2)",
        [UNIT, WIDE, WIDE],
    ),
]
# fmt: on

RULEKAN: tuple[Problem, ...] = tuple(
    Problem(name, formula, tuple(f"x{i}" for i in range(len(ranges))), tuple(ranges)) for name, formula, ranges in ROWS
)

IMITATING_FEYNMAN = tuple(problem.name for problem in RULEKAN if problem.name.startswith("feynman_"))
"""Tasks that contain equations of the test sets, and must therefore not be used to tune methods."""
