"""The options of a fit: one object, made once from the arguments of the call and checked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from kan.errors import check_finite
from kan.training.callbacks import Callback
from kan.training.data.classes import Target, check_function, target_of
from kan.training.evaluation.metrics import Metrics, named_metrics
from kan.training.grid_schedule import GridSchedule
from kan.training.objectives.of_perceptron import PerceptronPenalty
from kan.training.objectives.penalty import Penalty

__all__ = ["FitOptions"]


@dataclass(frozen=True, eq=False)
class FitOptions:
    """How a model is trained.

    Attributes:
        opt: how the parameters are moved, see `kan.training.methods.by_name.make_stepper`.
        steps: number of optimiser steps, with every number of grid intervals in `grids`; a step of L-BFGS is up to 20 iterations.
        log: the numbers of the progress bar are renewed every `log` steps; there is no bar for numbers below 1.
        lamb: weight of the penalty.
        penalty: what the penalty is, of the model's kind; pykan's default when not given.
        grid_schedule: when the grids are updated, on the first of `grids` only; never when not given.
        loss_fn: function of prediction and label (and weights); the mean squared error when not given.
        lr: learning rate.
        batch: number of samples per step, drawn without replacement; -1 for all.
        metrics: functions without arguments, or of prediction and label, evaluated after every step, see
            `kan.training.evaluation.metrics`. Their names become keys of the result.
        singularity_avoiding, y_th: how symbolic edges are evaluated, see `Network.forward`.
        display_metrics: keys of the result that the progress bar shows instead of the losses.
        on_step: called after every step with its number.
        pred_fn: the prediction as a function of model and inputs; the model's output when not given.
        validation: fraction of the training samples, or samples, on which the loss is watched.
        sample_weight: how much each training sample counts, ``(N,)``.
        lr_scheduler: schedule of the learning rate, see `kan.training.methods.learning_rate.make_scheduler`.
        clip: largest norm of the gradient.
        patience: number of steps without a lower loss of validation, test or training data (the first of these that there is), after
            which the fit ends.
        restore_best: whether the model ends with the best such loss. When not given, it does if `patience` or `validation` is given, or if
            an interrupt, an error or numbers that are not finite end a fit without penalty (and its steps have all samples, or there are
            test data).
        time_limit: seconds after which the fit ends, for all grids and all networks together.
        callbacks: notified of every step, see `kan.training.callbacks`.
        progress: whether there is a progress bar.
        resume: state of another fit's optimiser to go on from.
        grids: numbers of grid intervals that the network is trained with one after another, see `kan.training.levels`.
        restarts: how many networks are trained, of which the best is kept, see `kan.training.restarts`. When not given it is one, and a
            penalised fit of a new KAN that is stuck may begin anew, see `kan.training.second_start`.
        eval_every: number of steps from one evaluation of test data, validation data and metrics to the next. When not given, every step
            with full batches, and as seldom as `kan.training.evaluation.interval.steps_between` says with mini-batches.

    Raises:
        TypeError, ValueError: for options that no model and no data allow.

    Example:
        >>> FitOptions(opt="LM", steps=20).watches_best, FitOptions(patience=5).watches_best
        (False, True)
    """

    opt: Any = "LBFGS"
    steps: int = 100
    log: int = 1
    lamb: float = 0.0
    penalty: Penalty | PerceptronPenalty | None = None
    grid_schedule: GridSchedule | None = None
    loss_fn: Callable[..., Tensor] | None = None
    lr: float = 1.0
    batch: int = -1
    metrics: Sequence[Callable[..., Any] | str] | None = None
    singularity_avoiding: bool = False
    y_th: float = 1000.0
    display_metrics: Sequence[str] | None = None
    on_step: Callable[[int], None] | None = None
    pred_fn: Callable[[Any, Tensor], Tensor] | None = None
    validation: Any = None
    sample_weight: Any = None
    lr_scheduler: Any = None
    clip: float | None = None
    patience: int | None = None
    restore_best: bool | None = None
    time_limit: float | None = None
    callbacks: Sequence[Callback] = ()
    progress: bool = True
    resume: Mapping[str, Any] | None = None
    grids: Sequence[int] = ()
    restarts: int | None = None
    eval_every: int | None = None

    def __post_init__(self) -> None:
        self._check_ends()
        self._check_numbers()
        check_function("loss_fn", self.loss_fn)
        check_function("pred_fn", self.pred_fn)
        self._check_networks()
        assert self.named_metrics is not None  # which checks them
        _check_list("display_metrics", "names of results", self.display_metrics or ())
        for callback in _check_list("callbacks", "objects of kan.training.callbacks.Callback", self.callbacks):
            if not isinstance(callback, Callback):
                got = callback.__name__ if isinstance(callback, type) else type(callback).__name__
                raise TypeError(
                    f"callbacks must be a list of objects of kan.training.callbacks.Callback; got {got}. Every(1, function) makes one "
                    f"of a function."
                )

    @property
    def squares(self) -> bool:
        """Whether the loss is the mean squared error."""
        return self.loss_fn is None

    @cached_property
    def named_metrics(self) -> Metrics:
        """The metrics by the names under which the result has them."""
        return named_metrics(() if self.metrics is None else self.metrics, target_of(self.loss_fn) is Target.NUMBERS)

    @property
    def watches_best(self) -> bool:
        """Whether the model ends with its best loss, however the fit ends."""
        return self.patience is not None or self.validation is not None if self.restore_best is None else self.restore_best

    @property
    def method(self) -> str:
        """The name of the method. The state of its optimiser is kept under this name."""
        if isinstance(self.opt, str):
            return self.opt
        return str((self.opt if isinstance(self.opt, type) else type(self.opt)).__name__)

    @property
    def only_squares_of_all_samples(self) -> bool:
        """Whether a fit minimises the mean squared error of all samples and nothing else, and no user code observes its steps.

        Then several networks can be trained as one computation, see `kan.training.together.fit_stack`.
        """
        others = (self.loss_fn, self.pred_fn, self.on_step, self.lr_scheduler, self.clip)
        return not (self.lamb or self.metrics or self.callbacks) and self.batch == -1 and self.steps > 0 and all(o is None for o in others)

    @property
    def may_begin_anew(self) -> bool:
        """Whether a stuck fit may go on from another start: L-BFGS minimises a penalised objective, and no option fixes its first steps."""
        if self.restarts is not None or self.lamb <= 0 or self.resume is not None or self.time_limit is not None:
            return False
        return isinstance(self.opt, str) and self.opt == "LBFGS"

    def of_the_loss(self) -> FitOptions:
        """The options on which the value of the loss depends, and no others: they hold no data."""
        return FitOptions(
            loss_fn=self.loss_fn, pred_fn=self.pred_fn, singularity_avoiding=self.singularity_avoiding, y_th=self.y_th
        )  # fmt: skip

    def _check_ends(self) -> None:
        patience, limit = self.patience, self.time_limit
        if patience is not None and (isinstance(patience, bool) or not isinstance(patience, Integral) or patience < 1):
            raise ValueError(f"patience must be a number of steps, at least 1; got {patience!r}.")
        every = self.eval_every
        if every is not None and (isinstance(every, bool) or not isinstance(every, Integral) or every < 1):
            raise ValueError(f"eval_every must be a number of steps, at least 1; got {every!r}.")
        if limit is not None and (not isinstance(limit, Real) or not limit > 0):
            raise ValueError(f"time_limit must be a positive number of seconds; got {limit!r}.")

    def _check_numbers(self) -> None:
        steps, batch, clip = self.steps, self.batch, self.clip
        if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
            raise ValueError(f"steps must be an integer of at least 0; got {steps!r}.")
        if isinstance(batch, bool) or not isinstance(batch, Integral) or (batch != -1 and batch < 1):
            raise ValueError(f"batch must be a positive number of samples, or -1 for all of them; got {batch!r}.")
        numbers = {"lamb": self.lamb, "lr": self.lr, "log": self.log, "y_th": self.y_th, "clip": 1.0 if clip is None else clip}
        for name, value in numbers.items():
            check_finite(name, value)
        if not self.lamb >= 0:
            raise ValueError(f"lamb must not be negative; got {self.lamb}.")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive; got {self.lr}.")
        if not self.y_th > 0:
            raise ValueError(f"y_th, the bound of symbolic functions at their singularities, must be positive; got {self.y_th}.")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip, the largest norm of the gradient, must be positive; got {clip}.")

    def _check_networks(self) -> None:
        """Check `grids` and `restarts`, and that the other options are not those of a single network if there are several."""
        restarts, exists = self.restarts, isinstance(self.opt, torch.optim.Optimizer)
        if isinstance(self.grids, str) or not isinstance(self.grids, Iterable):
            raise TypeError(f"grids must be a list of numbers of intervals, as [3, 5, 10, 20]; got {self.grids!r}.")
        object.__setattr__(self, "grids", tuple(self.grids))  # an array has no truth value
        if restarts is not None and (isinstance(restarts, bool) or not isinstance(restarts, Integral) or int(restarts) < 1):
            raise ValueError(f"restarts, the number of networks that are trained, must be a positive integer; got {restarts!r}.")
        if restarts is not None and restarts > 1 and self.resume is not None:
            raise ValueError("resume goes on with one network, and restarts begin with new ones: use one of the two.")
        if restarts is not None and restarts > 1 and exists:
            raise ValueError("restarts train several networks, and an optimiser that exists holds one: pass its class or its name.")
        if self.grids and exists:
            raise ValueError(
                "grids give the network new parameters, which an optimiser that exists does not hold: pass its class or its name."
            )


def _check_list(name: str, what: str, values: Any) -> Iterable[Any]:
    """`values`, if they are a list or the like."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {what}; got {type(values).__name__}.")
    return values
