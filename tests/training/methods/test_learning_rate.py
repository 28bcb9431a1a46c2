"""Schedules of the learning rate: whose they may be, and how they advance."""

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from kan.training.methods.learning_rate import advance, make_scheduler
from kan.training.methods.stepper import TorchStepper


def stepper() -> TorchStepper:
    return TorchStepper(None, torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.1))  # type: ignore[arg-type]


def test_a_function_makes_the_schedule_and_a_schedule_is_taken_as_it_is() -> None:
    own = stepper()
    schedule = make_scheduler(lambda optimizer: StepLR(optimizer, 10), own)
    assert isinstance(schedule, StepLR) and schedule.optimizer is own.optimizer
    assert make_scheduler(schedule, own) is schedule and make_scheduler(None, own) is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "must be a scheduler or a function optimiser -> scheduler; got int"),
        (lambda optimizer: 3, TypeError, "it returned int"),
        (StepLR(stepper().optimizer, 10), ValueError, "schedule of another optimiser"),
    ],
)
def test_what_is_no_schedule_of_this_optimiser(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_scheduler(given, stepper())


def test_a_method_without_a_learning_rate() -> None:
    with pytest.raises(ValueError, match="needs an optimiser with a learning rate; object has none"):
        make_scheduler(lambda optimizer: StepLR(optimizer, 10), object())  # type: ignore[arg-type]


def test_plateaus_are_judged_by_the_loss_and_others_count_steps() -> None:
    own = stepper()
    plateau = ReduceLROnPlateau(own.optimizer, factor=0.5, patience=0)
    for loss in (1.0, 0.5, 0.6):
        advance(plateau, loss)
    assert own.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    other = stepper()
    schedule = StepLR(other.optimizer, 1, gamma=0.1)
    other.optimizer.step()
    advance(schedule, 1.0)
    assert other.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    advance(None, 1.0)
