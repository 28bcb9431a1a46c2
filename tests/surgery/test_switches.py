"""Units that can be switched off: which nodes stay connected, and what a unit costs, beside the obvious ways to find out."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kan import KAN
from kan.surgery.costs import costs
from kan.surgery.criterion import criterion_of
from kan.surgery.switches import Units, connected_nodes
from kan.surgery.trial import Trial

pytestmark = pytest.mark.usefixtures("float64")


def edges_of(model: KAN) -> Units:
    numeric = [(layer.mask != 0).t() for layer in model.act_fun]
    return Units.of_edges(numeric, [torch.zeros_like(on) for on in numeric])


def fitted(width: list[Any], loss_fn: Any = None, seed: int = 0) -> KAN:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(80, width[0], generator=generator)
    model = KAN(width, seed=seed, auto_save=False)
    y = x.sum(dim=1, keepdim=True).tanh() + 0.3 * torch.randn(80, 1, generator=generator)
    y = (y[:, 0] > 0).long() if loss_fn else y * torch.arange(1.0, width[-1] + 1)
    model.fit((x, y), opt="Adam", lr=0.02, steps=30, loss_fn=loss_fn, progress=False)
    return model


def paths(model: KAN) -> set[tuple[int, ...]]:
    """All paths from inputs to outputs, as nodes."""
    found = {(i,) for i in range(model.width_in[0])}
    for l in range(model.depth):
        on = (model.act_fun[l].mask.t() != 0) | (model.symbolic_fun[l].mask != 0)
        steps = {
            (i, r)
            for r in range(model.width_in[l + 1])
            for s in model.structure.subnodes(l + 1, r)
            for i in range(model.width_in[l])
            if bool(on[s, i])
        }
        found = {(*path, r) for path in found for i, r in steps if i == path[-1]}
    return found


@given(width=st.lists(st.integers(1, 3), min_size=2, max_size=4), products=st.booleans(), seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=40)
def test_connected_nodes_are_those_on_paths(width: list[int], products: bool, seed: int) -> None:
    entries: list[Any] = [*width]
    if products and len(width) > 2:
        entries[1] = [width[1], 1]
    model = KAN(entries, auto_save=False)
    generator = torch.Generator().manual_seed(seed)
    for layer, symbolic in zip(model.act_fun, model.symbolic_fun, strict=True):
        layer.mask.copy_(torch.rand(layer.mask.shape, generator=generator) < 0.4)
        symbolic.mask.copy_(torch.rand(symbolic.mask.shape, generator=generator) < 0.2)
    known = paths(model)
    assert connected_nodes(model) == [sorted({path[l] for path in known}) for l in range(len(width))]


def test_units_number_the_marked_edges() -> None:
    marked = [torch.tensor([[True, False], [True, True]]), torch.tensor([[False, True]])]
    none = [torch.zeros_like(layer) for layer in marked]
    units = Units.of_edges(marked, none)
    assert units.count == 4 and [layer.tolist() for layer in units.numeric] == [[[0, -1], [1, 2]], [[-1, 3]]]
    assert all(bool((layer == -1).all()) for layer in units.symbolic)
    gone, kept = units.gone(torch.tensor([True, False, False, True]))
    assert [layer.tolist() for layer in gone] == [[[True, False], [False, False]], [[False, True]]] and not any(map(torch.any, kept))


def exact(model: KAN, units: Units) -> Tensor:
    """What every unit costs, by an evaluation of each."""
    criterion = criterion_of(model)
    trial = Trial(model, units, criterion)
    return torch.tensor([trial.drop_(torch.arange(units.count) == u) for u in range(units.count)]) - criterion.before


@pytest.mark.parametrize("outputs", [1, 3])
def test_costs_of_the_last_layer_are_exact_for_squares(outputs: int) -> None:
    model = fitted([3, 4, outputs])
    units = edges_of(model)
    last = slice(12, None)
    torch.testing.assert_close(costs(model, units, criterion_of(model))[last], exact(model, units)[last], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("width", "loss_fn"),
    [([4, 3, 2, 1], None), ([4, 5, 3], nn.CrossEntropyLoss()), ([3, [2, 2], 2], None), ([4, 4, 1], "symbolic"), ([4, 4, 1], "outputs")],
)
def test_costs_of_weak_units_are_what_they_cost(width: list[Any], loss_fn: Any) -> None:
    model = fitted(width, None if isinstance(loss_fn, str) else loss_fn)
    if loss_fn == "symbolic":
        model.fix_symbolic(0, 0, 0, "sin", verbose=False)
    with torch.no_grad():
        model.act_fun[0].scale_base[0] *= 1e-4
        model.act_fun[0].scale_sp[0] *= 1e-4
        model.symbolic_fun[0].affine[:, 0, 2] *= 1e-4
    if loss_fn == "outputs":
        model.fit_loss = None
    mask = torch.zeros_like(model.symbolic_fun[0].mask, dtype=torch.bool)
    mask[:, 0] = True
    marks = [mask, *(torch.zeros_like(layer.mask, dtype=torch.bool) for layer in model.symbolic_fun[1:])]
    # Terms of second order between the edges of a unit are left out, and where outputs are compared there are no others.
    several = [] if loss_fn == "outputs" else [Units.of_nodes(model, [(0, 0)])]
    for units in (Units.of_edges(marks, marks), *several):
        estimated, true = costs(model, units, criterion_of(model)), exact(model, units)
        torch.testing.assert_close(estimated, true, rtol=0.05, atol=0.05 * float(true.abs().max()))


def test_only_edges_that_are_on_can_go_and_the_network_is_left_alone() -> None:
    model = fitted([3, 3, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = Trial(model, edges_of(model), criterion_of(model))
    dropped, would = trial.drop_affordable_(math.inf, -math.inf)
    assert would == math.inf and 0 < int((~dropped).sum()) and connected_nodes(trial.network)[0], "a path is left"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
