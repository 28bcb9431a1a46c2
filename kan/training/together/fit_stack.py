"""A fit of several networks at once: the same steps as one after another.

It is for networks of numeric edges and sum nodes with elementwise base functions, without trained or other maps of the nodes. Adam,
Levenberg-Marquardt or, with the compiled kernels, L-BFGS train them on all samples for the mean squared error. A network
whose loss is no longer finite drops out.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kan.errors import level_of_caller
from kan.layers.computed import settled
from kan.network.network import Network
from kan.network.user_code.own_code import own_methods
from kan.training.callbacks import FitState
from kan.training.data.normalisation import relative_round_off, spreads_of_labels
from kan.training.data.samples import Samples
from kan.training.grid_schedule import LARGEST_RISE
from kan.training.history import History, Restarts
from kan.training.objectives.closed_form import ClosedForm
from kan.training.options import FitOptions
from kan.training.prepare import Prepared
from kan.training.together.compiled_stack import descends
from kan.training.together.method import BatchedMethod, workers
from kan.training.together.methods import METHODS
from kan.training.together.stack import SharedSamples, Stack

__all__ = ["StackFit", "can_be_stacked", "drawn"]

GRID_UPDATES = ("get_act", "update_grid", "update_grid_from_samples")
"""Methods that a subclass may replace to update grids in its own way."""


def can_be_stacked(network: Network, task: Prepared, options: FitOptions) -> bool:
    """Whether several networks like `network` can be trained as one computation with these data and options."""
    if not options.only_squares_of_all_samples or task.model.own_call or not isinstance(task.data.train, Samples):
        return False
    known = isinstance(options.opt, str) and options.opt in METHODS
    if options.opt == "LBFGS" and not descends(network, len(task.data.train.x)):
        return False
    return known and _is_plain(network) and len(set(spreads_of_labels(task.model, task.labels))) == 1


def _is_plain(network: Network) -> bool:
    """Whether the network is of the kind that a `Stack` is made of."""
    if own_methods(network, *GRID_UPDATES) or any(own_methods(layer, *GRID_UPDATES[2:]) for layer in network.numeric_layers):
        return False
    form = ClosedForm.of(network)
    if form is None or any(p.symbolic or p.arities or p.trains_maps or p.below or p.above or not p.live for p in form.layers):
        return False
    layers = network.numeric_layers
    return all(layer.k > 0 and layer.has_knots and layer.coef.requires_grad and layer.scale_base.requires_grad for layer in layers)


@torch.no_grad()
def drawn(network: Network, seed: int) -> Network:
    """A network with the numeric edges of `seed`, and with the first grid and the untrained numeric parameters of `network`."""
    new = network.replace(seed=seed)
    for l, (ours, theirs) in enumerate(zip(new.numeric_layers, network.numeric_layers, strict=True)):
        kept = ["grid"] if l == 0 else []
        kept += [name for name in ("coef", "scale_base", "scale_sp") if not getattr(theirs, name).requires_grad]
        for name in kept:
            getattr(ours, name).copy_(settled(theirs, name))
    return new


@dataclass
class BestStates:
    """Each network's best state so far.

    Attributes:
        values: the lowest losses, ``(S,)``.
        states: the parameters and knots at these losses, as `Stack.save` gives them; None if they are not kept.
        step: the last step that led to a lower loss than all networks had before.
    """

    values: Tensor
    states: list[Tensor] | None = None
    step: int = -1

    def look(self, step: int, watched: Tensor, stack: Stack, keeps: bool) -> None:
        """Compare the losses ``(S,)`` after a step with the lowest so far, and keep the states of networks that improved."""
        if bool(watched.min() < self.values.min()):
            self.step = step
        better = watched < self.values
        self.values = torch.where(better, watched, self.values)
        if keeps:
            now = stack.save()
            if self.states is None:
                self.states = now
            for kept, values in zip(self.states, now, strict=True):
                kept[better] = values[better]


class SharedData(NamedTuple):
    """The samples on the present first knots, which all networks share."""

    train: SharedSamples
    test: SharedSamples | None
    validation: SharedSamples | None


class StackFit:
    """One fit of all networks at once.

    Args:
        network: the first network. At the end it has the parameters of the best one.
        task: the model and its data.
        options: how the networks are trained.
        seeds: the seeds of all networks.
    """

    def __init__(self, network: Network, task: Prepared, options: FitOptions, seeds: Sequence[int]) -> None:
        self.network, self.task, self.options, self.seeds = network, task, options, seeds
        names = ["train_loss", "test_loss", "reg", *(["val_loss"] if task.data.validation is not None else [])]
        self.watched = "test_loss" if task.data.validation is None else "val_loss"
        self.history, self.shown = History(names), History(names)  # of the best in the end, of the best so far
        self.rows: list[dict[str, Tensor]] = []
        self.dead: set[int] = set()
        self.unit = spreads_of_labels(task.model, task.labels)[0]  # of the reported losses
        self.round_off = relative_round_off(task.model, task.data.first.y, task.labels)

    def run(self) -> History:
        """Train, give the network the best parameters, and return the history of the best."""
        kind, history = METHODS[self.options.opt], self.history
        with torch.no_grad():
            networks = [self.network, *(drawn(self.network, seed) for seed in self.seeds[1:])]
            with workers() as mapper, self._bar() as bar:
                stack = Stack(networks, kind.dtype(self.network))
                method = kind(stack, self.options.lr, mapper)
                best = BestStates(torch.full((stack.count,), math.inf, dtype=stack.dtype, device=stack.masks[0].device))
                self.after = stack.save()  # as the last complete step left the networks
                try:
                    history.stopped = self._steps(method, best, bar)
                except KeyboardInterrupt:
                    history.stopped = "interrupted"
            if history.stopped == "interrupted":
                method.reset(range(stack.count))  # the step that was interrupted may have changed what it learned
            self._take_best_(method, best)
        self._warn(stack.count)
        return history

    def _steps(self, method: BatchedMethod, best: BestStates, bar: FitState | None) -> str:
        """Take steps; returns why they ended."""
        stack, options = method.stack, self.options
        converged: set[int] = set()
        data: SharedData | None = None
        for step in range(options.steps):
            if options.grid_schedule is not None and options.grid_schedule.due(step):
                converged.difference_update(self._move_grids(method))
                data = None
            data = data or self._shared(stack)
            active = [s for s in range(stack.count) if s not in self.dead | converged]
            row = self._row(method, method.step(data.train, active), data)
            watched = self._bury_(stack, row)
            if len(self.dead) == stack.count:
                return "not finite"
            converged |= {int(s) for s in ((row["train_loss"] / self.unit) ** 2 <= self.round_off).nonzero()[:, 0]}
            best.look(step, watched, stack, options.watches_best)
            self.after = stack.save()
            self.rows.append(row)
            if bar is not None:
                self._show(bar, row, watched)
            if options.patience is not None and step - best.step >= options.patience:
                return "patience"
            if options.time_limit is not None and time.monotonic() - self.task.begun >= options.time_limit:
                return "time limit"
        return "steps"

    def _shared(self, stack: Stack) -> SharedData:
        data = self.task.data
        test, validation = (None if part is None else stack.shared(part) for part in (data.test, data.validation))
        return SharedData(stack.shared(data.first), test, validation)

    def _move_grids(self, method: BatchedMethod) -> list[int]:
        """Update the grids of all networks, and undo the update of those whose loss rises by too much; returns the others.

        The first layer's grid, which all networks share, stays updated.
        """
        stack, samples = method.stack, self.task.data.first
        before, saved = method.losses(stack.shared(samples)), stack.save()
        stack.move_grids_(samples.x, method.mapper)
        undone = stack.undo_(saved, method.losses(stack.shared(samples)) > (1 + LARGEST_RISE) * before)
        moved = [s for s, stays in enumerate(undone.tolist()) if not stays]
        method.reset(moved)
        return moved

    def _row(self, method: BatchedMethod, train: Tensor, data: SharedData) -> dict[str, Tensor]:
        """The numbers of a step, as `Measure.row` has them for one network."""
        held_out = None if data.validation is None else method.losses(data.validation)
        seen = method.losses(data.test) if data.test is not None else train if held_out is None else held_out
        row = {"train_loss": train.sqrt() * self.unit, "test_loss": seen.sqrt() * self.unit, "reg": torch.zeros_like(train)}
        return row if held_out is None else {**row, "val_loss": held_out.sqrt() * self.unit}

    def _bury_(self, stack: Stack, row: dict[str, Tensor]) -> Tensor:
        """Drop the networks that have become not finite; returns the watched losses ``(S,)``, infinite for these."""
        watched = row[self.watched]
        bad = ~(torch.isfinite(row["train_loss"]) & torch.isfinite(watched))
        self.dead |= {int(s) for s in bad.nonzero()[:, 0]}
        dead = sorted(self.dead)
        stack.bury_(dead)
        return watched.index_fill(0, torch.tensor(dead, dtype=torch.long, device=watched.device), math.inf)

    @contextmanager
    def _bar(self) -> Iterator[FitState | None]:
        """The state that the progress bar is notified of; None without a bar."""
        if self.task.bar is None:
            yield None
            return
        state = FitState(self.network, self.shown, self.options.steps)
        self.task.bar.on_fit_start(state)
        try:
            yield state
        finally:
            self.task.bar.on_fit_end(state)

    def _show(self, bar: FitState, row: dict[str, Tensor], watched: Tensor) -> None:
        """Let the progress bar show the best network so far."""
        s = int(watched.argmin())
        self.shown.append({name: float(values[s]) for name, values in row.items()})
        bar.step += 1
        assert self.task.bar is not None
        self.task.bar.on_step(bar)

    def _take_best_(self, method: BatchedMethod, best: BestStates) -> None:
        """Give the network the parameters of the best, and the history its numbers."""
        stack, history, keeps_best = method.stack, self.history, self.options.watches_best
        last = best.values if keeps_best or not self.rows else self.rows[-1][self.watched]
        losses = [math.inf if s in self.dead or not self.rows else float(value) for s, value in enumerate(last)]
        s = min(range(stack.count), key=losses.__getitem__)
        history.restarts = Restarts(list(self.seeds), losses, s)
        if math.isfinite(losses[s]):
            for row in self.rows:
                history.append({name: float(values[s]) for name, values in row.items()})
            watched = history[self.watched]
            history.best_step = min(range(len(watched)), key=watched.__getitem__)
            history.restored = keeps_best and history.best_step != len(watched) - 1
            if history.restored:
                method.reset([s])
            stack.into_(self.network, s, best.states if keeps_best and best.states is not None else self.after)
        trained = self.task.model.trainable_parameters()
        history.optimizer_state = {
            "opt": self.options.opt, "shapes": [list(p.shape) for p in trained], "method": method.state_of(s), "batches": {}
        }  # fmt: skip
        self.network.remember_input(self.task.data.first.x)

    def _warn(self, count: int) -> None:
        """Warn if the fit was interrupted, or ended because no network had a finite loss."""
        history = self.history
        if history.stopped == "interrupted":
            left = f"the best of {count} as step {history.steps - 1} left it" if history.steps else "as it was before the first step"
            warnings.warn(f"fit: interrupted in step {len(self.rows)}; the network is {left}.", stacklevel=level_of_caller())
        if history.stopped == "not finite":
            warnings.warn(
                f"fit: after step {len(self.rows)} none of the {count} networks has an objective that is finite. The fit ends here, "
                f"the network is as it was before the first step. Try a smaller lr, or scale the data.",
                stacklevel=level_of_caller(),
            )
