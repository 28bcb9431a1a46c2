"""The objective of a fit, made from its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kan.network.network import Network
from kan.training.data.classes import check_function
from kan.training.data.samples import Model, Samples
from kan.training.objectives.losses import in_dtype, weighted_loss
from kan.training.objectives.of_network import Objective, Penalty
from kan.training.objectives.of_perceptron import PerceptronObjective, PerceptronPenalty
from kan.training.objectives.of_prediction import PredictionObjective

__all__ = ["AnyObjective", "check_loss", "check_prediction", "corner_of", "make_objective", "plain_objective", "rounded"]

AnyObjective: TypeAlias = Objective | PerceptronObjective | PredictionObjective

CORNER = 1e-2
"""Deviations ``d`` of edges enter the optimised penalty as ``sqrt(d^2 + CORNER^2) - CORNER``.

The corner of the deviation at a dead edge stalls quasi-Newton steps: on exp(sin(pi x) + y^2) with [2,5,1], lamb=1e-3 and 50 steps, 8 of 10
seeds end with one hidden node without this rounding and 10 of 10 with it. In float32 a corner of 1e-3 still stalls. The reported ``reg``
is exact."""
SMALL = 0.1
"""Largest deviation of a layer's edges below which the corner is smaller in proportion. A penalty lets the first layers shrink where later
ones can make up for it: on sqrt((x_1 - x_2)^2 + (x_3 - x_4)^2) with [4, 2, 1, 1] to 0.01, where all edges would lie in the rounded corner
and none be driven to zero."""
LEAST_SHARE = 1e-2
"""Smallest such corner, as a share of `CORNER`, for layers that die."""


def make_objective(
    network: Model,
    loss_fn: Callable[..., Tensor] | None,
    lamb: float,
    penalty: Penalty | PerceptronPenalty | None,
    singularity_avoiding: bool,
    y_th: float,
    pred_fn: Callable[[Any, Tensor], Tensor] | None,
    weighted: bool,
) -> AnyObjective:
    """The exact objective; arguments as those of `fit`, `weighted` says whether samples have weights."""
    check_function("loss_fn", loss_fn)
    check_function("pred_fn", pred_fn)
    loss = nn.functional.mse_loss if loss_fn is None else weighted_loss(loss_fn) if weighted else loss_fn
    loss = in_dtype(loss, network.dtype)
    objective: Objective | PerceptronObjective
    if loss_fn is not None and pred_fn is None and isinstance(network, Network) and network.applied("output_normalizer") is not None:
        if weighted and loss_fn is nn.functional.mse_loss:
            loss = weighted_loss(nn.MSELoss())
        loss = _InUserUnits(network, loss)
    if isinstance(network, Network):
        assert not isinstance(penalty, PerceptronPenalty)
        objective = Objective(network, loss, lamb, penalty or Penalty(), singularity_avoiding, y_th)
    else:
        assert not isinstance(penalty, Penalty)
        objective = PerceptronObjective(network, loss, lamb, penalty or PerceptronPenalty())
    return objective if pred_fn is None else PredictionObjective(objective, pred_fn)


def plain_objective(network: Network, loss_fn: Callable[..., Tensor] | None) -> Objective:
    """The loss of a network without a penalty, as an objective."""
    found = make_objective(network, loss_fn, 0.0, None, False, Objective.y_th, None, weighted=False)
    assert isinstance(found, Objective)
    return found


class _InUserUnits:
    """A loss of outputs in the user's units, as one of a network's last nodes."""

    def __init__(self, network: Network, loss_fn: Callable[..., Tensor]) -> None:
        self.network, self.loss_fn = network, loss_fn

    def __call__(self, output: Tensor, *rest: Tensor) -> Tensor:
        return self.loss_fn(self.network.in_user_units(output), *rest)


@torch.no_grad()
def corner_of(network: Network, x: Tensor) -> float:
    """The corner for a network as it is, on the inputs `x` ``(B, n)``: `CORNER`, or less where the edges of a layer are small.

    The last layer does not count. Nothing makes up for its size: where its edges are small, the penalty has switched the network off.
    """
    hidden = network.trace(x).layers[:-1]
    scales = [float(layer.numeric_deviation().max()) for layer in hidden if layer.features is not None]
    return CORNER * min(max(min(scales, default=SMALL) / SMALL, LEAST_SHARE), 1.0)


def rounded(objective: AnyObjective, corner: float = CORNER) -> AnyObjective:
    """What is minimised: `objective` without corners."""
    if isinstance(objective, PredictionObjective):
        inner = rounded(objective.inner, corner)
        assert not isinstance(inner, PredictionObjective)
        return PredictionObjective(inner, objective.pred_fn)
    return replace(objective, corner=corner) if isinstance(objective, Objective) else objective


@torch.no_grad()
def check_prediction(objective: AnyObjective, samples: Samples, same_shape: bool, whose: str = "pred_fn") -> None:
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


def check_loss(objective: AnyObjective, prediction: Tensor, samples: Samples, trained_on: bool) -> None:
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
