"""What a fit measures besides losses: functions without arguments, as pykan's, or functions of prediction and label.

A function of two arguments is called with the predictions ``(N, outputs)`` and the labels as the loss takes them, in this order, which is
that of torch's losses. scikit-learn has the other one, ``metric(label, prediction)``.
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
WANTED = "functions without arguments, or of prediction and label"


@torch.no_grad()
def accuracy(prediction: Tensor, label: Tensor) -> float:
    """Share of the labels that are predicted right.

    Args:
        prediction: outputs ``(N, K)``: one per class, or, for labels of the same shape, positive ones for 1.
        label: indices of classes ``(N,)``, of which negative ones do not count, or 0 and 1, ``(N, K)``.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    if label.dim() == 1 and prediction.dim() == 2 and prediction.shape[1] > 1:
        counts = label >= 0
        return float((prediction.argmax(1) == label)[counts].double().mean())
    return float(((prediction > 0) == (label > 0.5)).double().mean())


@torch.no_grad()
def r2(prediction: Tensor, label: Tensor) -> float:
    """Share of the variance of labels that is explained, the mean over the outputs.

    >>> r2(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [3.0]]))
    1.0
    """
    missed = (prediction - label).square().mean(0)
    return float((1 - missed / label.var(0, correction=0)).mean())


METRICS: dict[str, Callable[[Tensor, Tensor], Any]] = {"accuracy": accuracy, "r2": r2}
"""Metrics that can be given by name."""


class Metrics(NamedTuple):
    """Metrics by their names: `plain` ones without arguments, and `paired` ones of prediction and label."""

    plain: dict[str, Callable[[], Any]]
    paired: dict[str, Callable[[Tensor, Tensor], Any]]

    @torch.no_grad()
    def of(self, part: str, prediction: Tensor, label: Tensor) -> dict[str, float]:
        """The paired ones of some data, under names such as ``"test_accuracy"`` for the `part` ``"test"``.

        Raises:
            TypeError: if one returns something else than a number.
        """
        return {f"{part}_{name}": number(name, metric(prediction, label)) for name, metric in self.paired.items()}


def named_metrics(metrics: Sequence[Any]) -> Metrics:
    """Metrics by their names, which become keys of the result.

    Args:
        metrics: functions, modules, or names of `METRICS`.

    Raises:
        TypeError: if one is neither, or wants other arguments.
        ValueError: for unknown names, and names that are taken.

    >>> def f(): return 1.0
    >>> named_metrics([f, "accuracy"]).plain.keys(), named_metrics([f, "accuracy"]).paired.keys()
    (dict_keys(['f']), dict_keys(['accuracy']))
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a list of {WANTED}; got {type(metrics).__name__}.")
    found = Metrics({}, {})
    for metric in metrics:
        if isinstance(metric, str) and metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
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
        TypeError: if it is none.
    """
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
        raise TypeError(f"the metric {name!r} must return a number; it returned {got}.") from error


def _takes_pair(name: str, function: Callable[..., Any]) -> bool:
    """Whether a metric is to be called with prediction and label; one that can do without is one of pykan's."""
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
