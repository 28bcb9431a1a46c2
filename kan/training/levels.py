"""Multilevel training: coarse grids first, and finer grids from there.

Each level begins where the last one ended: knot insertion changes no function (`kan.network.insertion`), so that the first step starts from
the error of the coarse grid. The state of the optimiser is carried over where it keeps its meaning. Levenberg-Marquardt assumes that
corrections have variances in proportion to the error of the coarse grid. Moments of parameters that keep their shape are kept. The
curvature of L-BFGS is discarded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kan.training.history import History
from kan.training.models.trainable import Trainable
from kan.training.one_network import train
from kan.training.options import FitOptions
from kan.training.prepare import Prepared
from kan.training.restarts import train_restarts
from kan.training.resume import refined_state
from kan.training.snapshot import undone_on_error, way_back

__all__ = ["check_levels", "train_levels"]


def check_levels(model: Trainable, options: FitOptions) -> None:
    """Raise an error if the model cannot be trained with the numbers of grid intervals in `options`.

    Raises:
        TypeError: for grids of a model that has none.
        ValueError: for numbers that are no positive integers, or that do not rise.
    """
    grids = options.grids
    for intervals in grids:
        model.check_intervals(intervals)
    if any(finer <= coarser for coarser, finer in zip(grids[:-1], grids[1:], strict=True)):
        raise ValueError(f"grids must rise from level to level, as in [3, 5, 10, 20]; got {list(grids)}.")


def train_levels(
    task: Prepared, options: FitOptions, back: Callable[[], None], history: History | None, previous: Mapping[str, Any] | None
) -> History:
    """Train with one number of grid intervals after another, or on the grids that there are if `options` has no numbers.

    All steps are taken with every number. Restarts, grid updates and a resumed state belong to the first level.

    Args:
        task: the model and its data.
        options: how it is trained.
        back: makes the model what it was before the fit, if an error or an interrupt comes before the first step is complete.
        history: the history of another fit, which is continued.
        previous: state of the last fit, see `kan.training.one_network.train`.

    Returns:
        The history of all levels, one after another. An end by patience is the end of its level only.
    """
    if not options.grids:
        return train_restarts(task, options, back, history, previous)
    later = replace(options, restarts=1, grid_schedule=None, resume=None)
    for level, intervals in enumerate(options.grids):
        if task.bar is not None:
            task.bar.to_come, task.bar.label = len(options.grids) - 1 - level, f"grid {intervals} "
        undo = back if level == 0 else way_back(task.model.network)
        with undone_on_error(undo):
            if level == 0:
                task.model.take_input_(task.data.first.x)
            task.model.insert_knots_(intervals)
        if level == 0:
            history = train_restarts(task, options, back, history, previous)
        else:
            assert history is not None
            history = train(task, later, undo, history=history, previous=refined_state(history.optimizer_state))
        if history.stopped in ("time limit", "callback", "interrupted", "not finite"):
            break
    assert history is not None
    history.seconds = time.monotonic() - task.begun
    return history
