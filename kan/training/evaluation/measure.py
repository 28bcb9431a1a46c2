"""The numbers of one step: losses, penalty, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kan.network.trace import FirstLayer
from kan.training.data.samples import Samples
from kan.training.evaluation.metrics import Metrics, number
from kan.training.objectives.base import TrainingObjective

__all__ = ["Measure"]


@dataclass(frozen=True)
class Measure:
    """What is reported after a step.

    Attributes:
        objective: the exact objective, without rounding.
        validation, test: samples that are evaluated only, not trained on.
        shown: function from a loss to what is reported.
        metrics: what is reported besides.
        spreads: units of the outputs in the user's units, ``(outputs,)``, where these differ and the loss is the mean squared error. The
            reported losses are then computed from the errors in the user's units.
        mapped: whether labels are in the model's own units, see `kan.training.data.normalisation`.
    """

    objective: TrainingObjective
    validation: Samples | None
    test: Samples | None
    shown: Callable[[float], float]
    metrics: Metrics
    spreads: Tensor | None = None
    mapped: bool = False

    @property
    def names(self) -> list[str]:
        """The keys of `row`."""
        own = ["train_loss", "test_loss", "reg"] if self.validation is None else ["train_loss", "test_loss", "reg", "val_loss"]
        parts = self._parts(None)
        return [*own, *self.metrics.plain, *(f"{part}_{name}" for name in self.metrics.paired for part in parts)]

    @torch.no_grad()
    def training(self, samples: Samples, first: FirstLayer | None, known: float | None) -> tuple[float, float, float]:
        """Objective, loss and penalty on the samples of the step; `known` is the objective, if that is known and there is no penalty."""
        if known is not None and self.objective.lamb == 0:
            return known, known, 0.0
        total, loss, penalty = self.objective(samples.x, samples.y, first, samples.weight)
        return float(total), float(loss), float(penalty)

    @property
    def besides(self) -> int:
        """Number of samples that `row` evaluates besides those of the step."""
        return sum(len(samples) for samples in (self.validation, self.test) if samples is not None)

    def row(self, loss: float, penalty: float, samples: Samples, last: Mapping[str, float] | None = None) -> dict[str, float]:
        """All numbers, where those of the training samples `samples` are known.

        With the numbers `last` of a step before, only the losses and the penalty on `samples` are new, and all others are those of `last`.

        Without test data ``test_loss`` is the loss of the validation data, and without these that of the training samples.

        Raises:
            TypeError: if a metric returns something else than a number.
        """
        if self.spreads is not None:
            loss = self._loss(samples)
        if last is not None:
            of_step = {"train_loss": self.shown(loss), "reg": penalty}
            return {**last, **of_step, **({} if self.besides else {"test_loss": of_step["train_loss"]})}
        held_out = None if self.validation is None else self._loss(self.validation)
        test = self._loss(self.test) if self.test is not None else loss if held_out is None else held_out
        row = {"train_loss": self.shown(loss), "test_loss": self.shown(test), "reg": penalty}
        if held_out is not None:
            row["val_loss"] = self.shown(held_out)
        row |= {name: number(name, metric()) for name, metric in self.metrics.plain.items()}
        for part, seen in self._parts(samples).items() if self.metrics.paired else ():
            row |= self.metrics.of(part, *self._in_user_units(self.objective.predict_in_parts(seen.x), seen.y))
        return row

    def watched(self, row: Mapping[str, float]) -> float:
        """The number that patience and the best state go by: the loss of validation, test or training data, the first there is."""
        return row["test_loss"] if self.validation is None else row["val_loss"]

    @torch.no_grad()
    def _loss(self, samples: Samples) -> float:
        predicted, y = self.objective.predict_in_parts(samples.x), samples.y
        if self.spreads is not None:
            predicted, y = predicted * self.spreads, y * self.spreads
        return float(self.objective.loss(predicted, y, samples.weight))

    def _parts(self, samples: Samples | None) -> dict[str, Any]:
        """The samples of the step, and those that are looked at only, by name."""
        parts = {"train": samples, "test": self.test, "val": self.validation}
        return {part: seen for part, seen in parts.items() if part == "train" or seen is not None}

    def _in_user_units(self, predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and labels, which are both in the network's units if the labels are mapped."""
        return self.objective.in_user_units(predicted), self.objective.in_user_units(y) if self.mapped else y
