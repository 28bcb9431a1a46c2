r"""The objective of a perceptron, ``loss + lamb R``; its penalty ``R`` is taken of scores ``V``.

For matrices ``V`` the penalty is that of `kan.training.objectives.sparsity`. For vectors, with ``p = V / (sum V + 1)``, it is

    ``R = sum_V [lamb_l1 sum V - lamb_entropy sum p log2(p + 1e-4)]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.analysis.perceptron import attribute_perceptron
from kan.errors import unknown_name
from kan.network.perceptron import Perceptron, PerceptronTrace
from kan.network.trace import FirstLayer
from kan.training.objectives.base import TrainingObjective
from kan.training.objectives.sparsity import FLOOR, sparsity

__all__ = ["PERCEPTRON_METRICS", "PerceptronObjective", "PerceptronPenalty", "penalise"]

PERCEPTRON_METRICS: dict[str, Callable[[PerceptronTrace], list[Tensor]]] = {
    "w": lambda trace: trace.weights,
    "act": lambda trace: trace.wa_forward,
    "fa": lambda trace: attribute_perceptron(trace).edge_scores,
    "a": lambda trace: trace.acts_scale,
}
"""The scores that a penalty can be taken of, by name: weights, weights times the deviations of their inputs, attributions, and deviations
of the nodes."""


@dataclass(frozen=True)
class PerceptronPenalty:
    """The weights in ``R``, and the name of the scores that it is taken of."""

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
class PerceptronObjective(TrainingObjective):
    """``loss(network(x), y) + lamb R``.

    Attributes:
        network, loss_fn, lamb: see `TrainingObjective`.
        penalty: the definition of ``R``.
    """

    network: Perceptron
    penalty: PerceptronPenalty

    def __call__(
        self, x: Tensor, y: Tensor, first: FirstLayer | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, loss and penalty, 0-dim each."""
        trace = self.network.trace(x)
        loss = self.loss(trace.output, y, weight)
        if self.lamb == 0:
            return loss, loss, loss.new_zeros(())
        penalty = penalise(trace, self.penalty)
        return loss + self.lamb * penalty, loss, penalty

    def predict(self, x: Tensor) -> Tensor:
        """The perceptron's output."""
        return self.network.trace(x).output

    @property
    def width(self) -> int:
        """Number of nodes in the widest layer."""
        return max(self.network.width)
