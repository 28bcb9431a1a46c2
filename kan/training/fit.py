"""`fit`: trains a model in place, on one or several grids, and one network or the best of several."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, nullcontext
from typing import Any

from kan.training.history import History
from kan.training.levels import check_levels, train_levels
from kan.training.models.kinds import trainable
from kan.training.objectives.base import Model
from kan.training.options import FitOptions
from kan.training.prepare import prepare
from kan.training.processes import warn_of_other_processes
from kan.training.restarts import check_restarts
from kan.training.snapshot import undone_on_error, way_back

__all__ = ["fit"]

DEFAULTS = FitOptions()


def fit(
    network: Model,
    dataset: Any,
    options: FitOptions = DEFAULTS,
    *,
    history: History | None = None,
    previous: Mapping[str, Any] | None = None,
) -> History:
    """Train `network` in place.

    Args:
        network: the model. Where a KAN has no names for inputs or outputs, it takes those of the columns if the training data are pandas
            frames with different strings as names. A new KAN gets maps of columns that are out of proportion with it, see
            `kan.training.data.normalisation`.
        dataset: in one of the forms of `kan.training.data.dataset`.
        options: how it is trained.
        history: the history of another fit, which is continued.
        previous: state of the last fit of this network, or of the network that it is a refinement of. Refined grids stay as they are, see
            `kan.training.resume`, and what the optimiser knows is carried over where it still means the same.

    Returns:
        The history: ``train_loss``, ``test_loss``, ``reg``, with validation data ``val_loss``, and the metrics, one number per step, at the
        parameters that the step ended with. Losses are roots of the mean squared error in the units of the labels, or the values of
        `loss_fn` as they are. The `optimizer_state` of the history is what the option `resume` takes. After an interrupt before the first
        step is complete the network is what it was, grids, labels and last input included.

    Raises:
        TypeError, ValueError: for bad input, before anything is changed.

    Example:
        >>> import torch
        >>> from kan.network.network import Network
        >>> x = torch.linspace(-1, 1, 50)[:, None]
        >>> history = fit(Network([1, 1]), (x, x**3), FitOptions(opt="LM", steps=20, progress=False))
        >>> bool(history["train_loss"][-1] < 1e-5)
        True
    """
    begun = time.monotonic()
    model = trainable(network)
    model.check_parts()
    check_restarts(model, options)
    check_levels(model, options)
    back = way_back(network)
    with undone_on_error(back):
        task = prepare(model, dataset, options, begun)
        warn_of_other_processes("fit")
    with nullcontext() if task.bar is None else closing(task.bar):
        history = train_levels(task, options, back, history, previous)
    if history.left_as_it_was:
        back()
    return history
