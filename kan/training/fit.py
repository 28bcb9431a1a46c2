"""`fit`: checks its arguments, puts the parts of a training together, and runs it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from kan.errors import check_finite, unknown_name
from kan.modes import threads
from kan.network.insertion import beyond_grids
from kan.network.network import Network
from kan.network.user_code.observed import observed
from kan.network.user_code.own_code import PENALTY, own_call, own_methods, own_parts
from kan.training.callbacks import Callback, Every, ProgressBar
from kan.training.data.batches import make_batches, width_of
from kan.training.data.classes import Target, target_of
from kan.training.data.dataset import Data, check_dataset, name_classes_, name_columns_
from kan.training.data.normalisation import (
    Labels,
    adopt_units_,
    in_network_units,
    relative_round_off,
    root_of_loss,
    spreads_of_labels,
)
from kan.training.data.samples import Model, Samples
from kan.training.diagnosis import where_not_finite
from kan.training.evaluation.measure import Measure
from kan.training.evaluation.metrics import named_metrics
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History
from kan.training.loop import Stage, run
from kan.training.methods.by_name import make_stepper
from kan.training.methods.learning_rate import make_scheduler
from kan.training.methods.stepper import TorchStepper
from kan.training.objectives.make import check_loss, check_prediction, corner_of, make_objective, rounded
from kan.training.objectives.of_perceptron import PerceptronPenalty
from kan.training.objectives.of_prediction import PredictionObjective
from kan.training.objectives.penalty import Penalty
from kan.training.objectives.training_loss import TrainingLoss
from kan.training.processes import warn_of_other_processes
from kan.training.resume import has_chosen_knots, is_refined, load_state, state_of
from kan.training.second_start import SecondStart
from kan.training.snapshot import snapshot, unchanged_on_error
from kan.training.stopping import Stopping

__all__ = ["fit", "trainable_parameters"]

LITTLE = 2**16
"""Number of features up to which one thread is quicker than several, which would spend the time waiting for each other (and on a busy
machine ten times as much)."""


def fit(
    network: Model,
    dataset: Any,
    opt: Any = "LBFGS",
    steps: int = 100,
    log: int = 1,
    lamb: float = 0.0,
    penalty: Penalty | PerceptronPenalty | None = None,
    grid_schedule: GridSchedule | None = None,
    loss_fn: Callable[..., Tensor] | None = None,
    lr: float = 1.0,
    batch: int = -1,
    metrics: Sequence[Callable[..., Any] | str] | None = None,
    singularity_avoiding: bool = False,
    y_th: float = 1000.0,
    display_metrics: Sequence[str] | None = None,
    on_step: Callable[[int], None] | None = None,
    *,
    pred_fn: Callable[[Any, Tensor], Tensor] | None = None,
    validation: Any = None,
    sample_weight: Any = None,
    lr_scheduler: Any = None,
    clip: float | None = None,
    patience: int | None = None,
    restore_best: bool | None = None,
    time_limit: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | ProgressBar | None = True,
    resume: Mapping[str, Any] | None = None,
    history: History | None = None,
    previous: Mapping[str, Any] | None = None,
    units_told: bool = False,
    adopts_units: bool = True,
    second_start: bool = False,
) -> History:
    """Train `network` in place.

    Args:
        network: to be trained. Where a KAN has no names for inputs or outputs, it takes those of the columns if the training data are
            pandas frames with different strings as names. A new KAN gets maps of columns that are out of proportion with it, see
            `kan.training.data.normalisation`.
        dataset: in one of the forms of `kan.training.data.dataset`.
        opt: how the parameters are moved, see `kan.training.methods.by_name.make_stepper`.
        steps: number of optimiser steps; a step of L-BFGS is up to 20 iterations.
        log: the progress bar's numbers are renewed every `log` steps; no bar for numbers below 1.
        lamb: weight of the penalty.
        penalty: what the penalty is, of the network's kind; pykan's default when not given.
        grid_schedule: when the grids are updated; never when not given.
        loss_fn: of prediction and label (and weights); the mean squared error when not given.
        lr: learning rate.
        batch: number of samples per step, drawn without replacement; -1 for all.
        metrics: functions without arguments, or of prediction and label, evaluated after every step, see `kan.training.evaluation.metrics`;
            their names become keys of the result.
        singularity_avoiding, y_th: how symbolic edges are evaluated, see `Network.forward`.
        display_metrics: keys of the result that the progress bar shows instead of the losses.
        on_step: called after every step with its number.
        pred_fn: the prediction as a function of network and inputs; the network's output when not given.
        validation: fraction of the training samples, or samples, on which the loss is watched.
        sample_weight: how much each training sample counts, ``(N,)``.
        lr_scheduler: schedule of the learning rate, see `kan.training.methods.learning_rate.make_scheduler`.
        clip: largest norm of the gradient.
        patience: steps without a lower loss of validation, test or training data (the first of these that there is), after which the fit
            ends.
        restore_best: whether the network ends with the best such loss. When not given, if `patience` or `validation` is given, or if an
            interrupt, an error or numbers that are not finite end a fit without penalty (and its steps have all samples, or there are test
            data).
        time_limit: seconds after which the fit ends.
        callbacks: told of every step, see `kan.training.callbacks`.
        progress: whether there is a progress bar, or the one to go on with.
        resume: state of another fit's optimiser to go on from.
        history: of another fit, which is continued.
        previous: state of the last fit of this network, or of the one that it is a refinement of: refined grids stay as they are, see
            `kan.training.resume`, and what the optimiser knows is carried over where it still means the same.
        units_told: whether the user has been warned already of columns that cannot be mapped.
        adopts_units: whether a new network may get maps of columns that are out of proportion with it.
        second_start: whether a penalised fit of a new KAN that is stuck may begin anew, see `kan.training.second_start`.

    Returns:
        The history: ``train_loss``, ``test_loss``, ``reg``, with validation data ``val_loss``, and the metrics, one number per step, at the
        parameters that the step ended with. Losses are roots of the mean squared error in the units of the labels, or the values of
        `loss_fn` as they are. Its
        ``optimizer_state`` is what `resume` takes.

    Raises:
        TypeError, ValueError: for bad input, before anything is changed.
    """
    keeps_best = patience is not None or validation is not None if restore_best is None else restore_best
    stopping = Stopping(patience, time_limit, keeps_best)
    _check_numbers(steps, batch, lamb, lr, clip, log, y_th)
    squares = loss_fn is None
    labels = Labels.of(loss_fn, pred_fn, network)
    between = own_call(network) if isinstance(network, Network) else ""
    own = isinstance(network, Network) and bool(own_parts(network) or own_methods(network, *PENALTY))
    with unchanged_on_error(network) as back:
        data = check_dataset(
            network, dataset, same_shape=labels.mapped, floating=squares, validation=validation, sample_weight=sample_weight, exact=True,
            loss_fn=loss_fn, pred_fn=pred_fn,
        )  # fmt: skip
        if isinstance(network, Network):
            name_columns_(network, dataset, labels_too=pred_fn is None)
            name_classes_(network, data)
        if data.classes is not None and data.classes.remark and not units_told:
            warnings.warn(data.classes.remark, stacklevel=5)
        if adopts_units:
            adopt_units_(network, data, labels, follows=grid_schedule is not None, second_order=opt == "LM", quiet=units_told)
        in_user_units, data = data.train, in_network_units(network, data, labels)
        weighted = sample_weight is not None
        objective = make_objective(network, loss_fn, lamb, penalty, singularity_avoiding, y_th, pred_fn, weighted)
        objective_of = partial(
            make_objective, loss_fn=loss_fn, lamb=0.0, penalty=None, singularity_avoiding=singularity_avoiding, y_th=y_th,
            pred_fn=pred_fn, weighted=weighted,
        )  # fmt: skip
        batches = make_batches(network, data, batch)
        # A single batch's loss says little, and with a penalty the least loss is that of the network before it got sparse.
        steady = batches.whole or data.validation is not None or data.test is not None
        stopping.rescues_best = restore_best is None and lamb == 0 and steady
        units = spreads_of_labels(network, labels)
        shown, spreads = root_of_loss(units) if squares else float, None
        if shown is None:
            shown, spreads = math.sqrt, data.first.y.new_tensor(units)
        named = named_metrics(() if metrics is None else metrics, target_of(loss_fn) is Target.NUMBERS)
        measure = Measure(objective, data.validation, data.test, shown, named, spreads, labels.mapped)
        history = History(measure.names) if history is None else history
        for key in _listed("display_metrics", "names of results", display_metrics or ()):
            if key not in history:
                raise unknown_name("metric in display_metrics", key, history)
        stepper = make_stepper(opt, rounded(objective), trainable_parameters(network), lr, clip)
        scheduler = make_scheduler(lr_scheduler, stepper)
        method = opt if isinstance(opt, str) else (opt if isinstance(opt, type) else type(opt)).__name__
        if is_refined(previous):
            error = measure.training(data.first, None, None)[1] if squares and pred_fn is None and batches.whole else None
            stepper.carry_(previous["method"] if previous["opt"] == method else {}, error)
        if resume is not None:
            load_state(resume, method, stepper, scheduler, batches)
        bar = ProgressBar.of(progress, log, display_metrics)
        told: list[Callback] = [] if bar is None else [bar]
        if on_step is not None:
            told.append(Every(1, lambda state: on_step(state.step)))
        told += _checked_callbacks(callbacks)
        if isinstance(objective, PredictionObjective):
            check_prediction(objective, data.first, same_shape=squares)
        elif own:
            check_prediction(objective, data.first, squares, between or "the model")
            measure.training(data.first, None, None)  # the penalty, too, must be one
        if not squares:
            with network.same_last_input():
                for samples in (data.first, data.validation, data.test):
                    if samples is not None:
                        check_loss(objective, measure.predicted(samples.x), samples, trained_on=samples is data.first)

        plain = squares and pred_fn is None and batches.whole and not own  # a function of the user's may do as it likes
        if plain and not isinstance(opt, torch.optim.Optimizer):
            stepper.assume_deterministic()
        round_off = relative_round_off(network, data.first.y, labels) if plain and lamb == 0 else -math.inf
        hidden = bool(between) and _hides(network, data.first.x)
        keeps_knots = isinstance(network, Network) and has_chosen_knots(previous)
        if isinstance(network, Network) and keeps_knots and not hidden:
            keeps_knots = not any(beyond_grids(network, data.first.x))
        schedule = grid_schedule if _has_splines(network) and not keeps_knots else None
        if schedule is not None and hidden and not own_methods(network, "get_act", "update_grid", "update_grid_from_samples"):
            schedule = None
            warnings.warn(
                f"fit: the grids stay as they are, since {between} does not call KAN.forward, so that what the layers see is not known. "
                f"Let it call super().forward(x), or pass update_grid=False.",
                stacklevel=3,
            )
        evaluation: dict[str, Any] = {"singularity_avoiding": singularity_avoiding, "y_th": y_th} if isinstance(network, Network) else {}
        diagnose = partial(where_not_finite, network, **evaluation)
        stage = Stage(network, stepper, batches, measure, stopping, history, told, schedule, scheduler, round_off, diagnose)
        if lamb > 0 and isinstance(network, Network) and isinstance(stepper, TorchStepper) and not own:

            def grids_moved(x: Tensor) -> None:
                stepper.objective = rounded(objective, corner_of(network, x))

            stage.grids_moved = grids_moved
        again = second_start and lamb > 0 and plain and isinstance(opt, str) and opt == "LBFGS" and resume is None and time_limit is None
        if again and isinstance(network, Network):
            assert isinstance(in_user_units, Samples)
            options = {"penalty": penalty, **evaluation}
            stage.second_start = _second_start(network, in_user_units, labels, objective, stage, steps, options, lamb)

        warn_of_other_processes("fit", stacklevel=3)
        _take_input(network, batches.seen())
        _keep_freed_memory()
    try:
        with threads(1 if batches.size() * width_of(network) <= LITTLE else torch.get_num_threads()):
            message = run(stage, steps)
    finally:
        network.zero_grad()
        fitted = batches.fitted()
        _take_input(network, fitted.x)
        if isinstance(network, Network):
            network.fit_loss = TrainingLoss(
                x=fitted.x, inputs=network.input_width, y=fitted.y, weight=fitted.weight, outputs=network.width_in[-1], squares=squares,
                penalised=lamb > 0,
                objective_of=objective_of, mapped=labels.mapped, unit=units[0] if squares and len(set(units)) == 1 else 1.0,
            )  # fmt: skip
    history.optimizer_state = state_of(method, stepper, scheduler, batches, keeps_knots)
    if history.left_as_it_was:
        back()
    if message:
        warnings.warn(message, stacklevel=3)
    return history


def _second_start(
    network: Network, samples: Samples, labels: Labels, objective: Any, stage: Stage, steps: int, options: dict[str, Any], lamb: float
) -> SecondStart:
    """What a fit with the penalty `lamb` does if it is stuck."""

    def trained(samples: Samples, opt: str, steps: int, penalised: bool) -> History:
        return fit(
            network, (samples.x, samples.y), opt, steps, lamb=lamb if penalised else 0.0, grid_schedule=stage.schedule,
            sample_weight=samples.weight, progress=False, adopts_units=False, restore_best=False, **options,
        )  # fmt: skip

    @torch.no_grad()
    def value(samples: Samples) -> float:
        own = in_network_units(network, Data(samples, None, None), labels).train
        assert isinstance(own, Samples)
        return float(objective(own.x, own.y, None, own.weight)[0])

    return SecondStart(network, samples, trained, value, steps, snapshot(network))


def trainable_parameters(network: Model) -> list[nn.Parameter]:
    """The parameters that a fit can change: those that require gradients, but for layers without any numeric or any symbolic edge."""
    useless = set()
    layers = zip(network.numeric_layers, network.symbolic_layers, strict=True) if isinstance(network, Network) else ()
    for numeric, symbolic in layers:
        if not symbolic.active():
            useless.add(symbolic.affine)
        if not bool(numeric.mask.any()):
            useless.update((numeric.coef, numeric.scale_base, numeric.scale_sp))
    found = [p for p in network.parameters() if p.requires_grad and p not in useless]
    if not found:
        raise ValueError("the network has nothing to train: every edge is masked or every parameter is frozen.")
    return found


def _check_numbers(steps: int, batch: int, lamb: float, lr: float, clip: float | None, log: int, y_th: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
        raise ValueError(f"steps must be an integer of at least 0; got {steps!r}.")
    if isinstance(batch, bool) or not isinstance(batch, Integral) or (batch != -1 and batch < 1):
        raise ValueError(f"batch must be a positive number of samples, or -1 for all of them; got {batch!r}.")
    for name, value in {"lamb": lamb, "lr": lr, "log": log, "y_th": y_th, "clip": 1.0 if clip is None else clip}.items():
        check_finite(name, value)
    if not lamb >= 0:
        raise ValueError(f"lamb must not be negative; got {lamb}.")
    if not lr > 0:
        raise ValueError(f"lr must be positive; got {lr}.")
    if not y_th > 0:
        raise ValueError(f"y_th, the bound of symbolic functions at their singularities, must be positive; got {y_th}.")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip, the largest norm of the gradient, must be positive; got {clip}.")


def _listed(name: str, what: str, values: Any) -> Any:
    """`values`, if they are a list or the like."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {what}; got {type(values).__name__}.")
    return values


def _checked_callbacks(callbacks: Sequence[Callback]) -> Sequence[Callback]:
    for callback in _listed("callbacks", "objects of kan.training.callbacks.Callback", callbacks):
        if not isinstance(callback, Callback):
            got = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise TypeError(
                f"callbacks must be a list of objects of kan.training.callbacks.Callback; got {got}. Every(1, function) makes one "
                f"of a function."
            )
    return callbacks


def _has_splines(network: Model) -> bool:
    """Whether a spline is left whose grid could matter."""
    return isinstance(network, Network) and any(bool(layer.mask.any()) for layer in network.numeric_layers)


@torch.no_grad()
def _hides(network: Model, x: Tensor) -> bool:
    """Whether the user's own code, which is called with `x`, hides what the layers see of it."""
    return isinstance(network, Network) and observed(network, x).seen is None


@torch.no_grad()
def _take_input(network: Model, x: Tensor) -> None:
    """Make `x` the last input of `network`; of what its user's own code gives the layers, if it has some, what they see of it."""
    network.remember_input(observed(network, x).seen if isinstance(network, Network) and own_call(network) else x)


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB, where it hands them back to the system at every evaluation only to fault them in anew.

    It learns the limit from the largest block that it has mapped and unmapped; this one is never touched. Other allocators ignore it. A
    fit of [2, 5, 1] with 20 intervals has 300 page faults per evaluation without this, and takes a fifth longer.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
