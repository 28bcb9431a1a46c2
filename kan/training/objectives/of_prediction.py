"""The objective where the prediction is not the network's output but a function of the network: ``loss(pred(network, x), y) + lamb R``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.data.samples import Model
from kan.training.objectives.of_network import Objective
from kan.training.objectives.of_perceptron import PerceptronObjective

__all__ = ["PredictionObjective"]


@dataclass(frozen=True)
class PredictionObjective:
    """An objective with another prediction.

    Attributes:
        inner: the objective of the network's output.
        pred_fn: of network and inputs ``(B, n)``; may differentiate the network, for which gradients are always enabled.
    """

    inner: Objective | PerceptronObjective
    pred_fn: Callable[[Any, Tensor], Tensor]

    @property
    def network(self) -> Model:
        """The network."""
        return self.inner.network

    @property
    def lamb(self) -> float:
        """Weight of the penalty."""
        return self.inner.lamb

    @cached_property
    def _penalty(self) -> Objective | PerceptronObjective:
        return replace(self.inner, loss_fn=_nothing)

    def __call__(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each."""
        loss = self.loss(self.predict(x), y, weight)
        if self.lamb == 0:
            return loss, loss, loss.new_zeros(())
        weighed, _, penalty = self._penalty(x, y, first)
        return loss + weighed, loss, penalty

    def loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, 0-dim."""
        return self.inner.loss(output, y, weight)

    def predict(self, x: Tensor) -> Tensor:
        """The prediction."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            prediction = self.pred_fn(self.network, x)
        return prediction if wanted else prediction.detach()

    def with_gradient(self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the network's parameters."""
        for p in self.network.parameters():
            p.grad = None
        total = self(x, y, first, weight)[0]
        total.backward()
        return total.detach()


def _nothing(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    return (output * 0).sum()
