"""Data sets from arrays and frames."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kan.datasets.classes import ClassNames, codes_of, named_classes
from kan.datasets.real_numbers import check_pairing, columns_of, is_frame, labels_of, real_numbers

__all__ = ["Dataset", "create_dataset_from_data"]


class Dataset(dict[str, Tensor]):
    """A dictionary of tensors with the names of columns and classes, which `fit` passes on to the model.

    Attributes:
        in_vars, out_vars: names of the columns of inputs and labels, or None.
        class_names: names of the classes if the labels are their indices, or None.
    """

    in_vars: list[str] | None = None
    out_vars: list[str] | None = None
    class_names: ClassNames | None = None

    def copy(self) -> Dataset:
        """Return a dictionary of the same tensors with the same names."""
        return copy.copy(self)


def create_dataset_from_data(
    inputs: Tensor | ArrayLike,
    labels: Tensor | ArrayLike,
    train_ratio: float = 0.8,
    device: torch.device | str = "cpu",
    seed: int | None = None,
) -> dict[str, Tensor]:
    """Split samples at random into a training set and a test set.

    Args:
        inputs: ``(N, n)``, a tensor, an array, a list or a frame.
        labels: ``(N, ...)``, likewise. Text, categories and truth values of arrays and frames, ``(N,)``, are classes. They become indices
            of their names, which are in the order of the categories or, without categories, in ascending order.
        train_ratio: the training set has ``int(N train_ratio)`` samples.
        device: device of the tensors.
        seed: seed of a private generator, which gives the same split as calling ``numpy.random.seed(seed)`` and omitting this argument.
            By default numpy's global generator is used, as in pykan.

    Returns:
        ``train_input``, ``test_input``, ``train_label``, ``test_label``, detached. Tensors keep their dtype; floating-point numbers of
        arrays are converted to torch's default dtype. If columns or classes have names, the result is a `Dataset` with these names.

    Raises:
        TypeError: if inputs or labels do not hold real numbers.
        ValueError: if entries are masked, the numbers of samples differ, or one of the two sets would be empty.

    >>> data = create_dataset_from_data(torch.rand(10, 2), torch.rand(10, 1), seed=0)
    >>> len(data["train_input"]), len(data["test_input"])
    (8, 2)
    """
    check_pairing("inputs", inputs, "labels", labels)
    named = None if isinstance(labels, Tensor) else named_classes("labels", labels)
    x = _tensor("inputs", inputs, device)
    y = _tensor("labels", labels, device) if named is None else codes_of("labels", *named).to(device)
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
    # The order of a Python set, as in pykan, so that test predictions can be compared row by row.
    test = np.array(list(set(range(count)) - set(train.tolist())))
    parts = {"train": torch.from_numpy(train).to(x.device), "test": torch.from_numpy(test).to(x.device)}
    data = {f"{part}_{kind}": values[ids] for kind, values in (("input", x), ("label", y)) for part, ids in parts.items()}
    names: dict[str, Any] = {"in_vars": columns_of(inputs), "class_names": None if named is None else named[1]}
    names["out_vars"] = _label_names(labels) if named is None else None
    if not any(names.values()):
        return data
    dataset = Dataset(data)
    dataset.__dict__.update(names)
    return dataset


def _label_names(labels: Any) -> list[str] | None:
    """Return the names of the columns of numerical labels in a frame or series, if they are non-empty strings."""
    names = columns_of(labels) or (labels_of(labels) if is_frame(labels) else [])
    return names if names and all(isinstance(name, str) and name.strip() for name in names) else None


def _tensor(name: str, values: Any, device: torch.device | str) -> Tensor:
    found = real_numbers(name, values).to(device)
    return found.to(torch.get_default_dtype()) if found.is_floating_point() and not isinstance(values, Tensor) else found
