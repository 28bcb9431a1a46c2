"""The objective of a fit, made from its options."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kan.network.network import Network
from kan.training.data.samples import Samples
from kan.training.models.of_network import TrainableNetwork
from kan.training.models.trainable import Trainable
from kan.training.objectives.base import TrainingObjective
from kan.training.objectives.losses import in_dtype, weighted_loss
from kan.training.objectives.of_network import Objective
from kan.training.objectives.of_prediction import PredictionObjective
from kan.training.options import FitOptions

__all__ = ["check_loss", "check_prediction", "make_objective", "plain_objective"]


def make_objective(model: Trainable, options: FitOptions, weighted: bool = False) -> TrainingObjective:
    """The exact objective of a fit with these options; `weighted` says whether samples have weights."""
    loss_fn, units_applied = options.loss_fn, model.map_of("output_normalizer") is not None
    loss = nn.functional.mse_loss if loss_fn is None else weighted_loss(loss_fn) if weighted else loss_fn
    loss = in_dtype(loss, model.network.dtype)
    if loss_fn is not None and options.pred_fn is None and units_applied:
        if weighted and loss_fn is nn.functional.mse_loss:
            loss = weighted_loss(nn.MSELoss())
        loss = _InUserUnits(model.objective(loss, options), loss)
    objective = model.objective(loss, options)
    return objective if options.pred_fn is None else PredictionObjective.of(objective, options.pred_fn)


def plain_objective(network: Network, loss_fn: Callable[..., Tensor] | None) -> Objective:
    """The loss of a network without a penalty, as an objective."""
    found = make_objective(TrainableNetwork(network), FitOptions(loss_fn=loss_fn))
    assert isinstance(found, Objective)
    return found


class _InUserUnits:
    """A loss of outputs in the user's units, as one of a model's last nodes."""

    def __init__(self, objective: TrainingObjective, loss_fn: Callable[..., Tensor]) -> None:
        self.in_user_units, self.loss_fn = objective.in_user_units, loss_fn

    def __call__(self, output: Tensor, *rest: Tensor) -> Tensor:
        return self.loss_fn(self.in_user_units(output), *rest)


@torch.no_grad()
def check_prediction(objective: TrainingObjective, samples: Samples, same_shape: bool, whose: str = "pred_fn") -> None:
    """Raise ``TypeError`` for predictions by the user's own code `whose` that are no tensors.

    With `same_shape`, raise ``ValueError`` if they and the labels have different shapes, which the mean squared error would broadcast.
    """
    with objective.network.same_last_input(), torch.enable_grad():
        prediction = objective.predict(samples.x)
    if not isinstance(prediction, Tensor):
        raise TypeError(f"{whose} must return a tensor of predictions; it returned {type(prediction).__name__}.")
    shape = tuple(prediction.shape)
    if same_shape and shape != tuple(samples.y.shape):
        raise ValueError(f"{whose} must return predictions of the labels' shape, {tuple(samples.y.shape)}; it returned {shape}.")


def check_loss(objective: TrainingObjective, prediction: Tensor, samples: Samples, trained_on: bool) -> None:
    """Try the loss on samples and the `prediction` for them.

    Raises:
        ValueError: if it fails, is not one number or, on samples that are trained on, has no graph.
        TypeError: if it is no tensor.
    """
    with torch.set_grad_enabled(trained_on):
        try:
            loss = objective.loss(prediction.detach().requires_grad_(trained_on), samples.y, samples.weight)
        except Exception as error:
            sides = " and ".join(
                f"{which} {tuple(t.shape)} of {t.dtype}" for which, t in (("predictions", prediction), ("labels", samples.y))
            )
            raise ValueError(f"loss_fn fails for {sides}: {error}") from error
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn must return a tensor with one number; it returned {type(loss).__name__}.")
    if loss.numel() != 1:
        raise ValueError(
            f"loss_fn must return one number; it returned a tensor of the shape {tuple(loss.shape)}. Take its mean or its sum."
        )
    if trained_on and not loss.requires_grad:
        raise ValueError(
            "loss_fn must return a number that torch can differentiate with respect to the predictions; this one has no graph."
        )
