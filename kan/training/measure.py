"""The numbers of one step: losses, penalty, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.batches import width_of
from kan.training.objectives import AnyObjective
from kan.training.prediction import PredictionObjective
from kan.training.samples import Samples

__all__ = ["Measure"]

CHUNK = 2**24
"""Largest number of features of a layer that one evaluation of validation or test data makes."""


@dataclass(frozen=True)
class Measure:
    """What is reported after a step.

    Attributes:
        objective: exact, without rounding.
        validation, test: samples that are looked at only.
        shown: of a loss, what is reported.
        metrics: functions without arguments, by name.
        spreads: units of the outputs in the user's, ``(outputs,)``, where these differ and the loss is the mean squared error. What is
            reported is computed from the errors in the user's units then.
    """

    objective: AnyObjective
    validation: Samples | None
    test: Samples | None
    shown: Callable[[float], float]
    metrics: Mapping[str, Callable[[], Any]]
    spreads: Tensor | None = None

    @property
    def names(self) -> list[str]:
        """The keys of `row`."""
        own = ["train_loss", "test_loss", "reg"] if self.validation is None else ["train_loss", "test_loss", "reg", "val_loss"]
        return [*own, *self.metrics]

    @torch.no_grad()
    def training(self, samples: Samples, first: FirstLayer | None, known: float | None) -> tuple[float, float, float]:
        """Objective, loss and penalty on the samples of the step; `known` is the objective, if that is known and there is no penalty."""
        if known is not None and self.objective.lamb == 0:
            return known, known, 0.0
        total, loss, penalty = self.objective(samples.x, samples.y, first, samples.weight)
        return float(total), float(loss), float(penalty)

    def row(self, loss: float, penalty: float, samples: Samples) -> dict[str, float]:
        """All numbers, where those of the training samples `samples` are known.

        Without test data ``test_loss`` is the loss of the validation data, and without these that of the training samples.

        Raises:
            TypeError: if a metric returns something else than a number.
        """
        if self.spreads is not None:
            loss = self._loss(samples)
        held_out = None if self.validation is None else self._loss(self.validation)
        test = self._loss(self.test) if self.test is not None else loss if held_out is None else held_out
        row = {"train_loss": self.shown(loss), "test_loss": self.shown(test), "reg": penalty}
        if held_out is not None:
            row["val_loss"] = self.shown(held_out)
        return row | {name: _number(name, metric()) for name, metric in self.metrics.items()}

    def watched(self, row: Mapping[str, float]) -> float:
        """The number that patience and the best state go by: the loss of validation, test or training data, the first there is."""
        return row["test_loss"] if self.validation is None else row["val_loss"]

    @torch.no_grad()
    def _loss(self, samples: Samples) -> float:
        predicted, y = self.predicted(samples.x), samples.y
        if self.spreads is not None:
            predicted, y = predicted * self.spreads, y * self.spreads
        return float(self.objective.loss(predicted, y, samples.weight))

    @torch.no_grad()
    def predicted(self, x: Tensor) -> Tensor:
        """Predictions for `x` ``(N, n)``, without a graph, some samples at a time."""
        count = max(CHUNK // width_of(self.objective.network), 1)
        if len(x) <= count or isinstance(self.objective, PredictionObjective):
            return self.objective.predict(x)
        return torch.cat([self.objective.predict(part) for part in x.split(count)])


def _number(name: str, value: Any) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
        raise TypeError(f"the metric {name!r} must return a number; it returned {got}.") from error
