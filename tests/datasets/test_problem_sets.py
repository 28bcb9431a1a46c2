"""The sets of problems: formulas equal their functions, ranges lie inside domains, and the tables say what they should."""

import math
import re

import numpy as np
import pytest
import sympy
import torch

from kan.datasets.ai_feynman import AI_FEYNMAN, NOT_IN_SRBENCH
from kan.datasets.problem import Problem
from kan.datasets.problem_sets import PROBLEM_SETS, TABLES, problems
from kan.datasets.rulekan import IMITATING_FEYNMAN

ALL = [(name, problem) for name in PROBLEM_SETS for problem in problems(name, count=12)]
SIZES = {"feynman": 120, "feynman-pykan": 120, "kan27": 27, "special": 15, "rulekan": 30, "nguyen": 12}


@pytest.mark.parametrize(("name", "problem"), ALL, ids=[f"{name} {problem.name}" for name, problem in ALL])
def test_a_problem(name: str, problem: Problem) -> None:
    x, y, rejected = problem.sample(1000, seed=5)
    assert rejected == 0, "the ranges leave the domain"
    assert float(y.std()) > 0
    unused = {"sph_harm (0, 1)", "sph_harm (0, 2)"}  # these are functions of the polar angle only
    assert problem.expression().free_symbols == set(problem.symbols()) or problem.name in unused
    if problem.closed_form:
        truth = sympy.lambdify(problem.symbols(), problem.expression(), "numpy")(*x.numpy().T)
        np.testing.assert_allclose(y.numpy()[:, 0], truth, rtol=1e-10, atol=1e-12)


def test_names_are_unique_and_the_sets_complete() -> None:
    assert {name: len(set(problem.name for problem in table)) for name, table in TABLES.items()} == SIZES
    assert set(TABLES) < set(PROBLEM_SETS)


def test_an_unknown_set() -> None:
    with pytest.raises(ValueError, match="unknown problem set 'kan-27'; did you mean 'kan27'"):
        problems("kan-27")


# Numbers whose two formulas differ by more than letters and Planck's constant: pykan drops 1/(6 pi) (32) and 1/(4 pi epsilon) (115),
# and has y/x for x/y (113).
OTHER_THAN_PYKAN = {32, 113, 115}


@pytest.mark.parametrize("number", range(1, 121))
def test_both_tables_of_the_feynman_equations_say_the_same(number: int) -> None:
    one, other = problems("feynman")[number - 1], problems("feynman-pykan")[number - 1]
    if number in OTHER_THAN_PYKAN:
        return
    names = dict(zip(canonical(other.variables, number), other.variables, strict=True))
    assert set(canonical(one.variables, number)) == set(names), (one.variables, other.variables)
    x = one.sample(20, seed=number).x
    y = one.function()(x)
    columns = dict(zip(canonical(one.variables, number), x.T, strict=True))
    if "h" in one.variables and "hbar" in other.variables:
        columns["hbar"] = columns["hbar"] / (2 * math.pi)
    again = other.function()(torch.stack([columns[name] for name in names], dim=1))
    torch.testing.assert_close(y, again)


LETTERS = {
    "Nn": "N_n", "Ef": "E_f", "m_0": "m0", "k_spring": "k_s", "Int_0": "I_0", "lambd": "lambda", "I1": "I_1", "I2": "I_2", "pr": "p_F",
    "n_0": "n0", "kb": "k_b", "Volt": "V_e", "mu_drift": "mu", "mob": "mu", "T1": "T_1", "T2": "T_2", "V1": "V_1", "V2": "V_2",
    "Pwr": "P", "sigma_den": "sigma", "n_rho": "n", "rho_c_0": "rho", "g_": "g", "mom": "mu", "Jz": "J", "E_n": "E", "Bx": "B_x",
    "By": "B_y", "Bz": "B_z", "A_vec": "A", "x1": "x_1", "m1": "m_1", "m2": "m_2", "theta1": "theta_1", "theta2": "theta_2", "H_G": "H",
    "lambda_": "lambda", "mu_M": "mu", "I": "l", "H": "B", "h": "hbar",
}  # fmt: skip
"""Letters of "AI Feynman" or of pykan, and a common one."""

LETTERS_OF = {
    34: {"v": "V"}, 49: {"pr": "p"}, 102: {"alpha": "k_f", "d": "a_f"}, 106: {"n": "N"}, 118: {"r": "a_f", "H": "H"},
    119: {"r": "a_f", "H": "H"}, 120: {"beta": "theta"},
}  # fmt: skip


def canonical(variables: tuple[str, ...], number: int) -> list[str]:
    letters = {**LETTERS, **LETTERS_OF.get(number, {})}
    return [letters.get(name, name) for name in variables]


def test_what_srbench_leaves_out() -> None:
    assert [AI_FEYNMAN[number].name for number in NOT_IN_SRBENCH[:3]] == ["I.26.2", "I.30.5", "II.11.17"]
    assert AI_FEYNMAN[NOT_IN_SRBENCH[3]].name.startswith("test_10 ")
    tests = [re.match(r"test_(\d+) ", AI_FEYNMAN[number].name) for number in range(101, 121)]
    assert sorted(int(match[1]) for match in tests if match) == list(range(1, 21))


def test_tasks_that_imitate_test_equations_are_named() -> None:
    assert len(IMITATING_FEYNMAN) == 5
