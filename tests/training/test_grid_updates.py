"""A fit keeps a grid update that pays, and the knots of a refinement."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from kan import KAN, fit_residuals
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.grid_schedule import LARGEST_RISE, GridSchedule
from kan.training.options import FitOptions
from kan.training.resume import has_chosen_knots, is_refined
from kan.training.together.methods import Stack

pytestmark = pytest.mark.usefixtures("float64")


def samples(count: int = 200, low: float = -1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = low + (1 - low) * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)


def knots(network: Network) -> list[Tensor]:
    return [layer.grid.detach().clone() for layer in network.numeric_layers]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


class Clumsy(Network):
    """A network whose grid updates spoil the splines."""

    size = 100.0

    def update_grid(self, x: Tensor) -> None:
        super().update_grid(x)
        with torch.no_grad():
            self.numeric_layers[1].coef.add_(self.size)


@pytest.mark.parametrize("opt", ["LBFGS", "LM", "Adam"])
@pytest.mark.parametrize("options", [{}, {"batch": 50}, {"lamb": 1e-3}, {"loss_fn": torch.nn.L1Loss()}])
def test_an_update_that_costs_too_much_is_undone(opt: str, options: dict[str, Any]) -> None:
    if opt == "LM" and "loss_fn" in options:
        options = {"loss_fn": lambda output, y: ((output - y) ** 2).mean()}
    common: dict[str, Any] = {"opt": opt, "lr": 1.0 if opt == "LBFGS" else 0.01, "steps": 4, "progress": False, **options}
    spoilt, spared = Clumsy([2, 2, 1], seed=1), Network([2, 2, 1], seed=1)
    updated, bare = FitOptions(grid_schedule=GridSchedule(10, -1, 20), **common), FitOptions(**common)
    histories = [fit(spoilt, samples(), updated), fit(spared, samples(), bare)]
    assert histories[0]["train_loss"] == pytest.approx(histories[1]["train_loss"], rel=1e-9)
    for name, value in spoilt.state_dict().items():
        torch.testing.assert_close(value, spared.state_dict()[name], rtol=1e-7, atol=1e-7)
    assert same(knots(spoilt), knots(spared))


def test_an_update_that_costs_little_is_kept() -> None:
    network = Clumsy([2, 2, 1], seed=1)
    network.size, before = 1e-6, knots(network)
    fit(network, samples(), FitOptions(opt="Adam", lr=1e-3, steps=1, progress=False, grid_schedule=GridSchedule()))
    assert not any(map(torch.equal, before, knots(network)))


def test_the_loss_of_a_converged_fit_does_not_jump_at_an_update() -> None:
    model = KAN([2, 1, 1], grid=10, seed=0, auto_save=False)
    model.fit(samples(400), opt="LM", steps=15, progress=False)
    losses = model.fit(samples(400), opt="LM", steps=15, progress=False)["train_loss"]
    assert all(after <= before * (1 + LARGEST_RISE) for before, after in zip(losses[:-1], losses[1:], strict=True))


def test_a_fit_leaves_the_knots_of_a_refinement() -> None:
    model = KAN([2, 2, 1], grid=3, seed=0, auto_save=False)
    model.fit(samples(), opt="LM", steps=3, progress=False)
    assert not has_chosen_knots(model.optimizer_state)
    model = model.refine(20)
    assert is_refined(model.optimizer_state)
    with pytest.raises(ValueError, match="models made by prune or refine are new"):
        model.fit(samples(), opt="LM", steps=1, progress=False, resume=True)
    chosen = knots(model)
    model.fit(samples(), opt="LM", steps=6, progress=False)
    assert same(knots(model), chosen) and has_chosen_knots(model.optimizer_state) and not is_refined(model.optimizer_state)
    model.fit(samples(low=-3.0), opt="Adam", lr=1e-3, steps=1, progress=False)  # data that leave the grids move them
    assert not any(map(torch.equal, knots(model), chosen)) and not has_chosen_knots(model.optimizer_state)


def test_what_a_refined_model_knows_of_its_fit_is_saved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = KAN([2, 2, 1], grid=3, seed=0)
    model.fit(samples(), opt="LM", steps=3, progress=False)
    model = model.refine(6)
    again = KAN.loadckpt("model/0.2")
    assert is_refined(again.optimizer_state)
    losses = [each.fit(samples(), opt="LM", steps=3, progress=False)["train_loss"] for each in (model, again)]
    assert losses[0] == losses[1]


def test_moments_go_on_after_a_refinement() -> None:
    model = KAN([2, 2, 1], grid=3, seed=0, auto_save=False)
    model.fit(samples(), opt="Adam", lr=1e-2, steps=5, progress=False)
    refined = model.refine(6)
    anew = copy.deepcopy(refined)
    anew.optimizer_state = None
    options: dict[str, Any] = {"opt": "Adam", "lr": 1e-2, "steps": 3, "update_grid": False, "progress": False}
    losses = [each.fit(samples(), **options)["train_loss"] for each in (refined, anew)]
    assert losses[0] != losses[1]
    assert len(refined.refine(12).fit(samples(), opt="LBFGS", steps=2, progress=False)["train_loss"]) == 2  # another method begins anew


@pytest.mark.parametrize("opt", ["LM", "LBFGS"])
def test_refining_by_hand_gets_as_far_as_a_fit_of_several_grids(opt: str) -> None:
    levels, data = [3, 6, 12], {**dict(zip(("train_input", "train_label"), samples(400), strict=True))}
    data |= dict(zip(("test_input", "test_label"), samples(400, seed=1), strict=True))
    together = KAN([2, 1, 1], grid=3, seed=0, auto_save=False)
    expected = together.fit(data, opt=opt, steps=20, grids=levels, progress=False)["test_loss"][-1]
    model = KAN([2, 1, 1], grid=3, seed=0, auto_save=False)
    for level, intervals in enumerate(levels):
        model = model.refine(intervals) if level else model
        found = model.fit(data, opt=opt, steps=20, progress=False)["test_loss"][-1]
    assert found <= 2 * expected


@pytest.mark.parametrize("opt", ["LM", "Adam"])
def test_networks_trained_together_undo_updates_of_their_own(opt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(stack: Stack, *_: Any) -> None:
        stack.parameters[3][1] += 100.0  # the second layer of the second network
        stack.knots[1][2:] += 1.0
        stack.tabulate_()

    monkeypatch.setattr(Stack, "move_grids_", spoil)
    options: dict[str, Any] = {"opt": opt, "lr": 0.01, "steps": 4, "progress": False}
    spoilt, spared = (
        fit(Network([2, 2, 1], seed=1), samples(), FitOptions(restarts=3, grid_schedule=schedule, **options))
        for schedule in (GridSchedule(), None)
    )
    assert spoilt.restarts is not None and spared.restarts is not None
    assert spoilt.restarts.losses[:2] == pytest.approx(spared.restarts.losses[:2], rel=1e-9)


def test_residuals_do_not_grow_at_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Clumsy([2, 2, 1], seed=1)
    before, x = knots(network), samples(60)[0]
    history = fit_residuals(network, lambda u, z: u(z) - z[:, [0]], x, steps=4)
    assert all(after <= before for before, after in zip(history[:-1], history[1:], strict=True)) and same(knots(network), before)
