"""Several networks from several seeds, of which the best is kept.

The first network is the network as it is. The others have its structure, masks, symbolic edges and first grid, and numeric edges that are
drawn from the seeds after its own. The best is the one with the lowest last loss of validation, test or training data, the first of these
that there is.

Networks that `kan.training.together.fit_stack` can train are trained together, in a third of the time for small networks on two cores. The
progress bar then shows the best network so far, and `patience` counts the steps without a lower loss of any network. All others, and fits
with metrics, callbacks or anything else that looks at a network while it is trained, are trained one after another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kan.layers.computed import put_
from kan.network.network import Network
from kan.training.history import History, Restarts
from kan.training.models.trainable import Trainable
from kan.training.one_network import train
from kan.training.options import FitOptions
from kan.training.prepare import Prepared
from kan.training.snapshot import restore_, snapshot, way_back
from kan.training.together.fit_stack import StackFit, can_be_stacked, drawn

__all__ = ["check_restarts", "train_restarts"]


def check_restarts(model: Trainable, options: FitOptions) -> None:
    """Raise ``TypeError`` if several networks are to be trained and the model cannot be drawn from another seed."""
    if (options.restarts or 1) > 1 and model.redrawable is None:
        raise TypeError(f"restarts are those of a KAN; got {type(model.network).__name__}.")


def train_restarts(
    task: Prepared, options: FitOptions, back: Callable[[], None], history: History | None, previous: Mapping[str, Any] | None
) -> History:
    """Train networks from the seeds ``seed, seed + 1, ...`` and give the model the parameters of the best, in place.

    Args:
        task: the model and its data. All networks share its time limit.
        options: how they are trained, and how many of them; see `kan.training.options.FitOptions`.
        back: makes the model what it was before the fit, if an error or an interrupt comes before the first step is complete.
        history, previous: of another fit, for a single network, see `kan.training.one_network.train`.

    Returns:
        The history of the best network. Its attribute ``restarts`` says how all of them ended.
    """
    network = task.model.redrawable
    if network is None or options.restarts is None or options.restarts == 1:
        return train(task, options, back, history=history, previous=previous)
    seeds = [network.seed + offset for offset in range(options.restarts)]
    if can_be_stacked(network, task, options):
        history = StackFit(network, task, options, seeds).run()
    else:
        history = _one_after_another(network, task, options, seeds, back)
    history.seconds = time.monotonic() - task.begun
    return history


def _one_after_another(
    network: Network, task: Prepared, options: FitOptions, seeds: Sequence[int], back: Callable[[], None]
) -> History:
    """Train each network in a fit of its own."""
    start, bar = snapshot(network), task.bar
    found: list[tuple[float, list[Tensor], History]] = []
    afterwards = 0 if bar is None else bar.to_come
    for index, seed in enumerate(seeds):
        if index > 0:
            if options.time_limit is not None and time.monotonic() - task.begun >= options.time_limit:
                break
            restore_(network, start)
            _draw_(network, seed)
        if bar is not None:
            bar.to_come, bar.label = afterwards + len(seeds) - 1 - index, f"seed {seed} "
        history = train(task, options, back if index == 0 else way_back(network))
        found.append((_last_loss(history), snapshot(network), history))
        if history.stopped == "interrupted":
            break
    losses = [loss for loss, _, _ in found]
    best = min(range(len(found)), key=losses.__getitem__)
    restore_(network, found[best][1])
    history = found[best][2]
    history.restarts = Restarts(list(seeds), losses + [math.inf] * (len(seeds) - len(losses)), best)
    if found[-1][2].stopped == "interrupted":
        history.stopped = "interrupted"
    return history


@torch.no_grad()
def _draw_(network: Network, seed: int) -> None:
    """Give `network` the numeric edges of another seed; symbolic edges and affine maps stay."""
    new = drawn(network, seed)
    for ours, theirs in zip(network.numeric_layers, new.numeric_layers, strict=True):
        for name in ("grid", "coef", "scale_base", "scale_sp"):
            put_(ours, name, getattr(theirs, name))


def _last_loss(history: History) -> float:
    """The loss by which networks are compared; infinite for a network without a finite one."""
    values = history["val_loss" if "val_loss" in history else "test_loss"]
    loss = values[history.best_step if history.restored and history.best_step is not None else -1] if values else math.inf
    return loss if math.isfinite(loss) else math.inf
