"""The loss of a fit, which the network keeps so that it can be evaluated again after changes of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.network.fit_loss import FitLoss
from kan.network.network import Network
from kan.training.objectives.base import TrainingObjective

__all__ = ["TrainingLoss"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingLoss(FitLoss):
    """The loss of `fit`, without its penalty.

    Attributes:
        x, inputs, outputs, squares, penalised, reference: see `FitLoss`.
        y, weight: labels and weights of the samples, see `Samples`.
        objective_of: makes the objective without penalty for a network.
        mapped: whether the labels are in the network's own units, see `kan.training.data.normalisation`.
        unit: unit in which the labels are stored, in the user's units; reported losses are multiplied by it.
    """

    y: Tensor
    weight: Tensor | None
    objective_of: Callable[[Network], TrainingObjective]
    mapped: bool = False
    unit: float = 1.0

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        """The loss of `network` on the samples of the fit."""
        objective = self.objective_of(network)
        x = self.x.to(network.device)  # a network that maps units needs the original precision
        x = x.to(network.dtype) if network.applied("normalizer") is None else x
        with network.same_last_input():  # a prediction function of the user may change it
            output = objective.predict_in_parts(x)
        return float(objective.loss(output, *self._labels(network, slice(None))))

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor | None:
        """The loss for given outputs; None if the fit had a prediction function of its own."""
        objective = self.objective_of(network)
        if self.mapped:
            output = network.in_own_units("output_normalizer", output, network.dtype)
        return objective.loss(output, *self._labels(network, rows)) if objective.of_output else None

    def shown(self, loss: float) -> float:
        """The loss in the form in which the fit reports it, in the user's units."""
        return super().shown(loss) * self.unit

    def _labels(self, network: Network, rows: slice) -> tuple[Tensor, Tensor | None]:
        """Labels and weights of the samples `rows`, on the device of `network` and in its dtype; classes stay integers."""
        y, weight = self.y[rows].to(network.device), None if self.weight is None else self.weight[rows].to(network.device, network.dtype)
        return y.to(network.dtype) if y.is_floating_point() else y, weight
