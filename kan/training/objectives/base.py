r"""What a fit minimises: ``loss(prediction(x), y) + lamb R``, with the penalty ``R`` of the model.

`TrainingObjective` is the contract of an objective, and holds what all objectives have in common. The objective of a KAN is in
`kan.training.objectives.of_network`, that of a perceptron in `kan.training.objectives.of_perceptron`, and that of a prediction which is
not the model's own output in `kan.training.objectives.of_prediction`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from kan.network.network import Network
from kan.network.perceptron import Perceptron
from kan.network.trace import FirstLayer

__all__ = ["Model", "TrainingObjective"]

Model: TypeAlias = Network | Perceptron
"""The models that can be trained."""

FEATURES_PER_PASS = 2**24
"""Largest number of features of a layer that one evaluation without a graph computes at a time. It bounds the memory that validation and
test data take."""


@dataclass(frozen=True)
class TrainingObjective(ABC):
    """A loss and a penalty as a function of the model's parameters.

    Attributes:
        network: the model.
        loss_fn: function of prediction and label, and of the samples' weights if there are any.
        lamb: weight of the penalty, which is not computed if this is 0.
    """

    network: Model
    loss_fn: Callable[..., Tensor]
    lamb: float

    of_output: ClassVar[bool] = True
    """Whether predictions are the model's own outputs, with one row for each sample."""

    @abstractmethod
    def __call__(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each.

        Args:
            x, y: the samples.
            first: the first layer's features for this `x`, if they are known; of use to KANs only.
            weight: how much each sample counts, ``(B,)``; see `loss`.
        """

    @abstractmethod
    def predict(self, x: Tensor) -> Tensor:
        """The prediction for `x` ``(B, n)`` that is compared with the labels."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of features per sample in the widest layer."""

    @property
    def squares(self) -> bool:
        """Whether the loss is the mean squared error."""
        return self.loss_fn is nn.functional.mse_loss

    def loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, 0-dim: the weighted mean of the squared errors, or ``loss_fn(output, y, weight)``; without weights as it is."""
        if weight is None:
            return self.loss_fn(output, y)
        if self.squares:
            return weight @ (output - y).square().mean(1) / weight.sum()
        return self.loss_fn(output, y, weight)

    def reads_features(self, x: Tensor) -> bool:
        """Whether an evaluation at `x` is faster if it is given the first layer's features."""
        return True

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the model's parameters."""
        for p in self.network.parameters():
            p.grad = None
        total = self(x, y, first, weight)[0]
        total.backward()
        return total.detach()

    @torch.no_grad()
    def predict_in_parts(self, x: Tensor) -> Tensor:
        """As `predict`, without a graph, and for some samples at a time, so that memory is bounded."""
        count = max(FEATURES_PER_PASS // self.width, 1)
        return self.predict(x) if len(x) <= count else torch.cat([self.predict(part) for part in x.split(count)])

    def in_user_units(self, values: Tensor) -> Tensor:
        """Predictions, or labels in the same units, in the units of the user's labels."""
        return values

    def rounded(self, x: Tensor | None = None) -> TrainingObjective:
        """The objective without its corners, which is what an optimiser minimises.

        Args:
            x: inputs ``(B, n)`` on which the size of the rounding is chosen; its default size when not given.
        """
        return self
