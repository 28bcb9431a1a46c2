"""Multilevel training: the function does not jump between levels, errors fall, states are carried, bad input is told at once."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kan import KAN
from kan.MLP import MLP
from kan.network.network import Network
from kan.training.callbacks import Callback, FitState
from kan.training.fit import fit
from kan.training.history import History
from kan.training.methods.by_name import make_stepper
from kan.training.methods.stepper import TorchStepper
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")


def data(count: int = 300) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return x, torch.exp(torch.sin(torch.pi * x[:, [0]]) + x[:, [1]] ** 2)


class Watch(Callback):
    """Steps, losses and grids as they come."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []

    def on_step(self, state: FitState) -> None:
        assert isinstance(state.network, Network)
        self.seen.append((state.step, state.network.grid, state.history["train_loss"][-1]))


@pytest.mark.parametrize("opt", ["LM", "LBFGS", "Adam"])
def test_levels_go_on_from_each_other(opt: str) -> None:
    watch, network = Watch(), Network([2, 2, 1], grid=3)
    lr = 0.02 if opt == "Adam" else 1.0
    history = fit(network, data(), FitOptions(grids=[4, 8, 16], opt=opt, steps=6, lr=lr, progress=False, callbacks=[watch]))
    assert [step for step, _, _ in watch.seen] == list(range(18)) and history.steps == 18
    assert [grid for _, grid, _ in watch.seen] == [4] * 6 + [8] * 6 + [16] * 6
    losses = history["train_loss"]
    assert losses[6] < 1.3 * losses[5] and losses[12] < 1.3 * losses[11], "no jump where knots are inserted"
    assert losses[-1] < losses[5] and history.stopped == "steps" and history.seconds > 0
    assert all(layer.num == 16 for layer in network.numeric_layers)


def test_levenberg_marquardt_gains_the_order_of_the_splines() -> None:
    x, y = data(1000)
    model = KAN([2, 1, 1], grid=5, seed=1, auto_save=False)
    history = model.fit((x, y), opt="LM", steps=40, grids=[5, 10, 20], progress=False)
    coarse, middle, fine = history["train_loss"][39], history["train_loss"][79], history["train_loss"][119]
    assert coarse < 1e-2 and middle < coarse / 8 and fine < middle / 8
    assert model.grid == 20 and model.optimizer_state is not None


def test_one_level_is_a_fit_on_that_grid() -> None:
    one, other = Network([2, 2, 1], grid=6), Network([2, 2, 1], grid=6)
    losses = fit(one, data(), FitOptions(grids=[6], opt="LBFGS", steps=3, progress=False))["train_loss"]
    assert losses == fit(other, data(), FitOptions("LBFGS", 3, progress=False))["train_loss"]
    assert fit(other, data(), FitOptions(grids=(), opt="LBFGS", steps=2, progress=False)).steps == 2


def test_time_patience_and_callbacks_end_levels() -> None:
    network = Network([2, 1, 1], grid=3)
    history = fit(network, data(), FitOptions(grids=[3, 6], opt="LM", steps=50, progress=False, time_limit=1e-9))
    assert history.stopped == "time limit" and history.steps == 1 and network.grid == 3

    class Stop(Callback):
        def on_step(self, state: FitState) -> None:
            state.stop = state.step == 2

    history = fit(Network([2, 1, 1]), data(), FitOptions(grids=[3, 6], opt="LM", steps=5, progress=False, callbacks=[Stop()]))
    assert history.stopped == "callback" and history.steps == 3

    network = Network([2, 1, 1])
    history = fit(network, data(), FitOptions(grids=[3, 6], opt="LBFGS", steps=60, progress=False, patience=2, validation=0.3))
    assert network.grid == 6 and history.steps == len(history["val_loss"]) < 120
    assert history.best_step is not None and history.best_step < history.steps


def test_states_that_still_fit_are_carried() -> None:
    network = Network([2, 2, 1])
    x, y = data(50)
    before = fit(network, (x, y), FitOptions("Adam", 3, lr=0.01, progress=False))
    assert before.optimizer_state is not None
    from kan.network.insertion import insert_knots_
    from kan.training.models.of_network import trainable_parameters
    from kan.training.objectives.of_network import Objective
    from kan.training.objectives.penalty import Penalty

    insert_knots_(network, 7, x)
    objective = Objective(network, torch.nn.functional.mse_loss, 0.0, Penalty())
    stepper = make_stepper("Adam", objective, trainable_parameters(network), 0.01)
    assert isinstance(stepper, TorchStepper)
    stepper.carry_(before.optimizer_state["method"], None)
    known = {id(p) for p in stepper.optimizer.state}
    assert id(network.numeric_layers[0].scale_base) in known and id(network.numeric_layers[0].coef) not in known
    stepper.step(x, y, None, None)


@pytest.mark.parametrize(
    ("grids", "error", "message"),
    [
        ([3, 3], ValueError, r"must rise from level to level.*got \[3, 3\]"),
        ([8, 4], ValueError, "must rise"),
        ([0, 4], ValueError, "each of grids must be an integer of at least 1"),
        ([2.5], ValueError, "each of grids must be an integer"),
        (5, TypeError, "grids must be a list of numbers of intervals, as \\[3, 5, 10, 20\\]; got 5"),
    ],
)
def test_bad_grids(grids: list, error: type, message: str) -> None:
    network = Network([2, 1])
    with pytest.raises(error, match=message):
        fit(network, data(), FitOptions(grids=grids, steps=1, progress=False))
    assert network.grid == 3


def test_bad_input_is_told_before_a_knot_moves() -> None:
    network = Network([2, 1])
    knots = network.numeric_layers[0].grid.clone()
    x, y = data()
    for bad in ((x[:, :1], y), (x, y * math.nan)):
        with pytest.raises(ValueError, match="must"):
            fit(network, bad, FitOptions(grids=[5, 10], steps=1, progress=False))
    with pytest.raises(ValueError, match="pass its class or its name"):
        fit(network, (x, y), FitOptions(grids=[5], opt=torch.optim.Adam(network.parameters()), steps=1, progress=False))
    with pytest.raises(TypeError, match="MLP has none"):
        fit(MLP([2, 3, 1]), (x, y), FitOptions(grids=[5], steps=1, progress=False))
    assert torch.equal(network.numeric_layers[0].grid, knots)


def test_a_history_can_be_continued() -> None:
    network, history = Network([2, 1]), None
    for count in (2, 5):
        history = fit(network, data(), FitOptions("LM", count if history is None else 3, progress=False), history=history)
        assert isinstance(history, History) and history.steps == count


def test_numbers_of_numpy_count_like_python_s() -> None:
    grids = fit(KAN([2, 1], auto_save=False), data(), FitOptions(grids=np.array([3, 5]), opt="LM", steps=2, progress=False))
    options = {"opt": "LM", "steps": np.int64(2), "patience": np.int64(2), "batch": np.int64(-1), "progress": False}
    restarts = fit(KAN([2, 1], auto_save=False), data(), FitOptions(grids=(), restarts=np.int64(2), **options))
    assert grids.steps == 4 and restarts.steps == 2
