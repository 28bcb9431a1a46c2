"""Class labels (text, categories and truth values) and their indices.

    ``code_b = index of label_b in the names of the classes``

The names of categories keep the order that their type declares; those of all other labels are in ascending order. Integers may be classes
or counts, which only the loss determines. They stay numbers here, and `kan.training.data.classes` treats them as classes if the loss does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kan.datasets.real_numbers import is_frame, is_table, labels_of
from kan.errors import some_of

__all__ = ["ClassName", "ClassNames", "codes_of", "named_classes", "shown"]

ClassName: TypeAlias = str | int | float | bool
ClassNames: TypeAlias = list[ClassName]

SHOWN = 8
"""Largest number of classes that a message names; the others are counted."""


def named_classes(name: str, labels: Any) -> tuple[list[Any], ClassNames] | None:
    """Return the entries of class labels and the names of the classes; None if the labels are numbers.

    Args:
        name: name of the labels in messages.
        labels: ``(N,)`` or ``(N, 1)``: text, categories of pandas or polars, or truth values.

    Raises:
        ValueError: if some labels are missing.
        TypeError: if text is mixed with other types, or represents numbers that are not integers.

    >>> named_classes("y", ["dog", "cat", "dog"])
    (['dog', 'cat', 'dog'], ['cat', 'dog'])
    """
    column = _column(labels)
    if column is None or not column[0]:
        return None
    entries, declared = column
    missing = [row for row, entry in enumerate(entries) if _is_missing(entry)]
    if missing:
        raise ValueError(f"{name} must have a class for every sample; {len(missing)} of {len(entries)} are missing, first in row "
                         f"{missing[0]}. Drop these rows from inputs and labels alike.")  # fmt: skip
    if declared is None:
        others = {type(entry) for entry in entries} - {str, bool}
        if others or len({type(entry) for entry in entries}) > 1:
            kinds = sorted({type(entry).__name__ for entry in entries})
            raise TypeError(f"{name} must hold classes of one type; got entries of the types {kinds}. Convert all to text with str.")
        if all(isinstance(entry, str) and _is_fraction(entry) for entry in entries):
            raise TypeError(f"{name} holds text of numbers, such as {entries[0]!r}; .astype(float) converts it to numbers.")
        declared = sorted(set(entries))
    return entries, declared


def codes_of(name: str, entries: Sequence[Any], names: Sequence[ClassName]) -> Tensor:
    """Return the indices of `entries` in the `names` of the classes, ``(N,)``, int64.

    Raises:
        ValueError: if an entry is not among them; the message names it and its row.

    >>> codes_of("y", ["dog", "cat", "dog"], ["cat", "dog"])
    tensor([1, 0, 1])
    """
    places = {entry: index for index, entry in enumerate(names)}
    for row, entry in enumerate(entries):
        if entry not in places:
            raise ValueError(f"{name} must hold the classes {shown(names)}; row {row} has {entry!r}.")
    return torch.tensor([places[entry] for entry in entries], dtype=torch.long)


def shown(names: Sequence[ClassName]) -> str:
    """Return the names of classes for messages, shortened to the first few.

    >>> shown(["cat", "dog"])
    "['cat', 'dog']"
    """
    return f"[{some_of([*map(repr, names)], SHOWN)}]"


def _column(labels: Any) -> tuple[list[Any], ClassNames | None] | None:
    """Return entries and declared classes of labels that are text, categories or truth values; None for other labels."""
    if isinstance(labels, Tensor):
        flat = labels.dtype == torch.bool and (labels.dim() == 1 or (labels.dim() == 2 and labels.shape[1] == 1))
        return (labels.flatten().tolist(), None) if flat else None
    if not is_table(labels):
        return None
    if is_frame(labels) and hasattr(labels, "columns") and hasattr(labels, "__getitem__"):
        if len(labels_of(labels)) != 1:
            return None
        labels = labels[labels_of(labels)[0]]
    declared = _declared(labels)
    if declared is not None:
        entries = labels.tolist() if hasattr(labels, "tolist") else labels.to_list()
        return entries, declared
    if _is_numeric(labels):
        return None
    array = labels if isinstance(labels, np.ndarray) else _entries(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or isinstance(array, np.ma.MaskedArray):
        return None
    if array.dtype.kind in "UTb":
        return array.tolist(), None
    if array.dtype.kind == "O" and any(isinstance(entry, (str, bool, np.bool_)) for entry in array):
        return [entry.item() if isinstance(entry, np.generic) else entry for entry in array], None
    return None


def _is_numeric(labels: Any) -> bool:
    """Whether an array or a series has a numerical type."""
    kind: Any = getattr(labels, "dtype", None)
    return getattr(kind, "kind", "") in ("i", "u", "f", "c") or (hasattr(kind, "is_numeric") and bool(kind.is_numeric()))


def _is_missing(entry: Any) -> bool:
    return entry is None or entry is getattr(sys.modules.get("pandas"), "NA", None) or bool(entry != entry)


def _is_fraction(text: str) -> bool:
    """Whether a text is a number not written as an integer, which cannot be the name of a class."""
    try:
        float(text)
    except ValueError:
        return False
    return not text.strip().lstrip("+-").isdigit()


def _entries(labels: Any) -> np.ndarray:
    """Return the entries of a list or a series as an array, without converting numbers to text."""
    if hasattr(labels, "to_list"):
        labels = labels.to_list()
    elif hasattr(labels, "to_numpy"):
        return np.asarray(labels.to_numpy())
    return np.array(labels, dtype=object) if isinstance(labels, (list, range)) else np.asarray(labels)


def _declared(labels: Any) -> ClassNames | None:
    """Return the categories of a series of pandas or polars, in the order of its type; None for other labels."""
    kind: Any = getattr(labels, "dtype", None)
    if _is_of(kind, "pandas", "CategoricalDtype"):
        return list(kind.categories.tolist())
    if _is_of(kind, "polars", "Enum"):
        return list(kind.categories.to_list())
    if _is_of(kind, "polars", "Categorical"):
        return sorted(set(labels.drop_nulls().to_list()))
    return None


def _is_of(value: object, module: str, name: str) -> bool:
    """Whether `value` is an instance of the class `name` of a module, if the caller has imported that module."""
    return isinstance(value, getattr(sys.modules.get(module), name, ()))
