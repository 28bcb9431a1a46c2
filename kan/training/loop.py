"""The training loop: takes steps, undoes those that are not finite, and leaves the network in a good state however it ends.

One step:

1. Draw the samples. Update the grids if that is due, and keep the update unless it raises the objective by too much.
2. Let the stepper move the parameters.
3. Evaluate the objective. If it, a parameter or the gradient is not finite, undo the grid update, if there was one, and try the step again,
   then smaller and smaller steps. If none helps, the fit ends.
4. Append the numbers of the step to the history. If an error is raised before this is done, the whole step is undone.
5. Call the callbacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from kan.modes import in_own_precision
from kan.network.trace import FirstLayer
from kan.training.callbacks import Callback, FitState
from kan.training.data.batches import Batches
from kan.training.data.samples import Samples
from kan.training.evaluation.measure import Measure
from kan.training.grid_schedule import LARGEST_RISE, GridSchedule
from kan.training.history import History
from kan.training.methods.learning_rate import advance
from kan.training.methods.stepper import Stepper
from kan.training.models.trainable import Trainable
from kan.training.options import FitOptions
from kan.training.second_start import STUCK, SecondStart, unexplained
from kan.training.snapshot import restore_, snapshot
from kan.training.stopping import Stopping

__all__ = ["Stage", "run"]

SMALLER_STEPS = 4
"""Largest number of repetitions of a step, each smaller than the last, after a step led to numbers that are not finite: a round choice."""


@dataclass
class Stage:
    """Everything that the steps of one network on one number of grid intervals need.

    Attributes:
        model: the model that is trained.
        options: the options of the fit.
        stepper: moves the parameters.
        batches: the samples of each step.
        measure: the numbers of each step.
        stopping: decides when the fit ends early, and keeps the best state.
        history: the numbers of all steps, to which each step adds its own.
        callbacks: are notified of every step.
        scheduler: schedule of the learning rate, if there is one.
        round_off: training loss that the labels' own round-off leaves. Below it, steps would cost as much as before and gain nothing.
        deterministic: whether the loss is the mean squared error of all samples and depends on nothing but the parameters.
        schedule: when the grids are updated; never if None.
        grids_moved: called with the inputs after every update of the grids that is kept, except the update before the first step.
        second_start: what is done if the fit is stuck; nothing if None.
        eval_every: number of steps from one evaluation of held-out data and metrics to the next; their numbers are repeated in between.
    """

    model: Trainable
    options: FitOptions
    stepper: Stepper
    batches: Batches
    measure: Measure
    stopping: Stopping
    history: History
    callbacks: Sequence[Callback]
    scheduler: LRScheduler | None
    round_off: float
    deterministic: bool
    schedule: GridSchedule | None = None
    grids_moved: Callable[[Tensor], None] | None = None
    second_start: SecondStart | None = None
    eval_every: int = 1

    def evaluates(self, step: int) -> bool:
        """Whether held-out data and metrics are evaluated after this step, counted from the beginning of the stage."""
        return step % self.eval_every == 0 or step == self.options.steps - 1


@in_own_precision
def run(stage: Stage) -> str:
    """Train for as many steps as the options of the stage say, or until it ends early.

    Returns:
        A sentence about an end that was not planned (an interrupt, or numbers that are not finite), or an empty text. The history says as
        well why the fit ended.
    """
    loop, state = _Loop(stage), FitState(stage.model.network, stage.history, stage.options.steps)
    with ExitStack() as ends:
        for callback in stage.callbacks:
            callback.on_fit_start(state)
            ends.callback(callback.on_fit_end, state)
        try:
            stage.history.stopped = loop.steps(state)
        except KeyboardInterrupt:
            loop.undo()
            stage.history.stopped = "interrupted"
        except BaseException:
            loop.undo()
            stage.history.stopped = "error"
            raise
        finally:
            if stage.stopping.finish_(stage.model.network, stage.history):
                stage.stepper.reset()
    return loop.sentence()


class _Undo:
    """The network before a step: its parameters, or all of it where its grids are about to move."""

    def __init__(self, stage: Stage, whole: bool) -> None:
        self.stage = stage
        self.rows = stage.history.steps
        self.saved: Tensor | list[Tensor] = snapshot(stage.model.network) if whole else stage.stepper.save()

    def __call__(self) -> None:
        if isinstance(self.saved, Tensor):
            self.stage.stepper.restore_(self.saved)
        else:
            restore_(self.stage.model.network, self.saved)
            self.stage.batches.forget()
            self.stage.stepper.reset()


class _Loop:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.pending: _Undo | None = None
        self.converged = self.idle = False
        self.trouble = ""
        self.loss: float | None = None  # of the last step
        self.row: dict[str, float] | None = None  # of the last step
        self.found: tuple[float, float]  # loss and penalty of the last step on
        self.samples: Samples  # its samples
        self.objective: float | None = None  # at the end of the last step, if every step has the same samples

    def steps(self, state: FitState) -> str:
        """Take steps; returns why they ended."""
        stage = self.stage
        begun = stage.history.steps
        for step in range(begun, begun + state.steps):
            if stage.second_start is not None and stage.second_start.due(step - begun):
                self._begin_again_if_stuck(stage.second_start)
            row = self._step(step - begun)
            if row is None:
                return "not finite"
            watched, measured = stage.measure.watched(row), stage.evaluates(step - begun)
            advance(stage.scheduler, watched)
            reason = stage.stopping.look(step, watched, stage.model.network, stage.history, measured or not stage.measure.besides)
            state.step = step
            for callback in stage.callbacks:
                callback.on_step(state)
            if reason or state.stop:
                if not measured:
                    self._evaluate_last(step)
                return reason or "callback"
        return "steps"

    def _evaluate_last(self, step: int) -> None:
        """Evaluate what the last step, which turned out to be the last one of the fit, has only repeated."""
        stage = self.stage
        row = stage.measure.row(*self.found, self.samples)
        stage.history.amend(row)
        stage.stopping.look(step, stage.measure.watched(row), stage.model.network, stage.history)

    def undo(self) -> None:
        """Go back to the end of the last complete step."""
        if self.pending is not None and self.stage.history.trim() == self.pending.rows:
            self.pending()
            self.stage.stepper.reset()
        self.pending = None

    def sentence(self) -> str:
        """What the user should know of the end."""
        history = self.stage.history
        if history.stopped not in ("interrupted", "not finite"):
            return ""
        last = history.best_step if history.restored else history.steps - 1
        left = "as it was before the first step" if last is None or last < 0 else f"as step {last} left it"
        if history.restored:
            left += ", its best state"
        if history.stopped == "interrupted":
            return f"fit: interrupted in step {history.steps}; the network is {left}."
        return (
            f"fit: step {history.steps} led to an objective that is not finite ({self.trouble}); the step is undone, and smaller ones "
            f"failed as well. The fit ends here, the network is {left}. Try a smaller lr, singularity_avoiding=True, or scale the data."
        )

    def _step(self, step: int) -> dict[str, float] | None:
        """One step; returns its numbers, or None if it had to be undone."""
        stage = self.stage
        samples = stage.batches.draw()
        moves_grid = stage.schedule is not None and stage.schedule.due(step)
        self.pending = undo = _Undo(stage, whole=moves_grid)
        if moves_grid:
            moves_grid = self._move_grids(samples, undo)
            if moves_grid and step > 0 and stage.grids_moved is not None:
                stage.grids_moved(samples.x)
        for attempt in range(1 + SMALLER_STEPS + moves_grid):
            found = self._tried(samples, undo.saved)
            if found is not None:
                self.row = row = stage.measure.row(*found, samples, None if stage.evaluates(step) else self.row)
                stage.history.append(row)
                self.found, self.samples = found, samples
                self.pending = None
                self.converged = found[0] <= stage.round_off
                return row
            here = "" if self.trouble else _where_not_finite(stage, samples.x)
            undo()
            self.trouble = self.trouble or self._diagnosed(samples) or here or "the loss or the penalty is not"
            if attempt > 0 or not moves_grid:
                stage.stepper.shrink()
        self.pending = None
        return None

    def _move_grids(self, samples: Samples, undo: _Undo) -> bool:
        """Update the grids; returns whether the update is kept."""
        stage = self.stage
        assert isinstance(undo.saved, list)
        before = self._evaluated(samples) if self.objective is None else self.objective
        stage.model.update_grid_(samples.x)
        stage.batches.forget()
        if self._evaluated(samples) > before + LARGEST_RISE * abs(before):  # never so if it was not finite
            restore_(stage.model.network, undo.saved)
            stage.batches.forget()
            return False
        stage.stepper.reset()
        self.converged = self.idle = False
        return True

    def _begin_again_if_stuck(self, second_start: SecondStart) -> None:
        """If the fit is stuck, go on from another start that is better."""
        stage = self.stage
        if self.loss is None or unexplained(self.loss, stage.batches.fitted()) < STUCK:
            return
        try:
            stage.history.restarts = second_start.find_()
        finally:
            stage.batches.forget()
            stage.model.network.remember_input(stage.batches.seen())
            if stage.history.restarts is not None:
                stage.stepper.reset()
                self.objective, self.converged, self.idle = None, False, False

    def _evaluated(self, samples: Samples) -> float:
        """The objective at the present parameters."""
        return self.stage.measure.training(samples, self._first_layer(samples), None)[0]

    def _first_layer(self, samples: Samples) -> FirstLayer | None:
        """The first layer's features, if they are kept between steps and the objective reads them."""
        stage = self.stage
        return stage.batches.first_layer(samples.x) if stage.measure.objective.reads_features(samples.x) else None

    def _diagnosed(self, samples: Samples) -> str:
        """A clause that says what was not finite before the step already: the sums of a layer, or a gradient; empty if nothing was."""
        stage = self.stage
        before = _where_not_finite(stage, samples.x)
        if before or stage.stepper.gradient_is_finite(samples.x, samples.y, None, samples.weight):
            return before
        return _bad_gradient(stage.model.network)

    def _tried(self, samples: Samples, saved: Tensor | list[Tensor]) -> tuple[float, float] | None:
        """Loss and penalty after the stepper has moved the parameters; None if something is not finite.

        Args:
            samples: of the step.
            saved: the parameters now, if it is a tensor.
        """
        stage = self.stage
        first = self._first_layer(samples)
        if self.converged:
            return stage.measure.training(samples, first, stage.stepper.known_loss)[1:]
        before = saved if isinstance(saved, Tensor) else stage.stepper.save()
        stage.stepper.step(samples.x, samples.y, first, samples.weight)
        total, loss, penalty = stage.measure.training(samples, first, stage.stepper.known_loss)
        after = stage.stepper.save()
        if not math.isfinite(total) or not math.isfinite(float(after.sum())):
            return None
        self.objective, self.loss = (total, loss) if stage.batches.whole else (None, None)
        if not torch.equal(before, after):
            self.idle = False
        elif not self.idle:
            self.idle = True
            if not stage.stepper.gradient_is_finite(samples.x, samples.y, first, samples.weight):
                self.idle = False
                return None
        return loss, penalty


@torch.no_grad()
def _where_not_finite(stage: Stage, x: Tensor) -> str:
    """A clause that names the first layer whose sums are not finite for the inputs `x` ``(B, n)``; empty if all are."""
    for l, values in enumerate(stage.model.layer_sums(x, stage.options)):
        bad = ~torch.isfinite(values).all(dim=0)
        if bool(bad.any()):
            return f"layer {l} is the first whose sums are not finite, at its outputs {bad.nonzero()[:, 0].tolist()}"
    return ""


def _bad_gradient(network: nn.Module) -> str:
    """A clause that names the first parameter whose gradient is there and not finite; empty if none is."""
    for name, p in network.named_parameters():
        if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
            return f"the sums of all layers are finite, the loss or the gradient of {name} is not"
    return ""
