"""pykan's import path: the names, and pykan's numbers for what other tests do not compare with pykan."""

import numpy as np
import pytest
import sympy
import torch

import kan
import kan.utils
from kan.utils import SYMBOLIC_LIB, add_symbolic, ex_round, fit_params, sparse_mask

PYKANS = """
    SYMBOLIC_LIB add_symbolic augment_input batch_hessian batch_jacobian create_dataset create_dataset_from_data ex_round fit_params
    get_derivative model2param sparse_mask f_inv f_inv2 f_inv3 f_inv4 f_inv5 f_sqrt f_power1d5 f_invsqrt f_log f_tan f_arctanh f_arcsin
    f_arccos f_exp
""".split()

X, Y = sympy.symbols("x y")


def test_all_names_are_there() -> None:
    assert sorted(PYKANS) == sorted(kan.utils.__all__)
    for name in PYKANS:
        assert getattr(kan, name) is getattr(kan.utils, name)


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (1, "2.7*x**2.0 - 1.2*sin(3.1*x)"), (2, "2.72*x**2.0 - 1.23*sin(3.14*x)"), (3, "2.718*x**2.0 - 1.235*sin(3.142*x)"),
        (4, "2.7183*x**2.0001 - 1.2346*sin(3.1416*x)"),
    ],
)  # fmt: skip
def test_rounded_expressions(digits: int, expected: str) -> None:
    expression = 2.71828 * X**2.0001 + 0.00004 * Y - 1.23456 * sympy.sin(3.14159 * X + 1e-5)
    assert str(ex_round(expression, digits)) == expected


def test_rounding_leaves_no_other_floats() -> None:
    a, b = sympy.symbols("a b")
    expression = 3.14534242 * sympy.exp(sympy.sin(sympy.pi * a) + b**2) - 2.32345402
    assert ex_round(expression, 2) == 3.15 * sympy.exp(b**2 + sympy.sin(sympy.pi * a)) - 2.32
    # sympy merges the constants of the exponent and of the product while numbers are replaced.
    nested = 1.23456 * sympy.exp(0.98765 * X + 0.12345) * (2.34567 * X - 1.11111) ** 2
    once = ex_round(nested, 2)
    assert all(float(number) == round(float(number), 2) for number in once.atoms(sympy.Float)) and ex_round(once, 2) == once


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((2, 5), ["11100", "00011"]), ((5, 2), ["10", "10", "10", "01", "01"]), ((3, 3), ["100", "010", "001"]),
        ((3, 4), ["1000", "0110", "0001"]), ((7, 3), ["100", "100", "010", "010", "010", "001", "001"]),
    ],
)  # fmt: skip
def test_sparse_masks(shape: tuple[int, int], rows: list[str]) -> None:
    assert ["".join(str(int(v)) for v in row) for row in sparse_mask(*shape)] == rows


def test_functions_of_ones_own_in_singularity_avoiding_passes() -> None:
    add_symbolic("bump", lambda x: 1 / (1 + x**2), c=3)
    try:
        model = kan.KAN([1, 1], grid=3, auto_save=False)
        model.fix_symbolic(0, 0, 0, "bump", fit_params_bool=False, verbose=False)
        x = torch.linspace(-1, 1, 5)[:, None]
        torch.testing.assert_close(model(x, singularity_avoiding=True), model(x))
        assert SYMBOLIC_LIB["bump"][2] == 3 and str(SYMBOLIC_LIB["bump"][1](X)) == "bump(x)"
    finally:
        del SYMBOLIC_LIB["bump"]


def test_arrays_can_be_fitted() -> None:
    x = np.linspace(-1, 1, 100)
    affine, r2 = fit_params(x, 5 * np.sin(3 * x + 2) + 0.7, torch.sin, verbose=False)
    fitted = affine[2] * torch.sin(affine[0] * torch.from_numpy(x) + affine[1]) + affine[3]
    assert float(r2) > 1 - 1e-12
    np.testing.assert_allclose(fitted.numpy(), 5 * np.sin(3 * x + 2) + 0.7, atol=1e-6)
