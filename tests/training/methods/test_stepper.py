"""The methods of training: what may be given as one, what they promise, and that a fit goes on where another one ended."""

import io
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from kan import KAN
from kan.network.network import Network
from kan.training.fit import fit
from kan.training.methods.by_name import OPTIMIZERS, STEPPERS, make_stepper
from kan.training.models.of_network import trainable_parameters
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import Penalty
from kan.training.options import FitOptions

pytestmark = pytest.mark.usefixtures("float64")

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(40, 2, generator=GENERATOR, dtype=torch.float64) * 2 - 1
Y = torch.sin(3 * X[:, [0]]) + X[:, [1]] ** 2
RATES = {"LBFGS": 1.0, "Adadelta": 1.0}
NAMES = [*OPTIMIZERS, *STEPPERS]


def objective(network: Network) -> Objective:
    return Objective(network, torch.nn.functional.mse_loss, 0.0, Penalty())


def parameters(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


# Every method


@pytest.mark.parametrize("name", NAMES)
def test_every_method_lowers_the_loss(name: str) -> None:
    results = fit(Network([2, 2, 1]), (X, Y), FitOptions(opt=name, lr=RATES.get(name, 0.01), steps=6, log=0))
    assert results["train_loss"][-1] < results["train_loss"][0]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_saves_restores_and_resets(name: str) -> None:
    network = Network([2, 2, 1])
    stepper = make_stepper(name, objective(network), trainable_parameters(network), RATES.get(name, 0.01))
    saved, before = stepper.save(), parameters(network)
    stepper.step(X, Y, None, None)
    assert not torch.equal(parameters(network), before)
    stepper.restore_(saved)
    assert torch.equal(parameters(network), before)
    stepper.reset()
    stepper.shrink()
    stepper.step(X, Y, None, torch.ones(40))
    assert bool(torch.isfinite(parameters(network)).all()) and stepper.gradient_is_finite(X, Y, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_goes_on_from_its_state(name: str) -> None:
    networks = [Network([2, 2, 1]) for _ in range(2)]
    lr = RATES.get(name, 0.01)
    whole = fit(networks[0], (X, Y), FitOptions(opt=name, lr=lr, steps=6, log=0))
    half = fit(networks[1], (X, Y), FitOptions(opt=name, lr=lr, steps=3, log=0))
    file = io.BytesIO()
    torch.save(half.optimizer_state, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    rest = fit(networks[1], (X, Y), FitOptions(opt=name, lr=lr, steps=3, log=0, resume=state))
    assert half["train_loss"] + rest["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-6)
    again = fit(networks[1], (X, Y), FitOptions(opt=name, lr=lr, steps=1, log=0, resume=rest.optimizer_state))
    assert again["train_loss"][0] < whole["train_loss"][0]


def test_resumed_batches_and_schedules_go_on() -> None:
    options: dict[str, Any] = {"opt": "Adam", "lr": 0.02, "batch": 7, "log": 0, "lr_scheduler": lambda o: StepLR(o, 2, 0.5)}
    networks = [Network([2, 2, 1]) for _ in range(2)]
    fit(networks[0], (X, Y), FitOptions(steps=6, **options))
    half = fit(networks[1], (X, Y), FitOptions(steps=3, **options))
    fit(networks[1], (X, Y), FitOptions(steps=3, resume=half.optimizer_state, **options))
    assert torch.equal(parameters(networks[0]), parameters(networks[1]))


def test_resuming_models() -> None:
    model = KAN([2, 2, 1], auto_save=False)
    with pytest.raises(ValueError, match="resume=True goes on from the last fit of this model, and there is none"):
        model.fit((X, Y), steps=1, log=0, resume=True)
    model.fit((X, Y), opt="Adam", lr=0.01, steps=2, log=0)
    with pytest.raises(ValueError, match=re.escape("the state is that of 'Adam', and opt is 'LBFGS'.")):
        model.fit((X, Y), steps=1, log=0, resume=True)
    model.fit((X, Y), opt="Adam", lr=0.01, steps=1, log=0, resume=True)
    state = model.optimizer_state
    model = model.refine(6)
    assert model.optimizer_state["refined"]  # for the next fit, which does not resume it
    model.optimizer_state = state
    with pytest.raises(ValueError, match="resume needs parameters of the shapes that the optimiser's state has"):
        model.fit((X, Y), opt="Adam", lr=0.01, steps=1, log=0, resume=True)


# Classes, instances, schedules


def test_classes_and_instances() -> None:
    states = []
    for make in (lambda _: "AdamW", lambda _: torch.optim.AdamW, lambda n: torch.optim.AdamW(trainable_parameters(n), lr=0.01)):
        network = Network([2, 2, 1])
        fit(network, (X, Y), FitOptions(opt=make(network), lr=0.01, steps=3, log=0))
        states.append(parameters(network))
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])
    network = Network([2, 2, 1])
    lbfgs = torch.optim.LBFGS(network.parameters(), line_search_fn="strong_wolfe")
    assert fit(network, (X, Y), FitOptions(opt=lbfgs, steps=3, log=0))["train_loss"][-1] < 0.2


@pytest.mark.parametrize(
    ("opt", "error", "message"),
    [
        ("Adan", ValueError, "unknown optimiser 'Adan'; did you mean 'Adam'"),
        (print, TypeError, "opt must be a name, a subclass of torch.optim.Optimizer or an optimiser; got print."),
        (dict, TypeError, "opt must be a name, a subclass of torch.optim.Optimizer or an optimiser; got dict."),
        (
            torch.optim.Adam(Network([2, 2, 1]).parameters()),
            ValueError,
            "the optimiser Adam must hold parameters of the network that is trained; 22 of its 22 are not. Make it from model.parameters()",
        ),
    ],
)
def test_what_is_no_method(opt: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fit(Network([2, 2, 1]), (X, Y), FitOptions(opt=opt, steps=1, log=0))


def test_schedules_change_the_learning_rate() -> None:
    network = Network([2, 2, 1])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    fit(network, (X, Y), FitOptions(opt=optimizer, steps=3, log=0, lr_scheduler=ExponentialLR(optimizer, 0.5)))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)
    seen: list[float] = []

    class Plateau(ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            seen.append(metrics)
            super().step(metrics)

    results = fit(network, (X, Y), FitOptions("Adam", 3, 0, lr=0.01, validation=0.25, lr_scheduler=Plateau))
    assert seen == results["val_loss"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: 3, TypeError, "lr_scheduler must be a scheduler or a function optimiser -> scheduler; got int."),
        (lambda: lambda optimizer: 3, TypeError, "lr_scheduler must return a scheduler of torch.optim.lr_scheduler; it returned int."),
        (
            lambda: StepLR(torch.optim.Adam([torch.zeros(1, requires_grad=True)]), 3),
            ValueError,
            "lr_scheduler is the schedule of another optimiser than the one that trains.",
        ),
    ],
)
def test_what_is_no_schedule(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fit(Network([2, 2, 1]), (X, Y), FitOptions(opt="Adam", steps=1, log=0, lr_scheduler=make()))


def test_gradients_are_clipped() -> None:
    network = Network([2, 2, 1])
    before = parameters(network)
    fit(network, (X, 100 * Y), FitOptions(opt="SGD", lr=1.0, steps=1, log=0, clip=1e-3))
    assert float((parameters(network) - before).norm()) == pytest.approx(1e-3, rel=1e-3)
