"""What a network's inputs and outputs are called, and in which units they came.

Normalised columns are ``(x - mean) / std``. Who normalises is one of two:

- The user, who sets `normalizer` and `output_normalizer`. The network takes and gives normalised columns then. It computes with neither
  names nor these numbers, and carries them for those who read it, as defaults of plots and formulas.
- The network, where `fit` has found the map (`Labelled.apply_normalizers_`). It takes and gives the columns in the user's units then, and
  normalises inside: the map is a part of the function, and of the state dictionary.

The outputs of a classifier stand for classes, by one of two links from outputs ``z`` to probabilities:

- ``"softmax"``: one output per class, ``p_k = exp(z_k) / sum_j exp(z_j)``;
- ``"sigmoid"``: two classes, of which every output gives the probability of the second, ``p = 1 / (1 + exp(-z))``.
"""

from __future__ import annotations

import copy
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.datasets.classes import ClassName, ClassNames, shown
from kan.devices import constant
from kan.errors import some_of, unknown_name
from kan.network.last_input import LastInput

__all__ = ["LINKS", "NORMALIZERS", "Labelled", "Normalizer"]

Normalizer = tuple[list[float], list[float]]
"""Means and standard deviations, one number per column each."""

Origins = Sequence[int | None]

T = TypeVar("T")

LABELS = {
    "in_vars": "input", "out_vars": "output", "normalizer": "input", "output_normalizer": "output", "frame_columns": "input",
    "classes": "output",
}  # fmt: skip
"""The labels by name, and what they are about: columns of the input, or of the output. All but the last have one entry for each."""

LINKS = ("softmax", "sigmoid")
"""The ways from outputs to probabilities of classes."""

NORMALIZERS = ("normalizer", "output_normalizer")
"""The labels that are maps, of the columns of the input and of the output."""


class Labelled(LastInput):
    """A module with names and normalisation of its inputs and outputs, all None until they are set; none is a parameter or buffer.

    Labels of inputs are those of the columns that the module is called with, `input_width` of them. After `prune_input` too, when it
    makes no use of some: plots and formulas pick the labels of the others, those in `input_id`.
    """

    input_id: Tensor
    _labels: Mapping[str, Any] = MappingProxyType({})
    _applied: frozenset[str] = frozenset()  # those of the normalizers that the module applies itself

    @property
    @abstractmethod
    def width_in(self) -> list[int]:
        """Nodes per layer of nodes."""

    @property
    def in_vars(self) -> list[str] | None:
        """Names of the columns of the input, different strings; setting others raises TypeError or ValueError."""
        return self._labels.get("in_vars")

    @in_vars.setter
    def in_vars(self, names: Iterable[str] | None) -> None:
        self.set_labels(in_vars=names)

    @property
    def out_vars(self) -> list[str] | None:
        """Names of the outputs, likewise."""
        return self._labels.get("out_vars")

    @out_vars.setter
    def out_vars(self, names: Iterable[str] | None) -> None:
        self.set_labels(out_vars=names)

    @property
    def frame_columns(self) -> list[str] | None:
        """Names of the columns that are read from frames, in this order: those of the training data, or else `in_vars`."""
        columns: list[str] | None = self._labels.get("frame_columns", self.in_vars)
        return columns

    @property
    def normalizer(self) -> Normalizer | None:
        """``(mean, std)`` of the columns of the input before they were normalised, one number per column; `std` is positive.

        A pair that is set here says what the user has normalised with; the network does not apply it, even if it did so before.
        """
        return self._labels.get("normalizer")

    @normalizer.setter
    def normalizer(self, pair: Sequence[Iterable[float]] | None) -> None:
        self.set_labels(normalizer=pair)

    @property
    def output_normalizer(self) -> Normalizer | None:
        """``(mean, std)`` of the labels before they were normalised, one number per output."""
        return self._labels.get("output_normalizer")

    @output_normalizer.setter
    def output_normalizer(self, pair: Sequence[Iterable[float]] | None) -> None:
        self.set_labels(output_normalizer=pair)

    @property
    def class_names(self) -> ClassNames | None:
        """Names of the classes that the outputs stand for, different strings or numbers; None for a model that is no classifier.

        `fit` sets them. To set them by hand, give one name per output, or two names for a single output. For a model with several
        outputs, each of which decides between the same two classes, set the label ``classes`` instead:
        ``model.set_labels(classes=("sigmoid", [False, True]))``.
        """
        return None if "classes" not in self._labels else list(self._labels["classes"][1])

    @class_names.setter
    def class_names(self, names: Iterable[ClassName] | None) -> None:
        self.set_labels(classes=None if names is None else (LINKS[self.width_in[-1] == 1], names))

    @property
    def class_link(self) -> str | None:
        """How outputs become probabilities of the classes, ``"softmax"`` or ``"sigmoid"``; None for a model that is no classifier."""
        return None if "classes" not in self._labels else self._labels["classes"][0]

    def labels(self) -> dict[str, Any]:
        """The labels that are set, by name, as copies: lists of strings, pairs of lists of numbers, and for ``classes`` link and names.

        Example:
            >>> from kan.network.network import Network
            >>> network = Network([2, 1])
            >>> network.in_vars = "width", "height"
            >>> network.labels()
            {'in_vars': ['width', 'height']}
        """
        return copy.deepcopy(dict(self._labels))

    def set_labels(self, **labels: Any) -> None:
        """Set those that are given, to None as well, and leave the others; all or, if one is refused, none.

        Normalizers that are set say what the user normalises with; see `apply_normalizers_` for those that the module applies.

        Raises:
            TypeError: if one is of another kind.
            ValueError: for other labels than these, wrong numbers of entries, names that are empty or occur twice, or numbers that are
                not finite, or not positive where they are standard deviations.
        """
        new = dict(self._labels)
        for label, value in labels.items():
            if label not in LABELS:
                raise unknown_name("label", label, LABELS)
            new.pop(label, None)
            if value is not None:
                new[label] = CHECKS[label](label, value, self._columns(label))
        self._labels, self._applied = new, self._applied - labels.keys()

    def apply_normalizers_(self, **pairs: Any) -> None:
        """Set ``normalizer=`` or ``output_normalizer=``, or both, as maps that the module applies itself; the others stay.

        The module takes columns of the input, or gives outputs, in the units that they have before the map from then on.

        Raises:
            TypeError, ValueError: as `set_labels`.
        """
        self.set_labels(**pairs)
        self._applied |= pairs.keys()

    def applied(self, label: str) -> Normalizer | None:
        """The normalizer of that name if the module applies it itself."""
        return self._labels[label] if label in self._applied else None

    def stated_labels(self) -> dict[str, Any]:
        """As `labels`, without the normalizers that the module applies: what is said of the columns that it takes and gives."""
        return {label: value for label, value in self.labels().items() if label not in self._applied}

    def in_own_units(self, label: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """``(values - mean) / std`` in `dtype`, if the module applies the normalizer `label`; else `values` in `dtype`.

        It is computed in the wider one of both types: 64-bit times since 1970 keep their seconds on the way to a 32-bit network.
        """
        if label not in self._applied:
            return values.to(dtype)
        values = values.to(torch.promote_types(values.dtype, dtype))
        mean, std = (constant(tuple(part), values.dtype, values.device) for part in self._labels[label])
        return ((values - mean) / std).to(dtype)

    def in_user_units(self, output: Tensor) -> Tensor:
        """``output * std + mean``, if the module applies its `output_normalizer`; else `output`."""
        if "output_normalizer" not in self._applied:
            return output
        mean, std = (constant(tuple(part), output.dtype, output.device) for part in self._labels["output_normalizer"])
        return torch.addcmul(mean, output, std)

    def inherit_labels(self, other: Labelled, inputs: Origins | None = None, outputs: Origins | None = None) -> None:
        """Take over the labels of `other`, which may be this module as it was.

        Args:
            other: a module with labels.
            inputs, outputs: for every column here which one of `other` it is, None for a new one. A new column gets the first free name of
                ``x_1, x_2 ...`` or ``y_1, y_2 ...``, mean 0 and deviation 1. When not given the columns are the same, or, if their number
                is not, have no labels.
        """
        for label, value in other.labels().items():
            columns, before = self._columns(label), other._columns(label)
            origins = inputs if LABELS[label] == "input" else outputs
            if origins is None:
                origins = range(columns) if columns == before else None
            change = {label: None if origins is None else _rearranged(label, value, origins)}
            if other.applied(label) is None or origins is None:
                self.set_labels(**change)
            else:
                self.apply_normalizers_(**change)

    def used(self, columns: Sequence[T]) -> list[T]:
        """Of what there is for every column of the input the entries of those that are used, in the order of the input nodes."""
        return [columns[i] for i in self.input_id.tolist()]

    def of_inputs(self, entries: Iterable[T]) -> list[T]:
        """One entry per input node. Of `entries` for all columns of the input, those that are used; other `entries` as they are."""
        found = list(entries)
        return self.used(found) if len(found) == self.input_width != len(self.input_id) else found

    def _columns(self, label: str) -> int:
        """How many entries `label` must have."""
        return self.input_width if LABELS[label] == "input" else self.width_in[-1]


def _names(label: str, names: Any, count: int) -> list[str]:
    """`names` as a list of `count` different strings."""
    wanted = f"{label} must be a list of {count} names, one per column of the {LABELS[label]}"
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{wanted}; got {names!r}.")
    found = list(names)
    others = [name for name in found if not isinstance(name, str)]
    if others:
        raise TypeError(f"{wanted}, as strings; got {others[0]!r} of type {type(others[0]).__name__}. Convert it with str.")
    if len(found) != count:
        raise ValueError(f"{wanted}; got {len(found)}.")
    if not all(name.strip() for name in found):
        raise ValueError(f"{wanted}; those at [{some_of([i for i, name in enumerate(found) if not name.strip()])}] are empty.")
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"{wanted}, all different; {some_of([*map(repr, twice)])} occurs more than once.")
    return [str(name) for name in found]  # no subclasses of it, which numpy has


def _normalizer(label: str, pair: Any, count: int) -> Normalizer:
    """`pair` as two lists of `count` numbers."""
    wanted = f"{label} must be a pair (mean, std) of lists with {count} numbers each, one per column of the {LABELS[label]}"
    try:
        mean, std = ([float(number) for number in part] for part in pair)
    except (TypeError, ValueError, RuntimeError) as error:  # torch has the last one for rows of a matrix
        raise TypeError(f"{wanted}; got {pair!r}.") from error
    if not len(mean) == len(std) == count:
        raise ValueError(f"{wanted}; got {len(mean)} and {len(std)}.")
    if not all(map(math.isfinite, mean)):
        raise ValueError(f"{wanted}; the means must be finite, got {mean}.")
    if not all(math.isfinite(s) and s > 0 for s in std):
        raise ValueError(f"{wanted}; the deviations must be finite and positive, got {std}. A constant column has the deviation 1 here.")
    return mean, std


def _classes(label: str, value: Any, count: int) -> tuple[str, ClassNames]:
    """`value` as a link and the names of the classes that suit it and `count` outputs."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        links = " or ".join(map(repr, LINKS))
        raise TypeError(f"{label} must be a pair of a link, {links}, and the names of the classes; got {value!r:.200}.")
    link, given = value
    wanted = "the names of the classes must be different strings or numbers"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{wanted}, in a list; got {given!r:.200}.")
    names = given.tolist() if hasattr(given, "tolist") else list(given)
    if link not in LINKS:
        raise unknown_name("link", link, LINKS)
    others = [name for name in names if not isinstance(name, (str, int, float))]
    if others:
        raise TypeError(f"{wanted}; got {others[0]!r} of type {type(others[0]).__name__}.")
    needed = count if link == "softmax" else 2
    if len(names) != needed or len(set(names)) != needed:
        raise ValueError(f"{wanted}, {needed} of them for {count} output(s) and the link {link!r}; got {shown(names)}.")
    return link, names


CHECKS: dict[str, Callable[[str, Any, int], Any]] = {
    "in_vars": _names, "out_vars": _names, "normalizer": _normalizer, "output_normalizer": _normalizer, "frame_columns": _names,
    "classes": _classes,
}  # fmt: skip
"""What makes a label of a value, or raises an error."""


def _rearranged(label: str, value: Any, origins: Origins) -> Any:
    """The entries at `origins`, and made-up ones where there is None; classes go where there is an output that stands for none."""
    if label == "classes":
        link, names = value
        if link == "sigmoid":
            return value
        return None if None in origins else (link, [names[i] for i in origins if i is not None])
    if label in NORMALIZERS:
        return tuple([new if i is None else part[i] for i in origins] for part, new in zip(value, (0.0, 1.0), strict=True))
    letter = "x" if LABELS[label] == "input" else "y"
    free = (name for name in (f"{letter}_{number}" for number in itertools.count(1)) if name not in value)
    return [next(free) if i is None else value[i] for i in origins]
