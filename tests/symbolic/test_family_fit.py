"""The fit of families: exact recovery, independent curves, finite results."""

import pytest
import torch
from torch import Tensor

from kan.symbolic import SymbolicFunction, lookup
from kan.symbolic.families import EXTENDED_LIB, Family
from kan.symbolic.family_fit import fit_family

pytestmark = pytest.mark.filterwarnings("error")


def uniform(low: float, high: float, n: int = 400, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, 1, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("family", "low", "high", "name", "c", "d"),
    [
        ("x^p", 0.2, 2, "x^1.7", 3.0, -1.0), ("x^p", 10, 20, "x^-0.3", -2.0, 0.5), ("damped", 0, 4, "damped(-0.125)", 2.0, 1.0),
        ("rational", -1, 3, "rational(1,0.25;1,0)", 2.0, 0.0), ("rational", 1.1, 3, "rational(1,0.25;-1,0)", 2.0, 0.0),
        ("x_sin", -3, 9, "x_sin(0.5)", 1.5, 0.0), ("poly3", -1, 2, "poly(-2,0,1)", 4.0, 3.0), ("poly5", 0, 2, "poly(1,0,3,0,1)", -1.0, 2.0),
        ("poly2", 1000, 1001, "poly(1,1)", 1.0, 0.0),
    ],
)  # fmt: skip
def test_exact_recovery(family: str, low: float, high: float, name: str, c: float, d: float) -> None:
    x = uniform(low, high)
    y = c * lookup(name).torch_fun(x) + d
    entry = EXTENDED_LIB[family]
    assert isinstance(entry, Family)
    (row,), affine, deficit = fit_family(entry, x, y)
    assert float(deficit) < 1e-18
    a, b, c_found, d_found = affine[0]
    again = lookup(row.name)  # the name is all that a checkpoint has
    torch.testing.assert_close(c_found * again.torch_fun(a * x + b) + d_found, y, rtol=1e-8, atol=1e-8)


def test_curves_of_a_family_do_not_see_each_other() -> None:
    x = torch.cat([uniform(0.2, 2, seed=1), uniform(1, 5, seed=2)], 1)
    y = torch.cat([x[:, :1] ** 0.7, (-0.3 * x[:, 1:]).exp() * (4 * x[:, 1:]).sin()], 1)
    for entry in (e for e in EXTENDED_LIB.values() if isinstance(e, Family)):
        together = fit_family(entry, x, y)[2]
        alone = torch.cat([fit_family(entry, x[:, [e]], y[:, [e]])[2] for e in range(2)])
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("family", [name for name, entry in EXTENDED_LIB.items() if isinstance(entry, Family)])
@pytest.mark.parametrize("kind", ["constant", "noise", "two values", "one abscissa", "two samples"])
def test_whatever_the_data_the_result_is_finite(family: str, kind: str) -> None:
    x = uniform(-1, 1, 2 if kind == "two samples" else 30)
    y = {"constant": torch.ones_like(x), "noise": uniform(-1, 1, 30, seed=5), "two values": (x > 0).double(), "one abscissa": x,
         "two samples": x + 1}[kind]  # fmt: skip
    entry = EXTENDED_LIB[family]
    assert isinstance(entry, Family)
    (row,), affine, deficit = fit_family(entry, torch.ones_like(x) if kind == "one abscissa" else x, y)
    assert isinstance(lookup(row.name), SymbolicFunction) and affine.isfinite().all() and 0 <= float(deficit) <= 1
