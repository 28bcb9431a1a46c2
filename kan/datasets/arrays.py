"""Data sets taken from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kan.datasets.real_numbers import check_pairing, real_numbers

__all__ = ["create_dataset_from_data"]


def create_dataset_from_data(
    inputs: Tensor | ArrayLike,
    labels: Tensor | ArrayLike,
    train_ratio: float = 0.8,
    device: torch.device | str = "cpu",
    seed: int | None = None,
) -> dict[str, Tensor]:
    """A random part of the samples for training, the rest for testing.

    Args:
        inputs: ``(N, n)``, a tensor, an array or a frame.
        labels: ``(N, ...)``, likewise.
        train_ratio: ``int(N train_ratio)`` samples are for training.
        device: where the tensors go.
        seed: seed of a private generator, with which the split is the one that ``numpy.random.seed(seed)`` makes without this argument.
            When not given, numpy's global generator draws it, as in pykan.

    Returns:
        ``train_input``, ``test_input``, ``train_label``, ``test_label``, detached. Tensors keep their dtype; floating-point numbers of
        arrays get torch's default one.

    Raises:
        TypeError: for what does not hold real numbers.
        ValueError: if entries are masked, the numbers of samples differ, or no sample is left for one of the parts.

    >>> data = create_dataset_from_data(torch.rand(10, 2), torch.rand(10, 1), seed=0)
    >>> len(data["train_input"]), len(data["test_input"])
    (8, 2)
    """
    check_pairing("inputs", inputs, "labels", labels)
    x, y = _tensor("inputs", inputs, device), _tensor("labels", labels, device)
    if x.dim() == 0 or y.dim() == 0 or len(x) != len(y):
        raise ValueError(f"inputs and labels must have one row per sample each; got the shapes {tuple(x.shape)} and {tuple(y.shape)}.")
    count = len(x)
    size = int(count * train_ratio)
    if not 0 < size < count:
        raise ValueError(
            f"train_ratio must leave samples for training and for testing; {train_ratio} of {count} samples makes {size} and "
            f"{count - size}."
        )
    choose = np.random.choice if seed is None else np.random.RandomState(seed).choice
    train = choose(count, size, replace=False)
    # The order of a set, which is pykan's: who compares test predictions row by row finds the same rows.
    test = np.array(list(set(range(count)) - set(train.tolist())))
    parts = {"train": torch.from_numpy(train).to(x.device), "test": torch.from_numpy(test).to(x.device)}
    return {f"{part}_{kind}": values[ids] for kind, values in (("input", x), ("label", y)) for part, ids in parts.items()}


def _tensor(name: str, values: Any, device: torch.device | str) -> Tensor:
    found = real_numbers(name, values).to(device)
    return found.to(torch.get_default_dtype()) if found.is_floating_point() and not isinstance(values, Tensor) else found
