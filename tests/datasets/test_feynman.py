"""The Feynman equations: formula, torch function and ranges fit together, and pykan's names lead to them."""

import ast
import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from kan import create_dataset
from kan.datasets.expression import parsed
from kan.datasets.feynman import EQUATIONS, OLD_NAMES
from kan.feynman import get_feynman_dataset

pytestmark = pytest.mark.usefixtures("float64")

NUMBERS = range(1, 121)


def samples(ranges: list[Any], inputs: int, size: int = 50, seed: int = 0) -> Tensor:
    """Uniform in the ranges."""
    pairs = torch.tensor(ranges if isinstance(ranges[0], list) else [ranges] * inputs, dtype=torch.float64)
    return pairs[:, 0] + torch.rand(size, inputs, generator=torch.Generator().manual_seed(seed)) * (pairs[:, 1] - pairs[:, 0])


def test_there_are_120_equations_with_names_of_their_own() -> None:
    assert set(EQUATIONS) == {"test", *NUMBERS}
    assert len({equation.name for equation in EQUATIONS.values()}) == 121
    assert not {equation.name for equation in EQUATIONS.values()} & set(OLD_NAMES)


@pytest.mark.parametrize("number", ["test", *NUMBERS])
def test_the_function_is_the_formula(number: int | str) -> None:
    symbols, expr, f, ranges = get_feynman_dataset(number)
    assert set(symbols) == expr.free_symbols
    assert not isinstance(ranges[0], list) or len(ranges) == len(symbols)
    x = samples(ranges, len(symbols))
    y = f(x)
    assert y.shape == (len(x), 1) and bool(torch.isfinite(y).all())
    truth = sympy.lambdify(symbols, expr, "numpy")(*x.numpy().T)
    np.testing.assert_allclose(y.numpy()[:, 0], truth, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("number", "formula"),
    [
        (20, lambda u, v, c: (u + v) / (1 + u * v / c**2)),
        (113, lambda m, p, omega, x, alpha, y: (p**2 + m**2 * omega**2 * x**2 * (1 + alpha * y / x)) / (2 * m)),
        (
            114,
            lambda q, epsilon, y, V_e, d: (
                q / (4 * math.pi * epsilon * y**2) * (4 * math.pi * epsilon * V_e * d - q * d * y**3 / (y**2 - d**2) ** 2)
            ),
        ),
        (110, lambda d, G, m_1, m_2: 2 * math.pi * d**1.5 / torch.sqrt(G * (m_1 + m_2))),
    ],
)
def test_functions_that_pykan_has_wrong(number: int, formula: Any) -> None:
    symbols, _, f, ranges = get_feynman_dataset(number)
    x = samples(ranges, len(symbols))
    torch.testing.assert_close(f(x)[:, 0], formula(*x.T))


def test_equations_by_name() -> None:
    for number, equation in EQUATIONS.items():
        assert get_feynman_dataset(equation.name)[1] == get_feynman_dataset(number)[1]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("I.18.4", 21), ("I.18.12", 22), ("I.10.9", 60), ("II.10.9", 60), ("Rutherforld scattering", 101), ("Rutherford scattering", 101),
        ("Friedman equation", 102), ("Friedmann equation", 102), ("Goldstein 3.64 (ellipse)", 109), (np.int64(12), 12),
    ],
)  # fmt: skip
def test_names_old_and_new(name: Any, number: int) -> None:
    assert get_feynman_dataset(name)[1] == get_feynman_dataset(number)[1]


def test_two_equations_had_one_name() -> None:
    assert str(get_feynman_dataset("I.18.4")[1]) == "(m1*r1 + m2*r2)/(m1 + m2)"
    assert str(get_feynman_dataset("I.18.12")[1]) == "F*r*sin(theta)"


@pytest.mark.parametrize("name", [0, 121, -1, True, 1.5, "I.6.21", "goldstein", None])
def test_unknown_equations(name: Any) -> None:
    with pytest.raises(ValueError, match="expected a number from 1 to 120, 'test', or a name such as 'I.12.11'"):
        get_feynman_dataset(name)


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ValueError, match="Did you mean .*'Compton scattering'"):
        get_feynman_dataset("Compton scatering")


def test_the_table_cannot_be_changed_through_what_is_returned() -> None:
    get_feynman_dataset(12)[3][0][0] = 5.0
    assert get_feynman_dataset(12)[3] == [[-1, 1]] * 4 + [[0, 2 * math.pi]]


def test_words_of_python_are_symbols() -> None:
    symbols, expr, _, _ = get_feynman_dataset("I.30.5")
    assert [symbol.name for symbol in symbols] == ["lambda", "n", "d"]
    assert str(expr) == "asin(lambda/(d*n))"


@pytest.mark.parametrize("name", ["test", 7, 12])
def test_a_dataset_is_made_of_it(name: int | str) -> None:
    symbols, _, f, ranges = get_feynman_dataset(name)
    dataset = create_dataset(f, n_var=len(symbols), ranges=ranges, train_num=10, test_num=5)
    assert dataset["train_input"].shape == (10, len(symbols)) and dataset["train_label"].shape == (10, 1)


def test_the_function_keeps_dtype_and_gradient() -> None:
    f = get_feynman_dataset(3)[2]
    x = samples([[-1, 1], [-1, 1], [0.5, 2]], 3, 5)
    assert f(x.float()).dtype == torch.float32
    assert torch.autograd.gradcheck(f, x.requires_grad_())


def test_the_function_wants_its_columns() -> None:
    with pytest.raises(ValueError, match=r"expected a tensor with 2 column\(s\), n, theta2; got \(4, 3\)"):
        get_feynman_dataset(26)[2](torch.zeros(4, 3))


@pytest.mark.parametrize(
    "formula", ["x.real", "__import__('os')", "x if x else x", "[x]", "x and x", "x(1)", "gamma(x)", "y", "'x'", "x @ x", "log(x, 2)", "+x"]
)
def test_only_formulas_are_read(formula: str) -> None:
    ast.parse(formula, mode="eval")
    with pytest.raises(ValueError, match=r"is no part of a formula; expected numbers, pi, \+ - \* / \*\*, the variables x and"):
        parsed(formula, {"x": sympy.Symbol("x")})
