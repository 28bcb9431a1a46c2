"""The data of a fit, checked before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kan.network.mlp import Perceptron
from kan.network.network import Network

__all__ = ["Data", "check_dataset"]

ENTRIES = ("train_input", "train_label", "test_input", "test_label")


@dataclass(frozen=True)
class Data:
    """Training and test data, inputs ``(N, n)`` and labels ``(N, ...)``."""

    train_input: Tensor
    train_label: Tensor
    test_input: Tensor
    test_label: Tensor


def check_dataset(network: Network | Perceptron, dataset: Any, *, same_shape: bool) -> Data:
    """The four entries of `dataset`, after checking them against `network`.

    Args:
        network: that will be trained.
        dataset: mapping with ``train_input``, ``train_label``, ``test_input``, ``test_label``.
        same_shape: whether labels must have the shape of the outputs (as for the mean squared error).

    Raises:
        TypeError: if `dataset` is no mapping or holds something else than tensors.
        ValueError: if an entry is missing, empty, of the wrong shape or device, or not finite; nothing has been changed then.
    """
    if not isinstance(dataset, Mapping):
        raise TypeError(f"the dataset must be a dictionary with the entries {list(ENTRIES)}; got {type(dataset).__name__}.")
    missing = [name for name in ENTRIES if name not in dataset]
    if missing:
        raise ValueError(f"the dataset must have the entries {list(ENTRIES)}; missing: {missing}, present: {sorted(map(str, dataset))}.")
    for name in ENTRIES:
        if not isinstance(dataset[name], Tensor):
            kind = type(dataset[name]).__name__
            raise TypeError(f"dataset[{name!r}] must be a torch tensor; got {kind}. Convert it with torch.as_tensor.")
    for part in ("train", "test"):
        _check_part(network, part, dataset[f"{part}_input"], dataset[f"{part}_label"], same_shape)
    return Data(*(_in_dtype(dataset[name], network.dtype) for name in ENTRIES))


def _check_part(network: Network | Perceptron, part: str, x: Tensor, y: Tensor, same_shape: bool) -> None:
    inputs, outputs = network.input_width, network.width_in[-1]
    if x.dim() != 2 or x.shape[1] != inputs:
        raise ValueError(
            f"dataset['{part}_input'] must have the shape (number of samples, {inputs}), one column per input of the network; "
            f"got {tuple(x.shape)}."
        )
    if x.shape[0] == 0:
        raise ValueError(f"dataset['{part}_input'] has no samples.")
    if not x.is_floating_point():
        raise ValueError(f"dataset['{part}_input'] must hold floating-point numbers; got {x.dtype}. Convert it with .to(model.dtype).")
    if same_shape and tuple(y.shape) != (x.shape[0], outputs):
        hint = " Use label[:, None] to make a column of it." if tuple(y.shape) == (x.shape[0],) and outputs == 1 else ""
        raise ValueError(
            f"dataset['{part}_label'] must have the shape of the network's output, ({x.shape[0]}, {outputs}); got {tuple(y.shape)}.{hint}"
        )
    if y.dim() == 0 or y.shape[0] != x.shape[0]:
        raise ValueError(f"dataset['{part}_label'] must have one row per sample, {x.shape[0]}; got the shape {tuple(y.shape)}.")
    for name, values in ((f"{part}_input", x), (f"{part}_label", y)):
        if values.device.type != network.device.type:
            raise ValueError(f"dataset['{name}'] is on {values.device} but the network is on {network.device}; move one with .to(device).")
        bad = ~torch.isfinite(values).reshape(len(values), -1)
        if bool(bad.any()):
            columns = bad.any(dim=0).nonzero()[:, 0].tolist()
            raise ValueError(
                f"dataset['{name}'] must be finite; it holds NaN or infinity in column(s) {columns} "
                f"({int(bad.any(dim=1).sum())} of {len(values)} rows). Remove or fill these values."
            )


def _in_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values
