"""The data of a fit, checked before the first step.

What a dataset may be, with arrays standing for tensors, numpy arrays, lists of numbers, and frames of pandas or polars:

- a dictionary with ``train_input`` and ``train_label``, and perhaps ``test_input`` and ``test_label``: arrays;
- a pair ``(X, y)`` of arrays;
- a ``DataLoader``, or another iterable of batches ``(x, y)`` that starts anew for every pass;
- a pair ``(training, test)``, each a pair of arrays or a loader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from kan.datasets.real_numbers import columns_of, is_frame, is_table, labels_of
from kan.training.data.classes import ClassLabels
from kan.training.data.loaders import Loader
from kan.training.data.samples import Samples, Wanted, checked_samples, checked_weight
from kan.training.models.trainable import Trainable
from kan.training.objectives.base import Model

__all__ = ["Data", "check_dataset", "check_test_data", "names_of_columns"]

ENTRIES = ("train_input", "train_label", "test_input", "test_label")


@dataclass(frozen=True)
class Data:
    """The data of a fit: samples that are trained on, samples that are evaluated only, and the classes of the labels."""

    train: Samples | Loader
    validation: Samples | None = None
    test: Samples | None = None
    classes: ClassLabels | None = None

    @property
    def first(self) -> Samples:
        """The training samples, or the first batch of them."""
        return self.train.first if isinstance(self.train, Loader) else self.train


def check_dataset(
    model: Trainable,
    dataset: Any,
    loss_fn: Any = None,
    pred_fn: Any = None,
    *,
    same_shape: bool | None = None,
    validation: Any = None,
    sample_weight: Any = None,
) -> Data:
    """What `dataset` holds, as precise as it is given, after checking it against `model`.

    Args:
        model: the model that will be trained.
        dataset: in one of the forms above.
        loss_fn, pred_fn: what the labels are for, see `kan.training.data.classes`.
        same_shape: whether labels must have the shape of the outputs. When not given, if the loss is the mean squared error of the model's
            own outputs.
        validation: fraction of the training samples that is held out, drawn with the model's seed; or samples of their own, a pair of
            arrays or a loader.
        sample_weight: how much each training sample counts, ``(N,)``.

    Raises:
        TypeError: if something is of the wrong kind.
        ValueError: if something is missing, empty, of the wrong shape or device, or not finite; nothing has been changed then.
    """
    if same_shape is None:
        same_shape = loss_fn is None and pred_fn is None and not model.own_call
    wanted = Wanted(model, same_shape, loss_fn is None, _classes(model, dataset, loss_fn, pred_fn), _columns(model, dataset))
    train: Samples | Loader
    if isinstance(dataset, Mapping):
        train, test = _entries(dataset, wanted)
    elif isinstance(dataset, tuple) and len(dataset) == 2 and not any(map(is_table, dataset)):
        train = _part(dataset[0], "training", wanted)
        test = None if dataset[1] is None else _all_of(_part(dataset[1], "test", wanted))
    else:
        train, test = _part(dataset, "training", wanted), None
    if sample_weight is not None:
        if isinstance(train, Loader):
            raise ValueError("sample_weight needs training data in arrays, whose rows it belongs to; got a loader.")
        train = replace(train, weight=checked_weight(model.network, sample_weight, len(train)))
    if validation is None:
        return Data(train, None, test, wanted.classes)
    if isinstance(validation, (bool, int, float)):
        return Data(*_split(model.network, train, validation), test, wanted.classes)
    return Data(train, _all_of(_part(validation, "validation", wanted)), test, wanted.classes)


def check_test_data(model: Trainable, dataset: Any, loss_fn: Any = None) -> Samples:
    """The samples ``test_input`` and ``test_label`` of a dictionary, or those of a pair ``(X, y)`` or a loader.

    They are checked as by `check_dataset`.
    """
    arrays = (dataset.get(ENTRIES[2]), dataset.get(ENTRIES[3])) if isinstance(dataset, Mapping) else dataset
    columns = model.columns[0], _columns(model, arrays)[1]
    wanted = Wanted(model, loss_fn is None, loss_fn is None, _classes(model, dataset, loss_fn), columns)
    if not isinstance(dataset, Mapping):
        return _all_of(_part(dataset, "test", wanted))
    missing = [name for name in ENTRIES[2:] if name not in dataset]
    if missing:
        raise ValueError(
            f"the dataset must have the entries {list(ENTRIES[2:])}; missing: {missing}, present: {sorted(map(str, dataset))}."
        )
    name, label = (f"dataset[{entry!r}]" for entry in ENTRIES[2:])
    return checked_samples(wanted, (name, label), *arrays)


def _classes(model: Trainable, dataset: Any, loss_fn: Any, pred_fn: Any = None) -> ClassLabels:
    """How the labels of `dataset` are read where they are classes."""
    return ClassLabels.of(loss_fn, model.network.width_in[-1], model.class_names, getattr(dataset, "class_names", None), pred_fn)


def _columns(model: Trainable, dataset: Any) -> tuple[list[str] | None, list[str] | None]:
    """The columns of inputs and of labels that `model` reads from frames, in this order; None if the columns have no names.

    They are the columns that the model knows, if the training data have a column of one of these names, and otherwise the columns of the
    training data.
    """
    found: list[list[str] | None] = []
    for array, own, outputs in zip(_training_arrays(dataset) or (None, None), model.columns, (False, True), strict=True):
        names = columns_of(array)
        if outputs and len(names or ()) == 1:
            names = None  # a single column may have any name
        found.append(own if names and own and {*names} & {*own} else names)
    return found[0], found[1]


def _training_arrays(dataset: Any) -> tuple[Any, Any] | None:
    """Inputs and labels of the training data; None if they come in batches."""
    if isinstance(dataset, tuple) and len(dataset) == 2 and not any(map(is_table, dataset)):
        dataset = dataset[0]
    if isinstance(dataset, Mapping):
        return dataset.get(ENTRIES[0]), dataset.get(ENTRIES[1])
    return (dataset[0], dataset[1]) if isinstance(dataset, (tuple, list)) and len(dataset) == 2 else None


def names_of_columns(dataset: Any) -> dict[str, list[Any]]:
    """The names of the inputs, as ``"in_vars"``, and of the labels, as ``"out_vars"``, where the training data have names.

    They are the columns of frames and series, or the names that a `Dataset` knows.
    """
    found = {}
    for label, array in zip(("in_vars", "out_vars"), _training_arrays(dataset) or (), strict=False):
        names = getattr(dataset, label, None) or (labels_of(array) if is_frame(array) else None)
        if names is not None:
            found[label] = names
    return found


def _entries(dataset: Mapping[str, Any], wanted: Wanted) -> tuple[Samples, Samples | None]:
    tested = any(name in dataset for name in ENTRIES[2:])
    missing = [name for name in (ENTRIES if tested else ENTRIES[:2]) if name not in dataset]
    if missing:
        raise ValueError(
            f"the dataset must have the entries {list(ENTRIES)}, or the first two of them; "
            f"missing: {missing}, present: {sorted(map(str, dataset))}."
        )
    parts = [
        checked_samples(wanted, (f"dataset[{name!r}]", f"dataset[{label!r}]"), dataset[name], dataset[label])
        for name, label in ((ENTRIES[:2], ENTRIES[2:]) if tested else (ENTRIES[:2],))
    ]
    return parts[0], parts[1] if tested else None


def _part(value: Any, name: str, wanted: Wanted) -> Samples | Loader:
    if isinstance(value, (tuple, list)) and len(value) == 2 and any(map(is_table, value)):
        return checked_samples(wanted, (f"the {name} input X", f"the {name} label y"), *value)
    if not isinstance(value, Iterable) or is_table(value) or isinstance(value, (str, bytes)):
        raise TypeError(
            f"the dataset must be a dictionary with the entries {list(ENTRIES)}, a pair (X, y) of arrays, or a DataLoader; "
            f"got {type(value).__name__} for the {name} data."
        )
    wanted.classes.indices = True
    return Loader(value, f"{name} loader", wanted)


def _all_of(part: Samples | Loader) -> Samples:
    return part.everything() if isinstance(part, Loader) else part


def _split(network: Model, train: Samples | Loader, fraction: float) -> tuple[Samples, Samples]:
    """The samples that remain, and a random `fraction` of them for validation."""
    if isinstance(train, Loader):
        raise ValueError("validation can be a fraction of arrays only; for a loader give the samples, validation=(X, y).")
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        raise ValueError(f"validation must be a fraction between 0 and 1, or samples (X, y); got {fraction}.")
    count = len(train)
    if count < 2:
        raise ValueError(f"validation={fraction} needs two samples at least, one to train on and one to hold out; got {count}.")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(int(network.seed)))
    held = min(max(round(fraction * count), 1), count - 1)
    kept, out = train.at(order[held:].sort().values), train.at(order[:held].sort().values)
    for part, whose in ((kept, "sample that remains for training"), (out, "sample that is held out")):
        if part.weight is not None:
            checked_weight(network, part.weight, len(part), whose)
    return kept, out
