"""Splines beside symbolic edges: which are switched on, and what stays as it was."""

from typing import Any

import pytest
import sympy
import torch
from torch import Tensor

from kan import KAN
from kan.compiler import kanpiler
from tests.data import uniform

pytestmark = pytest.mark.usefixtures("float64")

x, y = sympy.symbols("x y")


def compiled() -> KAN:
    """``sin(y) exp(x) + x`` and room for more: in layer 1 node 0 is new, node 1 passes ``x`` on, node 2 is the product."""
    model = kanpiler([x, y], sympy.sin(y) * sympy.exp(x) + x)
    assert model.width == [[2, 0], [1, 1], [1, 0]]
    model.expand_width(1, 1)
    return model


def masks(model: KAN) -> list[list[list[float]]]:
    return [layer.mask.tolist() for layer in model.act_fun]


def output(model: KAN, points: Tensor) -> Tensor:
    with torch.no_grad():
        return model.trace(points).output


def test_non_intrusive() -> None:
    model, points = compiled(), uniform(300, 2)
    before = output(model, points)
    model.perturb(mag=0.25)
    assert masks(model) == [[[0.25, 0.0, 0.0, 0.0]] * 2, [[1.0]] * 3]
    last = model.act_fun[-1]
    assert bool((last.scale_base == 0).all()) and bool((last.scale_sp == 0).all())
    torch.testing.assert_close(output(model, points), before, rtol=1e-14, atol=1e-15)
    assert output(model, points).std() > 0.1


def test_minimal() -> None:
    model, points = compiled(), uniform(300, 2)
    before = output(model, points)
    model.perturb(mag=0.1, mode="minimal")
    assert masks(model) == [[[0.0, 0.1, 0.1, 0.0], [0.0, 0.0, 0.0, 0.1]], [[0.0], [0.1], [0.1]]]
    assert not torch.allclose(output(model, points), before)


@pytest.mark.parametrize("mode", ["all", "best"])
def test_all_and_its_older_name(mode: str) -> None:
    model = compiled()
    model.perturb(mag=0.1, mode=mode)
    assert masks(model) == [[[0.1] * 4] * 2, [[0.1]] * 3]


def test_a_lagrangian_without_coordinates_gets_a_force_from_the_older_name() -> None:
    """A body under a force: compiled with a kinetic energy only, it has to learn to depend on where it is."""
    model = kanpiler([x, y], y**2, grid=5)
    model.perturb(mode="best", mag=0.1)
    state = uniform(300, 2).requires_grad_()
    (slopes,) = torch.autograd.grad(model(state).sum(), state)
    assert bool((slopes != 0).all())


def test_trained_splines_are_left_alone_by_the_mode_that_says_so() -> None:
    model, points = KAN([2, 3, 1], auto_save=False, noise_scale=1.0), uniform(300, 2)
    model.expand_width(1, 2)
    before, scale = output(model, points), model.act_fun[1].scale_base.clone()
    model.perturb(mag=0.5)
    assert masks(model) == [[[0.5, 0.5, 1.0, 1.0, 1.0]] * 2, [[1.0]] * 5]
    assert torch.equal(model.act_fun[1].scale_base[2:], scale[2:])
    torch.testing.assert_close(output(model, points), before, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("factors", [2, 3])
def test_unused_factors_of_used_nodes_are_left_alone(factors: int) -> None:
    model, points = KAN([2, [1, 1], 1], mult_arity=factors, auto_save=False, noise_scale=1.0), uniform(300, 2)
    with torch.no_grad():
        model.act_fun[0].mask[:, 1] = 0.0
        model.subnode_bias[0].fill_(0.7)
    before = output(model, points)
    model.perturb()
    assert bool((model.act_fun[0].mask[:, 1] == 0).all())
    torch.testing.assert_close(output(model, points), before)


def test_what_was_added_can_be_trained() -> None:
    model, points = compiled(), uniform(300, 2)
    model.perturb()
    label = output(model, points) + 0.5 * points[:, [0]] ** 2
    dataset = {"train_input": points, "train_label": label, "test_input": points, "test_label": label}
    losses = model.fit(dataset, steps=20, log=-1, update_grid=False)["train_loss"]
    assert losses[-1] < 1e-2


def test_it_is_logged(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = kanpiler([x, y], x * y, auto_save=True)
    model.perturb()
    assert "0.1 => perturb => 0.2" in (tmp_path / "model" / "history.txt").read_text()
    assert capsys.readouterr().out.endswith("saving model version 0.2\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "minimum"}, "unknown mode of perturb 'minimum'; did you mean 'minimal'.*Valid are: 'non-intrusive', 'minimal', 'all'"),
        ({"mag": float("nan")}, "mag, the value of the masks, must be finite; got nan"),
    ],
)
def test_bad_input_changes_nothing(arguments: dict[str, Any], message: str) -> None:
    model = compiled()
    before = masks(model)
    with pytest.raises(ValueError, match=message):
        model.perturb(**arguments)
    assert masks(model) == before
