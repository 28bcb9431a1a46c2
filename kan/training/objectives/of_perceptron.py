r"""The objective of a perceptron: ``loss + lamb R``, as `kan.training.objectives.of_network` has it for KANs.

For matrices ``V`` the penalty ``R`` is that of `kan.training.objectives.sparsity`; for vectors, with ``p = V / (sum V + 1)``,

    ``R = sum_V [lamb_l1 sum V - lamb_entropy sum p log2(p + 1e-4)]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kan.analysis.perceptron import attribute_perceptron
from kan.errors import unknown_name
from kan.network.perceptron import Perceptron, PerceptronTrace
from kan.training.objectives.sparsity import FLOOR, sparsity

__all__ = ["PERCEPTRON_METRICS", "PerceptronObjective", "PerceptronPenalty", "penalise"]

PERCEPTRON_METRICS: dict[str, Callable[[PerceptronTrace], list[Tensor]]] = {
    "w": lambda trace: trace.weights,
    "act": lambda trace: trace.wa_forward,
    "fa": lambda trace: attribute_perceptron(trace).edge_scores,
    "a": lambda trace: trace.acts_scale,
}
"""What a penalty can be taken of, by name: weights, weights times the deviations of their inputs, attributions, deviations of nodes."""


@dataclass(frozen=True)
class PerceptronPenalty:
    """The weights in ``R`` and the metric it is taken of."""

    metric: str = "w"
    lamb_l1: float = 1.0
    lamb_entropy: float = 2.0

    def __post_init__(self) -> None:
        if self.metric not in PERCEPTRON_METRICS:
            raise unknown_name("reg_metric", self.metric, PERCEPTRON_METRICS)


def penalise(trace: PerceptronTrace, penalty: PerceptronPenalty) -> Tensor:
    """``R`` on the data of `trace`, 0-dim."""
    scores = [score.abs() for score in PERCEPTRON_METRICS[penalty.metric](trace)]
    if scores[0].dim() == 2:
        return sparsity(scores, penalty.lamb_l1, penalty.lamb_entropy)
    total = scores[0].new_zeros(())
    for score in scores:
        share = score / (score.sum() + 1)
        total = total + penalty.lamb_l1 * score.sum() - penalty.lamb_entropy * (share * torch.log2(share + FLOOR)).sum()
    return total


@dataclass(frozen=True)
class PerceptronObjective:
    """``loss(network(x), y) + lamb R``.

    Attributes:
        network: the perceptron.
        loss_fn: of prediction and label, and of the samples' weights if there are any.
        lamb: weight of the penalty; with 0 the penalty is not computed.
        penalty: its definition.
    """

    network: Perceptron
    loss_fn: Callable[..., Tensor]
    lamb: float
    penalty: PerceptronPenalty

    def __call__(self, x: Tensor, y: Tensor, first: object = None, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each.

        Args:
            x, y: the samples.
            first: of use to KANs only.
            weight: how much each sample counts, ``(B,)``; see `loss`.
        """
        trace = self.network.trace(x)
        loss = self.loss(trace.output, y, weight)
        if self.lamb == 0:
            return loss, loss, loss.new_zeros(())
        penalty = penalise(trace, self.penalty)
        return loss + self.lamb * penalty, loss, penalty

    def loss(self, output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, 0-dim: the weighted mean of the squared errors, or ``loss_fn(output, y, weight)``; without weights as it is."""
        if weight is None:
            return self.loss_fn(output, y)
        if self.loss_fn is nn.functional.mse_loss:
            return weight @ (output - y).square().mean(1) / weight.sum()
        return self.loss_fn(output, y, weight)

    def with_gradient(self, x: Tensor, y: Tensor, first: object = None, weight: Tensor | None = None) -> Tensor:
        """The objective, 0-dim; its gradient replaces the ``.grad`` of the parameters."""
        self.network.zero_grad()
        total = self(x, y, first, weight)[0]
        total.backward()
        return total.detach()

    def predict(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.network.trace(x).output
