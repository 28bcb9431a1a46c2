"""Schedules of the learning rate, which change it from step to step."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kan.training.methods.stepper import Stepper, TorchStepper

__all__ = ["advance", "make_scheduler"]


def make_scheduler(lr_scheduler: Any, stepper: Stepper) -> LRScheduler | None:
    """The schedule of a stepper's learning rate.

    Args:
        lr_scheduler: a function ``optimiser -> scheduler``, a scheduler of this stepper's optimiser, or None.
        stepper: moves the parameters.

    Returns:
        The scheduler; None if there is none.

    Raises:
        TypeError: if `lr_scheduler` is or returns something else.
        ValueError: if the stepper has no learning rate, or the scheduler is that of another optimiser.
    """
    if lr_scheduler is None:
        return None
    if not isinstance(stepper, TorchStepper):
        raise ValueError(f"lr_scheduler needs an optimiser with a learning rate; {type(stepper).__name__} has none.")
    if not isinstance(lr_scheduler, LRScheduler) and not callable(lr_scheduler):
        raise TypeError(f"lr_scheduler must be a scheduler or a function optimiser -> scheduler; got {type(lr_scheduler).__name__}.")
    scheduler = lr_scheduler if isinstance(lr_scheduler, LRScheduler) else lr_scheduler(stepper.optimizer)
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"lr_scheduler must return a scheduler of torch.optim.lr_scheduler; it returned {type(scheduler).__name__}.")
    if scheduler.optimizer is not stepper.optimizer:
        raise ValueError(
            "lr_scheduler is the schedule of another optimiser than the one that trains. Pass that optimiser as opt, or a function "
            "optimiser -> scheduler such as lambda optimiser: StepLR(optimiser, 10)."
        )
    return scheduler


def advance(scheduler: LRScheduler | None, loss: float) -> None:
    """Advance the schedule after a step that led to `loss`."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(loss)
    elif scheduler is not None:
        scheduler.step()
