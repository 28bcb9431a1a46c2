"""The training of one network on the grids that it has: its objective and the parts of the loop are put together, and the loop is run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kan.errors import level_of_caller, unknown_name
from kan.modes import threads
from kan.network.network import Network
from kan.training.callbacks import Callback, Every
from kan.training.data.batches import Batches, make_batches
from kan.training.data.dataset import Data
from kan.training.data.normalisation import in_network_units, relative_round_off, root_of_loss, spreads_of_labels
from kan.training.data.samples import Samples
from kan.training.evaluation.interval import steps_between
from kan.training.evaluation.measure import Measure
from kan.training.grid_schedule import GridSchedule
from kan.training.history import History
from kan.training.loop import Stage, run
from kan.training.methods.by_name import make_stepper
from kan.training.methods.learning_rate import make_scheduler
from kan.training.methods.stepper import TorchStepper
from kan.training.models.kinds import trainable
from kan.training.objectives.base import TrainingObjective
from kan.training.objectives.make import check_loss, check_prediction, make_objective
from kan.training.objectives.training_loss import TrainingLoss
from kan.training.options import FitOptions
from kan.training.prepare import Prepared
from kan.training.resume import has_chosen_knots, is_refined, load_state, state_of
from kan.training.second_start import SecondStart
from kan.training.snapshot import snapshot, undone_on_error
from kan.training.stopping import Stopping

__all__ = ["train"]

FEATURES_FOR_ONE_THREAD = 2**16
"""Number of features in the widest layer of a step up to which one thread is used. With so few, several threads mostly wait for each
other; on a busy machine they take ten times as long as one thread."""


def train(
    task: Prepared, options: FitOptions, back: Callable[[], None], *, history: History | None = None,
    previous: Mapping[str, Any] | None = None,
) -> History:  # fmt: skip
    """Train a network in place, on the grids that it has.

    Args:
        task: the model and its data.
        options: how the model is trained; its `grids` and `restarts` have been handled by the caller.
        back: makes the model what it was before, if an error or an interrupt comes before the first step is complete.
        history: the history of another fit, which is continued.
        previous: state of the last fit of this network, or of the network that it is a refinement of. Refined grids stay as they are, see
            `kan.training.resume`, and the state of the optimiser is carried over where it keeps its meaning.

    Returns:
        The history, with the state of the optimiser.

    Raises:
        TypeError, ValueError: for options that do not suit the model or the data, before anything is changed.
    """
    with undone_on_error(back):
        stage = _stage(task, options, history, previous)
        _check_user_functions(task, stage)
        stage.schedule, chosen_knots = _schedule(task, options, previous)
        if options.may_begin_anew and stage.deterministic and task.model.redrawable is not None:
            stage.second_start = _second_start(task, stage, task.model.redrawable)
        if options.resume is not None:
            load_state(options.resume, options.method, stage.stepper, stage.scheduler, stage.batches)
        task.model.take_input_(stage.batches.seen())
        _keep_freed_memory()
    try:
        with threads(1 if stage.batches.size() * task.model.width() <= FEATURES_FOR_ONE_THREAD else torch.get_num_threads()):
            message = run(stage)
    finally:
        _leave_loss_(task, stage)
    stage.history.optimizer_state = state_of(options.method, stage.stepper, stage.scheduler, stage.batches, chosen_knots)
    if stage.history.left_as_it_was:
        back()
    if message:
        warnings.warn(message, stacklevel=level_of_caller())
    return stage.history


def _stage(task: Prepared, options: FitOptions, history: History | None, previous: Mapping[str, Any] | None) -> Stage:
    """The parts of the loop, with what the optimiser of the previous fit has learned; no update of the grids is planned yet."""
    model, data = task.model, task.data
    objective = make_objective(model, options, task.weighted)
    batches = make_batches(model, data, options.batch)
    measure = _measure(task, options, objective)
    history = History(measure.names) if history is None else history
    for key in options.display_metrics or ():
        if key not in history:
            raise unknown_name("metric in display_metrics", key, history)
    parameters, short = model.trainable_parameters(), not batches.whole
    stepper = make_stepper(options.opt, objective.rounded(), parameters, options.lr, options.clip, short)
    scheduler = make_scheduler(options.lr_scheduler, stepper)
    if is_refined(previous):
        exact = options.squares and options.pred_fn is None and batches.whole
        error = measure.training(data.first, None, None)[1] if exact else None
        stepper.carry_(previous["method"] if previous["opt"] == options.method else {}, error)

    # A function of the user's may return something else at every call.
    known = options.squares and options.pred_fn is None and batches.whole and not model.has_own_code
    if known and not isinstance(options.opt, torch.optim.Optimizer):
        stepper.assume_deterministic()
    round_off = relative_round_off(model, data.first.y, task.labels) if known and options.lamb == 0 else -math.inf
    stage = Stage(
        model, options, stepper, batches, measure, _stopping(task, options, batches), history, _callbacks(task, options), scheduler,
        round_off, known, eval_every=_eval_every(options, batches, measure, scheduler),
    )  # fmt: skip
    if options.lamb > 0 and isinstance(stepper, TorchStepper) and not model.has_own_code:

        def grids_moved(x: Tensor) -> None:
            stepper.objective = objective.rounded(x)

        stage.grids_moved = grids_moved
    return stage


def _measure(task: Prepared, options: FitOptions, objective: TrainingObjective) -> Measure:
    """What is reported after every step: losses in the user's units, metrics."""
    units = spreads_of_labels(task.model, task.labels)
    shown, spreads = root_of_loss(units) if options.squares else float, None
    if shown is None:
        shown, spreads = math.sqrt, task.data.first.y.new_tensor(units)
    return Measure(objective, task.data.validation, task.data.test, shown, options.named_metrics, spreads, task.labels.mapped)


def _eval_every(options: FitOptions, batches: Batches, measure: Measure, scheduler: LRScheduler | None) -> int:
    """Number of steps from one evaluation of held-out data and metrics to the next.

    A schedule that waits for the loss to fall counts steps, and so gets a loss of every step.
    """
    if options.eval_every is not None:
        return int(options.eval_every)
    if batches.whole or isinstance(scheduler, ReduceLROnPlateau):
        return 1
    of_metrics = len(batches.fitted()) if measure.metrics.plain else 0  # what functions of the user's evaluate is not known
    return steps_between(batches.size(), measure.besides + of_metrics, batches.steps_per_pass())


def _stopping(task: Prepared, options: FitOptions, batches: Batches) -> Stopping:
    """When the fit ends early, and whether it goes back to its best state.

    A single batch's loss says little, and with a penalty the least loss is that of the network before it got sparse.
    """
    steady = batches.whole or task.data.validation is not None or task.data.test is not None
    rescues_best = options.restore_best is None and options.lamb == 0 and steady
    return Stopping(options.patience, options.time_limit, options.watches_best, rescues_best, task.begun)


def _callbacks(task: Prepared, options: FitOptions) -> list[Callback]:
    """The callbacks of a fit: its progress bar, `on_step`, and those of the user."""
    found: list[Callback] = [] if task.bar is None else [task.bar]
    on_step = options.on_step
    if on_step is not None:
        found.append(Every(1, lambda state: on_step(state.step)))
    return [*found, *options.callbacks]


def _check_user_functions(task: Prepared, stage: Stage) -> None:
    """Try predictions and losses of the user's own on the data, and raise an error if they return something unusable."""
    model, measure, options, first = task.model, stage.measure, stage.options, task.data.first
    if options.pred_fn is not None:
        check_prediction(measure.objective, first, same_shape=options.squares)
    elif model.has_own_code:
        check_prediction(measure.objective, first, options.squares, model.own_call or "the model")
        measure.training(first, None, None)  # the penalty, too, must be one
    if not options.squares:
        with model.network.same_last_input():
            for samples in (first, task.data.validation, task.data.test):
                if samples is not None:
                    predicted = measure.objective.predict_in_parts(samples.x)
                    check_loss(measure.objective, predicted, samples, trained_on=samples is first)


def _schedule(task: Prepared, options: FitOptions, previous: Mapping[str, Any] | None) -> tuple[GridSchedule | None, bool]:
    """When the grids are updated, and whether they keep knots that a refinement has chosen.

    Such knots stay as long as they reach as far as the data. Grids whose inputs are hidden by the user's own code stay too.
    """
    model, x = task.model, task.data.first.x
    hidden = bool(model.own_call) and model.seen(x) is None
    chosen_knots = has_chosen_knots(previous) and (hidden or model.covers(x))
    if options.grid_schedule is None or chosen_knots or not model.has_splines:
        return None, chosen_knots
    if hidden and not model.updates_own_grids:
        warnings.warn(
            f"fit: the grids stay as they are, since {model.own_call} does not call KAN.forward, so that what the layers see is not known. "
            f"Let it call super().forward(x), or pass update_grid=False.",
            stacklevel=level_of_caller(),
        )
        return None, chosen_knots
    return options.grid_schedule, chosen_knots


def _second_start(task: Prepared, stage: Stage, network: Network) -> SecondStart:
    """What a penalised fit does if it is stuck: it trains other starts of `network`, each in a fit of its own."""
    options, given = stage.options, task.given
    assert isinstance(given, Samples)
    common = FitOptions(
        penalty=options.penalty, grid_schedule=stage.schedule, singularity_avoiding=options.singularity_avoiding, y_th=options.y_th,
        restore_best=False, progress=False, restarts=1,
    )  # fmt: skip

    def part(samples: Samples) -> Prepared:
        return replace(task, data=in_network_units(task.model, Data(samples), task.labels), bar=None)

    def trained(samples: Samples, opt: str, steps: int, penalised: bool) -> History:
        own = replace(common, opt=opt, steps=steps, lamb=options.lamb if penalised else 0.0)
        return train(part(samples), own, lambda: None)

    @torch.no_grad()
    def value(samples: Samples) -> float:
        own = part(samples).data.first
        return float(stage.measure.objective(own.x, own.y, None, own.weight)[0])

    return SecondStart(network, given, trained, value, options.steps, snapshot(network))


def _leave_loss_(task: Prepared, stage: Stage) -> None:
    """Leave no gradients behind, but the last input, and the loss of the fit for those models that later changes are judged by."""
    model, options, fitted = task.model, stage.options, stage.batches.fitted()
    model.network.zero_grad()
    model.take_input_(fitted.x)
    units, bare = spreads_of_labels(model, task.labels), options.of_the_loss()
    model.keep_loss_(
        TrainingLoss(
            x=fitted.x, inputs=model.network.input_width, y=fitted.y, weight=fitted.weight, outputs=model.network.width_in[-1],
            squares=options.squares, penalised=options.lamb > 0, objective_of=partial(_loss_of, options=bare, weighted=task.weighted),
            mapped=task.labels.mapped, unit=units[0] if options.squares and len(set(units)) == 1 else 1.0,
        )  # fmt: skip
    )


def _loss_of(network: Network, options: FitOptions, weighted: bool) -> TrainingObjective:
    """The objective without a penalty of a network that the fitted one has become."""
    return make_objective(trainable(network), options, weighted)


def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB, instead of giving them back to the system after every use.

    It learns the limit from the largest block that it has mapped and unmapped; this one is never touched. Other allocators ignore it. A
    fit of [2, 5, 1] with 20 intervals has 300 page faults per evaluation without this, and takes a fifth longer.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
