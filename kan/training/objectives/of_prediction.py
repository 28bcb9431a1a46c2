"""The objective where the prediction is a function of the model instead of its output: ``loss(pred(network, x), y) + lamb R``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.objectives.base import TrainingObjective

__all__ = ["PredictionObjective"]


@dataclass(frozen=True)
class PredictionObjective(TrainingObjective):
    """An objective with another prediction; `of` makes one.

    Attributes:
        network, loss_fn, lamb: those of `inner`, see `TrainingObjective`.
        inner: the objective of the model's output, whose penalty is kept.
        pred_fn: function of the model and inputs ``(B, n)``. It may differentiate the model, for which gradients are always enabled.
    """

    inner: TrainingObjective
    pred_fn: Callable[[Any, Tensor], Tensor]

    of_output: ClassVar[bool] = False

    @classmethod
    def of(cls, inner: TrainingObjective, pred_fn: Callable[[Any, Tensor], Tensor]) -> PredictionObjective:
        """The objective `inner` with the prediction `pred_fn`."""
        return cls(inner.network, inner.loss_fn, inner.lamb, inner, pred_fn)

    @cached_property
    def _penalty(self) -> TrainingObjective:
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

    def predict(self, x: Tensor) -> Tensor:
        """The prediction; it has a graph if gradients are enabled."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            prediction = self.pred_fn(self.network, x)
        return prediction if wanted else prediction.detach()

    @torch.no_grad()
    def predict_in_parts(self, x: Tensor) -> Tensor:
        """As `predict`, for all samples at once: a prediction need not have one row for each of them."""
        return self.predict(x)

    @property
    def width(self) -> int:
        """Number of features per sample in the widest layer."""
        return self.inner.width

    def rounded(self, x: Tensor | None = None) -> PredictionObjective:
        """This objective with the rounded penalty of `inner`."""
        return replace(self, inner=self.inner.rounded(x))


def _nothing(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    return (output * 0).sum()
