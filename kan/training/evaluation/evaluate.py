"""Loss and metrics of a network on data that it has not been trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kan.analysis.predictions import outputs_of
from kan.network.network import Network
from kan.training.data.classes import Target, loss_of_link, target_of
from kan.training.data.dataset import check_test_data
from kan.training.evaluation.metrics import named_metrics, number
from kan.training.models.of_network import TrainableNetwork

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    network: Network, dataset: Any, loss_fn: Callable[[Tensor, Tensor], Tensor] | None = None, metrics: Sequence[Any] | None = None
) -> dict[str, np.float64]:
    """Loss and metrics of `network` on test data; it stays as it is, with its last input.

    Args:
        network: a network; it is a classifier if it has `class_names`.
        dataset: a dictionary with ``test_input`` and ``test_label``, or these two as a pair ``(X, y)``, or a loader, as `fit` takes them.
        loss_fn: function of prediction and label. When not given, it is the cross-entropy for a classifier; for other networks it is the
            mean squared error, and its root is returned.
        metrics: functions of prediction and label, or names in `kan.training.evaluation.metrics`. When not given, ``["accuracy"]`` for a
            classifier and none for other networks.

    Returns:
        ``test_loss`` and the metrics, such as ``test_accuracy``.

    Raises:
        TypeError, ValueError: for data that do not fit.

    >>> network = Network([1, 1])
    >>> evaluate(network, (torch.zeros(3, 1), network(torch.zeros(3, 1)).detach()))["test_loss"].item()
    0.0
    """
    loss = loss_of_link(network.class_link) if loss_fn is None else loss_fn
    chosen = metrics if metrics is not None else ["accuracy"] if network.class_link is not None and loss_fn is None else []
    named = named_metrics(chosen, target_of(loss) is Target.NUMBERS)
    samples = check_test_data(TrainableNetwork(network), dataset, loss)
    output = outputs_of(network, samples.x)
    y = samples.y.to(output.dtype) if samples.y.is_floating_point() else samples.y
    value = float((nn.functional.mse_loss if loss is None else loss)(output, y))
    plain = {name: number(name, metric()) for name, metric in named.plain.items()}
    found = {"test_loss": math.sqrt(value) if loss is None else value, **plain, **named.of("test", output, y)}
    return {name: np.float64(one) for name, one in found.items()}
