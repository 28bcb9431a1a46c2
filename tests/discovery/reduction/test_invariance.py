"""Laws in fewer variables: every reduction is exact, and what scales or shifts is found."""

from collections.abc import Callable

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from kan.discovery.reduction.invariance import Reduction, Scaling, equivalent_reductions, scalings, translations, unchanged
from kan.discovery.reduction.polynomials import Array

a, b, c = NAMES = sympy.symbols("a b c")


def samples(columns: int = 3, count: int = 300) -> Array:
    return np.random.default_rng(0).uniform(1, 3, (count, columns))


def check(reduction: Reduction, x: Array, y: Array) -> None:
    """Columns and factor mean what the reduction holds."""
    names = NAMES[: x.shape[1]]

    def values(expression: sympy.Expr) -> Array:
        return np.broadcast_to(np.asarray(sympy.lambdify(names, expression)(*x.T), dtype=float), len(x))

    assert reduction.x.shape == (len(x), len(reduction.columns)) and reduction.y.shape == y.shape
    np.testing.assert_allclose(values(reduction.factor) * reduction.y, y, rtol=1e-10)
    for k, column in enumerate(reduction.columns):
        np.testing.assert_allclose(values(column), reduction.x[:, k], rtol=1e-10)


@pytest.mark.parametrize(("power", "column"), [(-1, b / c), ("1/3", b**3 * c), ("-3/4", b**4 / c**3)])
def test_a_law_with_one_product_and_a_factor(power: object, column: sympy.Expr) -> None:
    x = samples()
    y = x[:, 0] * np.exp(-x[:, 1] * x[:, 2] ** float(sympy.Rational(power)))
    found = scalings(x, y, NAMES)
    assert (found[0].factor, found[0].columns) == (a, (column,)) and found[0].error < 1e-6
    for reduction in found:
        check(reduction, x, y)


@pytest.mark.parametrize("powers", [(0.5, 1.5, -2), (1, 0, 0), (-1, 2, 1), ("1/3", 1, "-4/3")])
def test_monomials_leave_nothing(powers: tuple[object, ...]) -> None:
    x = samples()
    exponents = [sympy.Rational(p) for p in powers]
    y = -2.5 * np.prod(x ** np.array([float(p) for p in exponents]), axis=1)
    found = scalings(x, y, NAMES)[0]
    assert found.columns == () and found.error < 1e-12
    assert found.factor == sympy.Mul(*(name**p for name, p in zip(NAMES, exponents, strict=True)))
    np.testing.assert_allclose(found.y, -2.5)
    check(found, x, y)


def test_noise_hides_no_scaling() -> None:
    x = samples()
    y = x[:, 0] * np.exp(-x[:, 1] / x[:, 2]) * (1 + 0.01 * np.random.default_rng(1).normal(size=300))
    found = scalings(x, y, NAMES)[0]
    assert (found.factor, found.columns) == (a, (b / c,)) and 0.003 < found.error < 0.03
    check(found, x, y)


def test_columns_with_both_signs_stay_as_they_are() -> None:
    x = samples() - [0, 2, 0]
    y = x[:, 0] * np.exp(x[:, 1]) / x[:, 2]
    (found,) = scalings(x, y, NAMES)
    assert (found.factor, found.columns) == (a / c, (b,)) and (found.x[:, 0] == x[:, 1]).all()
    check(found, x, y)


def test_negative_columns_are_products_of_their_opposites() -> None:
    x = samples() * [1, -1, 1]
    y = x[:, 0] * np.exp(x[:, 1] / x[:, 2])
    found = scalings(x, y, NAMES)[0]
    assert (found.factor, found.columns) in [(a, (-b / c,)), (a, (-c / b,))] and (found.x > 0).all()
    check(found, x, y)


def test_no_scaling_where_there_is_none() -> None:
    assert not scalings(samples(2), np.exp(samples(2)[:, 0]) + np.sin(3 * samples(2)[:, 1]), NAMES[:2])


def scaled(form_list: list[list[int]], power_list: list[int], shift: float) -> tuple[Array, Array, Scaling]:
    """Data and a scaling of the first two columns, of the third too if it has one sign."""
    x, definite = samples(count=30) - [0, 0, shift], NAMES if shift == 0 else NAMES[:2]
    n = len(definite)
    raw = () if shift == 0 else ((c, x[:, 2]),)
    forms, powers = np.array(form_list, dtype=float)[:, :n], np.array(power_list, dtype=float)[:n] / 2
    return x, np.cos(x.sum(1)), Scaling(definite, x[:, :n], forms, powers, raw)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=2),
    st.lists(st.integers(-3, 3), min_size=3, max_size=3),
    st.sampled_from([0.0, 2.0]),
)
@settings(max_examples=25, deadline=None)
def test_reductions_and_equivalent_ones_are_exact(forms: list[list[int]], powers: list[int], shift: float) -> None:
    x, y, scaling = scaled(forms, powers, shift)
    reduction = scaling.reduction(y, 0.25)
    check(reduction, x, y)
    several = list(equivalent_reductions(reduction, most=8))
    assert len(several) <= 8 and all(one.error == 0.25 for one in several)
    for one in several:
        check(one, x, y)
    assert all(one.factor == reduction.factor for one in equivalent_reductions(reduction, factors=False, most=4))


def test_equivalent_reductions_span_the_same_products() -> None:
    x, y, scaling = scaled([[1, -1, 0], [0, 1, 1]], [1, 0, 0], 0.0)
    several = list(equivalent_reductions(scaling.reduction(y, 0.0)))
    assert len(several) == 30
    for one in several:
        assert one.scaling is not None and np.linalg.matrix_rank(np.concatenate([one.scaling.forms, scaling.forms])) == 2
    assert {one.factor for one in several} > {sympy.sqrt(a)}
    assert not list(equivalent_reductions(Reduction((a,), sympy.Integer(1), x[:, :1], y, 0.0)))


def test_unchanged_is_where_equivalent_reductions_begin() -> None:
    x = samples(2)
    begin = unchanged(x, x.sum(1), NAMES[:2])
    check(begin, x, x.sum(1))
    assert begin.columns == (a, b) and begin.factor == 1
    assert {a * b, a / b, b / a} <= {column for one in equivalent_reductions(begin) for column in one.columns}


SHIFTS: dict[sympy.Expr, Callable[[Array], Array]] = {
    a - b: lambda x: np.sin(x[:, 0] - x[:, 1]) * x[:, 2],
    a + b: lambda x: np.sin(x[:, 0] + x[:, 1]) * x[:, 2],
    a + 2 * b: lambda x: np.exp((x[:, 0] + 2 * x[:, 1]) / 4) * x[:, 2] + (x[:, 0] + 2 * x[:, 1]) ** 2,
}


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_sums_and_differences(shift: sympy.Expr) -> None:
    x = samples()
    y = SHIFTS[shift](x)
    found = translations(x, y, NAMES)
    assert found is not None and found.columns == (shift, c) and found.factor == 1 and found.error < 1e-6
    check(found, x, y)


def test_several_variables_become_one_and_products_do_not() -> None:
    x = samples()
    found = translations(x, np.sin(x.sum(1)), NAMES)
    assert found is not None and found.columns == (a + b + c,)
    assert translations(x[:, :2], x[:, 0] * x[:, 1], NAMES[:2]) is None
    assert translations(x[:, :1], np.sin(x[:, 0]), NAMES[:1]) is None


PRODUCTS: dict[sympy.Expr, Callable[[Array], Array]] = {
    a * b: lambda x: np.sin(x[:, 0] * x[:, 1]) + np.exp(x[:, 2]),
    b * c: lambda x: np.tanh(x[:, 1] * x[:, 2]) * np.cos(x[:, 0]),
    a * c: lambda x: np.exp(x[:, 0] * x[:, 2] / 2) + np.sin(2 * x[:, 1]) ** 2,
}


@pytest.mark.parametrize("column", PRODUCTS, ids=str)
def test_products_of_columns_of_either_sign(column: sympy.Expr) -> None:
    x = samples() - 2
    y = PRODUCTS[column](x)
    found = translations(x, y, NAMES)
    assert found is not None and found.factor == 1 and found.error < 1e-4
    assert set(found.columns) == {column, *set(NAMES) - column.free_symbols}
    check(found, x, y)


def test_products_of_several_columns_of_either_sign() -> None:
    x = samples() - 2
    found = translations(x, np.sin(2 * x.prod(1)), NAMES)
    assert found is not None and found.columns == (a * b * c,)


@pytest.mark.parametrize(
    "law",
    [
        lambda x: np.sin(x[:, 0]) * x[:, 1] + np.exp(x[:, 2]),
        lambda x: np.exp(x[:, 0] * x[:, 1] ** 2) + np.sin(x[:, 2]),
        lambda x: np.sin(x[:, 0] * x[:, 1]) + x[:, 0] ** 2 + x[:, 2],
    ],
)
def test_no_products_where_there_are_none(law: Callable[[Array], Array]) -> None:
    x = samples() - 2
    assert translations(x, law(x), NAMES) is None


def test_products_of_positive_columns_are_left_to_scalings() -> None:
    x = samples()
    assert translations(x, PRODUCTS[a * b](x), NAMES) is None
