"""The kinds of models that can be trained, each with its implementation of the contract."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from kan.network.network import Network
from kan.network.perceptron import Perceptron
from kan.training.models.of_network import TrainableNetwork
from kan.training.models.of_perceptron import TrainablePerceptron
from kan.training.models.trainable import Trainable

__all__ = ["trainable"]


@singledispatch
def trainable(network: Any) -> Trainable:
    """The implementation of `Trainable` for the model `network`; another kind of model registers its own implementation here.

    Raises:
        TypeError: for something that cannot be trained.
    """
    raise TypeError(f"a KAN or an MLP can be trained; got {type(network).__name__}.")


trainable.register(Network, TrainableNetwork)
trainable.register(Perceptron, TrainablePerceptron)
