"""Metrics of a fit: functions without arguments, as in pykan, or functions of prediction and label.

A function of two arguments is called with the predictions ``(N, outputs)`` and the labels as the loss takes them. This is the order of
torch's losses; scikit-learn has the reverse, ``metric(label, prediction)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.errors import unknown_name

__all__ = ["METRICS", "Metrics", "accuracy", "named_metrics", "number", "r2"]

TAKEN = ("train_loss", "test_loss", "reg", "val_loss")
"""Keys of a fit's result that metrics cannot have as names."""
WANTED = "functions without arguments, or of prediction and label"
"""What metrics must be, as error messages say it."""


@torch.no_grad()
def accuracy(prediction: Tensor, label: Tensor) -> float:
    """Share of the labels that are predicted correctly.

    Args:
        prediction: outputs ``(N, K)``, one per class; or, for labels of the same shape, outputs whose positive values predict 1.
        label: indices of classes ``(N,)``, where negative ones are left out; or 0 and 1, ``(N, K)``.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    if label.dim() == 1 and prediction.dim() == 2 and prediction.shape[1] > 1:
        counts = label >= 0
        return float((prediction.argmax(1) == label)[counts].double().mean())
    return float(((prediction > 0) == (label > 0.5)).double().mean())


@torch.no_grad()
def r2(prediction: Tensor, label: Tensor) -> float:
    """Coefficient of determination, ``1 - residual variance / variance of the labels``, averaged over the outputs.

    Raises:
        ValueError: for labels of another shape than the predictions.

    >>> r2(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [3.0]]))
    1.0
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"the metric 'r2' is for labels that are numbers, one per output; got labels of the shape {tuple(label.shape)} for outputs of "
            f"the shape {tuple(prediction.shape)}. For classes take 'accuracy'."
        )
    missed = (prediction - label).square().mean(0)
    return float((1 - missed / label.var(0, correction=0)).mean())


METRICS: dict[str, Callable[[Tensor, Tensor], Any]] = {"accuracy": accuracy, "r2": r2}
"""Metrics that can be given by name."""


class Metrics(NamedTuple):
    """Metrics by their names: those in `plain` take no arguments, those in `paired` take prediction and label."""

    plain: dict[str, Callable[[], Any]]
    paired: dict[str, Callable[[Tensor, Tensor], Any]]

    @torch.no_grad()
    def of(self, part: str, prediction: Tensor, label: Tensor) -> dict[str, float]:
        """Values of the paired metrics, under names such as ``"test_accuracy"`` for the `part` ``"test"`` of the data.

        Raises:
            TypeError: if a metric returns something else than a number.
        """
        return {f"{part}_{name}": number(name, metric(prediction, label)) for name, metric in self.paired.items()}


def named_metrics(metrics: Sequence[Any], of_numbers: bool = False) -> Metrics:
    """Metrics by their names, which become keys of the result.

    Args:
        metrics: functions, modules, or names of `METRICS`.
        of_numbers: whether labels and predictions are numbers and not classes, see `kan.training.data.classes.target_of`.

    Raises:
        TypeError: if one of them is neither, or takes other arguments.
        ValueError: for unknown names, names that are taken, and the accuracy of numbers.

    >>> def f(): return 1.0
    >>> named_metrics([f, "accuracy"]).plain.keys(), named_metrics([f, "accuracy"]).paired.keys()
    (dict_keys(['f']), dict_keys(['accuracy']))
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        entry = repr(metrics) if isinstance(metrics, str) else getattr(metrics, "__name__", "metric")
        raise TypeError(f"metrics must be a list of {WANTED}; got {type(metrics).__name__}. Write metrics=[{entry}].")
    found = Metrics({}, {})
    for metric in metrics:
        if isinstance(metric, str) and metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if of_numbers and metric == "accuracy":
            raise ValueError(
                "the metric 'accuracy' is for classes, and the loss is one of numbers. Pass a loss_fn of classes, such as "
                "torch.nn.BCEWithLogitsLoss(), or a metric of your own, such as lambda p, y: ((p > 0.5) == (y > 0.5)).double().mean()."
            )
        function = METRICS[metric] if isinstance(metric, str) else metric
        if not callable(function):
            raise TypeError(f"metrics must be {WANTED}; got {type(metric).__name__}.")
        bare = function.func if isinstance(function, partial) else function
        name = str(getattr(bare, "__name__", type(bare).__name__))
        pairs = _takes_pair(name, function)
        if name in found.plain or name in found.paired or (not pairs and name in TAKEN) or (pairs and name == "loss"):
            raise ValueError(
                f"metrics must have names of their own, which become keys of the result; {name!r} is taken. Use def to name one."
            )
        table: dict[str, Callable[..., Any]] = found.paired if pairs else found.plain
        table[name] = function
    return found


def number(name: str, value: Any) -> float:
    """The number that a metric called `name` has returned.

    Raises:
        TypeError: if `value` is no number.
    """
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
        raise TypeError(f"the metric {name!r} must return a number; it returned {got}.") from error


def _takes_pair(name: str, function: Callable[..., Any]) -> bool:
    """Whether a metric takes prediction and label; a function that can be called without arguments is called so, as in pykan."""
    if isinstance(function, nn.Module):
        return True
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    for arguments in ((), (None, None)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise TypeError(f"metrics must be {WANTED}; {name} takes {list(signature.parameters)}.")
