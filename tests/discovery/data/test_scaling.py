"""Data of extreme size."""

import math

import pytest
import sympy
import torch
from torch import Tensor

from kan.discovery.data.observations import observations
from kan.discovery.data.scaling import EXTREME_SIZE, UnitScales, scaled
from kan.discovery.discover import discover
from kan.discovery.laws.candidates import Constant, Law

X = torch.rand(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
A, B = sympy.symbols("a b", real=True)


@pytest.mark.parametrize("size", [0.99 * EXTREME_SIZE / 2, 1.0, 1.01 / EXTREME_SIZE])
def test_other_data_stay_as_they_are(size: float) -> None:
    given = observations(size * X, size * X[:, 0] * X[:, 1] / 2)
    same, scales = scaled(given)
    assert same is given and scales.plain


def test_extreme_columns_and_labels_get_units() -> None:
    constant = torch.full((200,), 2e250, dtype=torch.float64)
    x = torch.stack([X[:, 0] * 1e-200, X[:, 1], X[:, 1] * -3e180, constant, X[:, 0] * 5e-324 * 2**40], 1)
    with pytest.warns(UserWarning, match="left out"):
        given = observations(x, 0.4e-170 * X[:, 0], ["a", "b", "c", "d", "e"])
    new, scales = scaled(given)
    names = {str(symbol): unit for symbol, unit in scales.x.items()}
    assert names.pop("c") in (1e180, 1e181) and names == {"a": 1e-200, "d": 1e250, "e": 1e-300}
    assert torch.allclose(new.y, 0.4e-170 / scales.y * X[:, :1]) and 0.1 < float(new.y.abs().median()) < 10
    assert torch.equal(new.x[:, 1], X[:, 1]) and torch.allclose(new.x[:, 0], X[:, 0]) and bool((new.x.square() > 0).all())
    assert float(new.meaning(2, {1: B}).subs(B, 1)) == pytest.approx(-3e180 / scales.x[given.symbols[2]])
    assert float(new.meaning(3, {})) == pytest.approx(2.0)


def test_laws_come_back_in_the_units_of_the_data() -> None:
    law = Law(2.5 * A * sympy.sin(B) + 3, "approximate", 0.5, 0.25, math.inf, 7, (Constant(2.5, 0.1), Constant(7.5, 0.2)), 4.0)
    found = UnitScales({A: 1e-100}, 1e200).undone(law)
    a, b = 1.7e-100, 0.3
    assert found.formula is not None
    assert float(found.formula.subs({A: a, B: b})) == pytest.approx(1e200 * (2.5 * a / 1e-100 * math.sin(b) + 3), rel=1e-14)
    assert (found.rmse, found.held_out, found.extrapolated, found.bits) == (0.5e200, 0.25e200, math.inf, 4.0)
    assert found.constants[0] == pytest.approx((2.5e300, 1e299)) and found.constants[1] == (7.5, 0.2)
    assert UnitScales({}, 1.0).undone(law) is law


def product(x: Tensor) -> Tensor:
    return x[:, 0] * x[:, 1]


SIZES = [(1.0, 1e-170), (1.0, 1e300), (1e-150, 1.0), (1e150, 1.0), (1e-170, 1e-170), (1e200, 1e200)]


@pytest.mark.parametrize(("columns", "labels"), SIZES)
def test_laws_are_found_in_data_of_extreme_size(columns: float, labels: float) -> None:
    x = X * torch.tensor([columns, 1.0], dtype=torch.float64)
    found = discover(x, labels * product(X), time_limit=60, progress=False)[0]
    assert found.verdict == "exact" and found.formula is not None
    values = found.network(x)[:, 0] if columns == 1.0 else sympy.lambdify(found.variables, found.formula)(*x.unbind(1))
    assert torch.allclose(values / labels, product(X), rtol=1e-12, atol=0)
    assert found.held_out <= 1e-12 * labels and "oo" not in str(found)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1e300])
def test_noise_of_extreme_size_is_no_error(size: float) -> None:
    y = size * torch.randn(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = discover(size * X, y, time_limit=1, noise=size, progress=False)
    assert all(math.isfinite(law.held_out) and law.held_out < 100 * size for law in found)
