"""Predictions for new samples, which are numbers, or the names and probabilities of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kan.network.network import Network

__all__ = ["outputs_of", "predict", "probabilities"]

ROWS = 2**16
"""Number of rows that are evaluated at a time, which bounds the memory that a prediction takes."""


def predict(network: Network, x: Any) -> Tensor | np.ndarray:
    """Predictions for samples: the names of classes if the network is a classifier, and its outputs otherwise.

    The network keeps its last input.

    Args:
        network: a network, which is a classifier if it has `class_names`.
        x: samples, ``(N, inputs)``, in any form that the network can be called with.

    Returns:
        The outputs, ``(N, outputs)``. For a classifier, the name of the class with the largest output, ``(N,)``. For a classifier with one
        output, the first of two names if it is negative and the second if it is positive. If each of several outputs decides between two
        classes, the names are ``(N, outputs)``. The result is a tensor if `x` is one and the names are not text, and an array otherwise.

    >>> network = Network([1, 2])
    >>> network.class_names = ["low", "high"]
    >>> predict(network, [[0.5]]).shape
    (1,)
    """
    output = outputs_of(network, x)
    names, link = network.class_names, network.class_link
    if names is None:
        return output if isinstance(x, Tensor) else output.cpu().numpy()
    codes = output.argmax(1) if link == "softmax" else (output > 0).long()
    codes = codes[:, 0] if link == "sigmoid" and codes.shape[1] == 1 else codes
    if isinstance(x, Tensor) and not any(isinstance(name, str) for name in names):
        return torch.tensor(names, device=codes.device)[codes]
    array: np.ndarray = np.array(names)[codes.cpu().numpy()]
    return array


def probabilities(network: Network, x: Any) -> Tensor | np.ndarray:
    """Probabilities of the classes for samples, in the order of `class_names`.

    Args:
        network: a classifier.
        x: samples, ``(N, inputs)``, as for `predict`.

    Returns:
        The probabilities, ``(N, classes)``. If each of several outputs decides between two classes, the probabilities of the second class,
        ``(N, outputs)``. The result is a tensor if `x` is one, and an array otherwise.

    Raises:
        ValueError: for a network that is not a classifier.
    """
    if network.class_names is None:
        raise ValueError(
            "predict_proba gives the probabilities of classes, and the model has no classes. Fit it with a loss of classes, such as "
            "torch.nn.CrossEntropyLoss(), or set model.class_names."
        )
    output = outputs_of(network, x)
    if network.class_link == "softmax":
        found = output.softmax(1)
    else:
        found = torch.sigmoid(output)
        found = torch.cat([torch.sigmoid(-output), found], 1) if found.shape[1] == 1 else found
    return found if isinstance(x, Tensor) else found.cpu().numpy()


@torch.no_grad()
def outputs_of(network: Network, x: Any) -> Tensor:
    """The outputs ``(N, outputs)`` for samples, evaluated some rows at a time; the network keeps its last input."""
    with network.same_last_input():
        return torch.cat([network(part) for part in network.as_input(x).split(ROWS)])
