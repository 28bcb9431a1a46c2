"""Multilevel training: coarse grids first, finer ones from there.

Each level begins where the last one ended, for knot insertion changes no function (`kan.network.insertion`), and its first step has the
error of the coarse grid to start from. What the optimiser knows is carried over where it still means the same: Levenberg-Marquardt takes
corrections to be about as large as the coarse grid's error was; moments of parameters whose shape has stayed go on; the curvature of
L-BFGS is forgotten.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from typing import Any

import torch

from kan.network.insertion import check_sizes, insert_knots_
from kan.network.network import Network
from kan.training.callbacks import ProgressBar
from kan.training.data.samples import Model
from kan.training.fit import fit
from kan.training.history import History
from kan.training.restarts import check_restarts, fit_restarts
from kan.training.resume import refined_state
from kan.training.snapshot import way_back

__all__ = ["fit_levels"]


def fit_levels(
    network: Model,
    dataset: Any,
    grids: Sequence[int],
    *,
    grid_schedule: Any = None,
    time_limit: float | None = None,
    restarts: int | None = None,
    **options: Any,
) -> History:
    """`fit` with one number of grid intervals after another, in place.

    Args:
        network: a KAN.
        dataset: see `fit`.
        grids: numbers of grid intervals; those of the network stay as they are if there are none. With every one all the steps are taken.
        grid_schedule: when the grids are updated on the first level; on the others knots stay where they are.
        time_limit: for all levels together.
        restarts: how many networks are trained on the first level, of which the best goes on; see `fit_restarts`.
        options: see `fit`.

    Returns:
        The history of all levels, one after another. An end by patience is the end of its level only. After an interrupt before the first
        step is complete the network is what it was, grids, labels and last input included.

    Raises:
        TypeError, ValueError: as `fit`; for grids of something else than a KAN, that are no positive integers, or that do not rise.
    """
    check_restarts(network, restarts, options)
    if isinstance(grids, str) or not isinstance(grids, Iterable):
        raise TypeError(f"grids must be a list of numbers of intervals, as [3, 5, 10, 20]; got {grids!r}.")
    grids = list(grids)  # an array has no truth value
    back = way_back(network)
    if not grids:
        history = fit_restarts(network, dataset, restarts, grid_schedule=grid_schedule, time_limit=time_limit, **options)
        if history.left_as_it_was:
            back()
        return history
    if not isinstance(network, Network):
        raise TypeError(f"grids are those of a KAN; {type(network).__name__} has none.")
    for intervals in grids:
        check_sizes(network, network.per_layer("each of grids", intervals))
    if any(finer <= coarser for coarser, finer in zip(grids[:-1], grids[1:], strict=True)):
        raise ValueError(f"grids must rise from level to level, as in [3, 5, 10, 20]; got {list(grids)}.")
    if isinstance(options.get("opt"), torch.optim.Optimizer):
        raise ValueError("grids give the network new parameters, which an optimiser that exists does not hold: pass its class or its name.")
    begun = time.monotonic()
    # Everything is checked before the first knot moves.
    fit(network, dataset, **{**options, "steps": 0, "progress": False, "callbacks": (), "on_step": None, "grid_schedule": grid_schedule})
    options["units_told"] = True
    shown = options.get("progress", True), options.get("log", 1), options.get("display_metrics")
    bar = options["progress"] = ProgressBar.of(*shown)  # one for all levels
    with nullcontext() if bar is None else closing(bar):
        for level, intervals in enumerate(grids):
            if bar is not None:
                bar.to_come, bar.label = len(grids) - 1 - level, f"grid {intervals} "
            if network.grid != intervals:
                undo = back if level == 0 else way_back(network)
                try:
                    insert_knots_(network, intervals, network.remembered_input())
                except BaseException:
                    undo()
                    raise
            left = None if time_limit is None else max(time_limit - (time.monotonic() - begun), math.ulp(0.0))
            if level == 0:
                history = fit_restarts(network, dataset, restarts, grid_schedule=grid_schedule, time_limit=left, **options)
            else:
                options["previous"] = refined_state(history.optimizer_state)
                history = fit(network, dataset, time_limit=left, history=history, **options)
            options.pop("resume", None)
            if history.stopped in ("time limit", "callback", "interrupted", "not finite"):
                break
    history.seconds = time.monotonic() - begun
    if history.left_as_it_was:
        back()
    return history
