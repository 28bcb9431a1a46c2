"""Estimated costs of units against what their removal really costs."""

import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.surgery.costs import costs
from kan.surgery.criterion import Criterion, criterion_of
from kan.surgery.switches import Units, drop_

pytestmark = pytest.mark.usefixtures("float64")


def model_and_units(labels: bool) -> tuple[KAN, Units]:
    x = torch.rand(80, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = KAN([2, 2, 1], grid=3, seed=1, auto_save=False)
    if labels:
        model.fit((x, x[:, [0]] + x[:, [1]] ** 2), steps=4, progress=False)
    with torch.no_grad():  # edges so small that the second order is all
        for layer in model.act_fun:
            layer.mask.mul_(1e-3)
    model(x)
    on = [torch.ones_like(layer.mask, dtype=torch.bool) for layer in model.symbolic_fun]
    return model, Units.of_edges(on, [torch.zeros_like(layer) for layer in on])


def exact(model: KAN, units: Units, criterion: Criterion) -> Tensor:
    found = []
    for unit in range(units.count):
        changed = model.copy()
        drop_(changed, criterion.trace(changed), *units.gone(torch.arange(units.count) == unit))
        found.append(criterion(changed) - criterion.before)
    return torch.tensor(found)


@pytest.mark.parametrize("labels", [True, False])
def test_a_single_output_layer_is_estimated_exactly_to_second_order(labels: bool) -> None:
    model, units = model_and_units(labels)
    criterion = criterion_of(model)
    estimated, known = costs(model, units, criterion), exact(model, units, criterion)
    assert estimated.shape == (units.count,) == (6,)
    last = slice(4, None)  # edges of the last layer: the loss is quadratic in their values
    torch.testing.assert_close(estimated[last], known[last], rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(estimated, known, rtol=0.2, atol=float(known.abs().max()) * 0.02)


def test_a_dead_unit_costs_nothing_and_the_network_is_left_alone() -> None:
    model, units = model_and_units(labels=True)
    with torch.no_grad():
        model.act_fun[0].mask[0, 0] = 0.0
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = costs(model, units, criterion_of(model))
    assert float(found[0].abs()) < 1e-15 and bool(torch.isfinite(found).all())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(found, costs(model, units, criterion_of(model))), "the signs are drawn with seeds of their own"
