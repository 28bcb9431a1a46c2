"""Samples: inputs ``(N, n)``, labels ``(N, ...)`` and perhaps weights ``(N,)``, as tensors that fit a network.

They may come as tensors, arrays, lists, or frames of pandas or polars, see `kan.datasets.real_numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kan.datasets.real_numbers import check_all_finite, check_pairing, columns_of, is_frame, is_table, real_numbers, select
from kan.training.data.classes import ClassLabels
from kan.training.models.trainable import Trainable
from kan.training.objectives.base import Model

__all__ = ["Samples", "Wanted", "checked_samples", "checked_weight"]


@dataclass(frozen=True)
class Samples:
    """Samples: inputs `x` ``(N, n)``, labels `y` ``(N, ...)`` and weights ``(N,)``, which are None if all samples count the same."""

    x: Tensor
    y: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: Tensor) -> Samples:
        """The samples in the rows `rows`."""
        rows = rows.to(self.x.device)
        x, y, weight = (None if part is None else part.index_select(0, rows) for part in (self.x, self.y, self.weight))
        assert x is not None and y is not None
        return Samples(x, y, weight)


@dataclass(frozen=True)
class Wanted:
    """The conditions that samples must meet.

    Attributes:
        model: the model that will be trained on them, or evaluated.
        same_shape: whether labels must have the shape of the model's outputs.
        floating: whether labels become floating-point numbers; the classes of a cross-entropy must not.
        classes: how labels that are classes are read.
        columns: names of the columns of inputs and labels, in the order in which the model takes those of frames; None for any.
    """

    model: Trainable
    same_shape: bool
    floating: bool
    classes: ClassLabels
    columns: tuple[list[str] | None, list[str] | None] = (None, None)


def checked_samples(wanted: Wanted, names: tuple[str, str], x: Any, y: Any) -> Samples:
    """`x` and `y` as tensors, as precise as they are given, after checking them.

    Args:
        wanted: the conditions that they must meet.
        names: the names of the two in messages.
        x, y: tensors on the network's device, or arrays, lists or frames. Frames may have their columns in another order, and more of them.

    Raises:
        TypeError: if one is no array, or does not hold numbers.
        ValueError: if one is empty, of the wrong shape or device, or not finite.
    """
    network, (name, label) = wanted.model.network, names
    inputs, outputs = wanted.model.inputs, network.width_in[-1]
    network.check_numbers()
    check_pairing(name, x, label, y)
    x, y = (part if c is None else select(which, part, c) for which, part, c in zip(names, (x, y), wanted.columns, strict=True))
    headings = columns_of(x), columns_of(y)
    read = wanted.classes.read(label, y)
    y = read if read is y else read.to(y.device if isinstance(y, Tensor) else network.device)
    x, y = _as_tensor(network, name, x), _as_tensor(network, label, y, column=wanted.floating)
    if x.dim() == 1 and inputs == 1:
        x = x[:, None]
    if inputs is not None and (x.dim() != 2 or x.shape[1] != inputs):
        raise ValueError(
            f"{name} must have the shape (number of samples, {inputs}), one column per input of the network; got {tuple(x.shape)}."
        )
    if x.shape[0] == 0:
        raise ValueError(f"{name} has no samples.")
    if y.is_complex():
        raise ValueError(f"{label} must hold real numbers; got {y.dtype}. Make columns of its parts.")
    if x.is_complex():
        raise ValueError(f"{name} must hold floating-point numbers; got {x.dtype}. Convert it with .to(model.dtype).")
    if wanted.same_shape and tuple(y.shape) != (x.shape[0], outputs):
        hint = ""
        if tuple(y.shape) == (x.shape[0],) and outputs == 1:
            hint = " Use label[:, None] to make a column of it."
        elif tuple(y.shape) == (x.shape[0], 1):
            hint = f" Use label.expand(-1, {outputs}) if every output is to learn it."
        raise ValueError(f"{label} must have the shape of the network's output, ({x.shape[0]}, {outputs}); got {tuple(y.shape)}.{hint}")
    if y.dim() == 0 or y.shape[0] != x.shape[0]:
        raise ValueError(f"{label} must have one row per sample, {x.shape[0]}; got the shape {tuple(y.shape)}.")
    for which, values in ((name, x), (label, y)):
        if values.device.type != network.device.type:
            raise ValueError(f"{which} is on {values.device} but the network is on {network.device}; move one with .to(device).")
    dtype = network.dtype
    if not y.is_floating_point() and not wanted.floating and y.dtype != torch.bool:
        y = y.long()  # torch's losses take no other numbers of classes
    rounded = x.to(dtype), y.to(dtype) if y.is_floating_point() or wanted.floating else y
    for which, values, known, heading in zip(names, (x, y), rounded, headings, strict=True):
        check_all_finite(which, values, heading, known.dtype if known.is_floating_point() else None)
    return Samples(*(_precise(values) if known.is_floating_point() else known for values, known in zip((x, y), rounded, strict=True)))


def _precise(values: Tensor) -> Tensor:
    """`values` as floating-point numbers. Integers become numbers of double precision, or of single precision on Apple's GPUs."""
    if values.is_floating_point():
        return values
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def checked_weight(network: Model, weight: Any, count: int, whose: str = "training sample") -> Tensor:
    """Weights of `count` samples, ``(count,)``, in the network's dtype.

    Raises:
        TypeError: if `weight` is no array.
        ValueError: if it has another shape, is negative or not finite somewhere, or zero everywhere.
    """
    values = _as_tensor(network, "sample_weight", weight)
    if tuple(values.shape) != (count,):
        raise ValueError(f"sample_weight must have the shape ({count},), one number per {whose}; got {tuple(values.shape)}.")
    values = values.to(network.dtype)
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ValueError(f"sample_weight must be finite and not negative; it lies in [{float(values.min())}, {float(values.max())}].")
    if not bool((values > 0).any()):
        raise ValueError(f"sample_weight must be positive for one {whose} at least; all of them are zero.")
    return values


def _as_tensor(network: Model, name: str, value: Any, column: bool = False) -> Tensor:
    """`value` as a tensor. Arrays are moved to the network's device, and integers stay integers.

    Args:
        network: the network that is trained with it.
        name: name of `value` in messages.
        value: tensor, array, list, frame or series.
        column: whether a series becomes a column ``(N, 1)``.
    """
    if not is_table(value):
        raise TypeError(f"{name} must be a torch tensor, numpy array, list of numbers or frame; got {type(value).__name__}. "
                        f"Convert it with torch.as_tensor.")  # fmt: skip
    found = real_numbers(name, value, "must hold numbers; got an array of {}")
    if isinstance(value, Tensor):
        return found
    return (found[:, None] if column and is_frame(value) and found.dim() == 1 else found).to(network.device)
