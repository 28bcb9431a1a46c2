"""The curve of a numeric edge, by itself and as source code."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from kan import KAN
from kan.discovery.formulas.edge_spline import SPLINE_SOURCE, EdgeSpline

pytestmark = pytest.mark.usefixtures("float64")

POINTS = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
"""Inside and outside of the knots."""


def network(k: int, base_fun: Any = "silu") -> KAN:
    model = KAN([2, 3], grid=4, k=k, seed=3, noise_scale=2.0, base_fun=base_fun, auto_save=False)
    model.update_grid(torch.randn(200, 2, generator=torch.Generator().manual_seed(1)))
    model.act_fun[0].mask.data[1, 2] = 0.7
    return model


def edge_values(model: KAN) -> torch.Tensor:
    return model.trace(torch.stack([0 * POINTS, POINTS], dim=1)).postacts(0)[:, 2, 1].detach()


@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_is_the_edge(k: int) -> None:
    model = network(k)
    curve = EdgeSpline(model.numeric_layers[0], 1, 2, "silu")
    torch.testing.assert_close(curve(POINTS), edge_values(model), rtol=1e-12, atol=1e-14)
    assert curve(POINTS.reshape(3, 67)).shape == (3, 67)


@pytest.mark.parametrize("k", [0, 1, 3, 5])
@pytest.mark.parametrize("base", ["silu", "identity", "zero"])
def test_source_is_the_edge(k: int, base: str) -> None:
    model = network(k, base)
    source = SPLINE_SOURCE + EdgeSpline(model.numeric_layers[0], 1, 2, base).source("phi", "torch")
    names: dict[str, Any] = {"torch": torch}
    exec(source, names)
    torch.testing.assert_close(names["phi"](POINTS), edge_values(model), rtol=1e-10, atol=1e-12)


def test_knows_nothing_of_its_layer() -> None:
    model = network(3)
    curve = EdgeSpline(model.numeric_layers[0], 1, 2, "silu")
    before = curve(POINTS)
    with torch.no_grad():
        model.act_fun[0].coef.zero_()
        model.act_fun[0].grid += 1
    assert torch.equal(curve(POINTS), before)
    for other in (copy.deepcopy(curve), pickle.loads(pickle.dumps(curve))):
        assert torch.equal(other(POINTS), before)


def test_single_precision_edges_are_evaluated_in_double() -> None:
    model = network(3).float()
    curve = EdgeSpline(model.numeric_layers[0], 1, 2, "silu")
    assert curve(POINTS).dtype == torch.float64 and curve(POINTS.float()).dtype == torch.float32
    torch.testing.assert_close(curve(POINTS), edge_values(model.double()), rtol=1e-12, atol=1e-14)


def test_base_functions_of_ones_own_have_no_source() -> None:
    model = network(3, torch.tanh)
    curve = EdgeSpline(model.numeric_layers[0], 1, 2, model.base_fun_name)
    torch.testing.assert_close(curve(POINTS), edge_values(model), rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"the edge phi_0_1_2 has the base function .*, of which there is no source code; expected one of"):
        curve.source("phi_0_1_2", "np")


@pytest.mark.parametrize("base", [nn.Softmax(dim=1), nn.Softmax(dim=-1), nn.PReLU(2), nn.LayerNorm(2)])
def test_base_functions_of_rows_are_no_curves(base: nn.Module) -> None:
    base = copy.deepcopy(base).double()
    with pytest.raises(ValueError, match=r"base function .* takes all inputs of a sample together"):
        network(3, base).symbolic_formula(numeric="function")


@pytest.mark.parametrize("base", [nn.PReLU(), lambda x: x.tanh(), nn.Softplus(beta=2)])
def test_base_functions_of_ones_own_are_in_the_curve(base: Any) -> None:
    model = network(3, copy.deepcopy(base).double() if isinstance(base, nn.Module) else base)
    curve = EdgeSpline(model.numeric_layers[0], 1, 2, model.base_fun_name)
    torch.testing.assert_close(curve(POINTS).detach(), edge_values(model), rtol=1e-12, atol=1e-14)
