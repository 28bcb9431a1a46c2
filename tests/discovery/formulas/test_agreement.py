"""A formula that is not the network is found out."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.discovery.formulas.agreement import MAX_COMPARED_SAMPLES, Agreement, agreement
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")


def network(*names: str) -> KAN:
    """The sum of such functions of one input each."""
    model = KAN([len(names), 1], auto_save=False)
    for i, name in enumerate(names):
        model.fix_symbolic(0, i, 0, name, fit_params_bool=False)
    return model


def test_a_right_formula() -> None:
    found = agreement(network("sin", "x^2"), lambda x: [x[0].sin() + x[1] ** 2], uniform(100, 2))
    assert found.deviation < 1e-14 and found.samples == 100 and found.holds
    assert str(found) == f"formula and network differ by at most {found.deviation:.2g} (relative) on 100 samples"


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_deviations_are_relative(size: float) -> None:
    model = network("sin")
    model.symbolic_fun[0].affine.data[0, 0, 2] = size
    found = agreement(model, lambda x: [size * x[0].sin() * (1 + 3e-7 * (x[0] > 0.9))], uniform(100, 1))
    assert found.deviation == pytest.approx(3e-7, rel=1e-3) and not found.holds


def test_values_near_zero_are_compared_with_typical_ones() -> None:
    points = torch.tensor([[1.0], [2.0], [-1.0], [1e-14]])
    assert agreement(network("x"), lambda x: [x[0] + 1e-15], points).deviation == pytest.approx(1e-15, rel=0.2)
    zeros = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1e-16]])
    assert agreement(network("x"), lambda x: [x[0] + 1e-16], zeros).deviation == pytest.approx(1e-10)
    assert agreement(network("0"), lambda x: [0.0], points).deviation == 0
    assert agreement(network("0"), lambda x: [1e-300], points).deviation == math.inf


def test_points_where_one_is_not_finite() -> None:
    points = torch.tensor([[1.0], [-1.0], [0.0], [2.0], [3.0]])
    found = agreement(network("log"), lambda x: [torch.where(x[0] == 2.0, math.nan, x[0].abs().log())], points)
    assert found.deviation == 0 and found.formula_undefined == (3,) and found.network_undefined == (1,) and not found.holds
    assert str(found).endswith(
        "; the formula is not finite at 1 of them, where the network is (rows 3); the network is not finite at 1 of them, where the "
        "formula is (rows 1)"
    )
    assert Agreement(0.0, 5, network_undefined=(1,)).holds
    assert agreement(network("log"), lambda x: [x[0].log()], points[1:2]) == Agreement(0.0, 1)


def test_single_precision_networks_are_computed_in_double() -> None:
    model = network("sin").float()
    model(uniform(100, 1).float())
    before, last = copy.deepcopy(model.state_dict()), model.last_input
    assert agreement(model, lambda x: [x[0].sin()], uniform(100, 1)).deviation < 1e-15
    assert model.dtype == torch.float32 and model.last_input is last
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_normalisation() -> None:
    normalizer = torch.tensor([5.0]), torch.tensor([3.0])
    output = torch.tensor([-2.0]), torch.tensor([10.0])
    found = agreement(network("sin"), lambda x: [10 * ((x[0] - 5) / 3).sin() - 2], uniform(100, 1), normalizer, output)
    assert found.deviation < 1e-15


def test_many_samples_are_thinned_out() -> None:
    seen: list[int] = []

    def formulas(x: list[Tensor]) -> list[Any]:
        seen.append(len(x[0]))
        return [torch.where(x[0] > 0.998, math.nan, x[0])]

    found = agreement(network("x"), formulas, torch.linspace(-1, 1, 25_001)[:, None])
    assert seen == [found.samples] and MAX_COMPARED_SAMPLES / 2 < found.samples <= MAX_COMPARED_SAMPLES
    assert found.formula_undefined == (24_986,)


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="the input must have the shape"):
        agreement(network("x"), lambda x: x, uniform(100, 2))
    with pytest.raises(TypeError, match="the input must be a tensor of floating-point numbers"):
        agreement(network("x"), lambda x: x, torch.zeros(3, 1, dtype=torch.int64))
