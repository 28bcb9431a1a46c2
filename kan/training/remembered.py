"""What a network remembers of a fit: its loss, to be evaluated again once the network has been changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.network.fit_loss import FitLoss
from kan.network.network import Network
from kan.training.measure import Measure
from kan.training.objectives import AnyObjective
from kan.training.prediction import PredictionObjective

__all__ = ["TrainingLoss"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingLoss(FitLoss):
    """The loss of `fit`.

    Attributes:
        x, outputs, squares, penalised, reference: see `FitLoss`.
        y, weight: labels and weights of the samples, see `Samples`.
        objective_of: the objective without penalty, for a network.
        mapped: whether the labels are in the network's own units, see `kan.training.units`.
        unit: of the labels, in the user's units.
    """

    y: Tensor
    weight: Tensor | None
    objective_of: Callable[[Network], AnyObjective]
    mapped: bool = False
    unit: float = 1.0

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        """The loss of `network`."""
        objective = self.objective_of(network)
        seen = network.last_input  # which a prediction of the user's may change
        x = self.x.to(network.device)  # in the precision that it came in, for a network that maps units itself
        x = x.to(network.dtype) if network.applied("normalizer") is None else x
        output = Measure(objective, None, None, float, {}).predicted(x)
        network.last_input = seen
        return float(objective.loss(output, *self._labels(network, slice(None))))

    def of_output(self, network: Network, output: Tensor, rows: slice) -> Tensor | None:
        """The loss of an output; None where the fit had a prediction of another kind."""
        objective = self.objective_of(network)
        if self.mapped:
            output = network.in_own_units("output_normalizer", output, network.dtype)
        return None if isinstance(objective, PredictionObjective) else objective.loss(output, *self._labels(network, rows))

    def shown(self, loss: float) -> float:
        """What the fit reports of a loss, in the user's units."""
        return super().shown(loss) * self.unit

    def _labels(self, network: Network, rows: slice) -> tuple[Tensor, Tensor | None]:
        """Labels and weights of some samples where `network` is, in its dtype; classes stay integers."""
        y, weight = self.y[rows].to(network.device), None if self.weight is None else self.weight[rows].to(network.device, network.dtype)
        return y.to(network.dtype) if y.is_floating_point() else y, weight
