r"""The data that `kan.discover` is given: checked, in double precision, and without columns that carry no information.

A column ``x_j`` is left out if it is constant or a multiple ``c x_i`` of an earlier one, up to round-off, since no data can show which of
the two a law depends on. Its symbol remains among the variables.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import sympy
import torch
from torch import Tensor

from kan.datasets.classes import named_classes, shown
from kan.datasets.real_numbers import check_all_finite, check_pairing, columns_of
from kan.datasets.real_numbers import real_numbers as taken

__all__ = ["Observations", "check_options", "column_names", "label_numbers", "observations", "real_numbers"]

MIN_ROWS_OF_DATA = 3
"""Smallest number of different rows in which a law can be searched: a straight line fits two, and the third tests it."""
FIRST_ROWS = 1000
"""Number of rows that are compared first, since a comparison of all rows takes long if there are a million."""
MAX_RELATIVE_DIFFERENCE = 1e-12
"""Largest difference, as a share of the largest value of a column, from a constant or from a multiple of another column."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Data in which a law is searched.

    Attributes:
        x, y: all variables and labels, ``(N, n)`` and ``(N, 1)``, float64.
        symbols: symbols of all columns.
        kept: the columns that the law may depend on.
        multiples: for each column that is left out, the column that it is a multiple of, or None for a constant, and the factor or the
            constant.
    """

    x: Tensor
    y: Tensor
    symbols: tuple[sympy.Symbol, ...]
    kept: tuple[int, ...]
    multiples: dict[int, tuple[int | None, float]]

    def meaning(self, column: int, symbols: Mapping[int, sympy.Symbol]) -> sympy.Expr:
        """A column that is left out, as an expression in the `symbols` of those that are kept."""
        other, factor = self.multiples[column]
        return sympy.Float(factor, 17) * (1 if other is None else symbols[other])

    def varying(self, rows: Tensor) -> Observations:
        """The data without the columns that are constant in the given `rows`, ``(M, n)``."""
        ranges, sizes = rows.amax(0) - rows.amin(0), rows.abs().amax(0)
        constant = {i: float(rows[0, i]) for i in self.kept if float(ranges[i]) <= MAX_RELATIVE_DIFFERENCE * float(sizes[i])}
        if not constant:
            return self
        multiples: dict[int, tuple[int | None, float]] = {i: (None, value) for i, value in constant.items()}
        for i, (other, factor) in self.multiples.items():
            multiples[i] = (None, factor * constant[other]) if other in constant else (other, factor)
        return replace(self, kept=tuple(i for i in self.kept if i not in constant), multiples=multiples)


def observations(X: Any, y: Any, variables: Sequence[str] | None = None) -> Observations:
    """Check data and names.

    Args:
        X: the variables, ``(N, n)``: tensors, arrays, lists or frames of real numbers.
        y: the labels, ``(N,)`` or ``(N, 1)``, likewise.
        variables: names of the columns; those of a frame, or else ``x_1 ... x_n``, when not given.

    Warns:
        UserWarning: if columns are left out.

    Raises:
        TypeError: if the data are not real numbers.
        ValueError: for data that do not match, are masked or are not finite, constant labels, too few rows, or unusable names.

    >>> observations([[n, n * n] for n in range(20)], range(20), ["a", "b"]).symbols
    (a, b)
    """
    check_pairing("X", X, "y", y)
    x, labels = real_numbers("X", X), label_numbers(y)
    if x.dim() == 1 and len(x) == labels.numel():
        raise ValueError(f"X must have the shape (N, n); got {tuple(x.shape)}. For one variable write X[:, None] (X.to_frame() in pandas).")
    if x.dim() != 2 or x.shape[1] == 0 or labels.dim() not in (1, 2) or labels.numel() != len(labels) or len(x) != len(labels):
        raise ValueError(
            f"X must have the shape (N, n) and y (N,) or (N, 1), with as many rows; got {tuple(x.shape)} and {tuple(labels.shape)}."
        )
    labels = labels.reshape(-1, 1)
    for name, values, names in (("X", x, columns_of(X)), ("y", labels, None)):
        check_all_finite(name, values, names)
    different = _different_rows(torch.cat([x[:FIRST_ROWS], labels[:FIRST_ROWS]], 1))
    if different < MIN_ROWS_OF_DATA and len(x) > FIRST_ROWS:
        different = _different_rows(torch.cat([x, labels], 1))
    if different < MIN_ROWS_OF_DATA:
        raise ValueError(
            f"a law is looked for in {MIN_ROWS_OF_DATA} different rows of X and y at least; got {len(x)} row(s), {different} of them "
            f"different. Give more samples."
        )
    if bool((labels == labels[0]).all()):
        raise ValueError(f"y is constant, {float(labels[0])}: there is no law to find.")
    symbols = _symbols(column_names(X) if variables is None else variables, x.shape[1])
    multiples = _multiples(x)
    kept = tuple(i for i in range(x.shape[1]) if i not in multiples)
    if not kept:
        raise ValueError("all columns of X are constant: there is nothing that y could depend on.")
    for column, (other, factor) in multiples.items():
        what = f"is constant, {factor:.6g}" if other is None else f"is {'' if factor == 1 else f'{factor:.6g} times '}{symbols[other]}"
        warnings.warn(f"{symbols[column]}, column {column} of X, {what}; it is left out of the search.", UserWarning, stacklevel=3)
    return Observations(x, labels, symbols, kept, multiples)


def check_options(time_limit: Any, noise: Any, seed: Any) -> None:
    """Raise ``ValueError`` for a time limit that is not positive, negative or infinite noise, or a seed that is no integer."""
    if not _is_number(time_limit) or not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds; got {time_limit!r}.")
    if noise is not None and (not _is_number(noise) or not 0 <= noise < math.inf):
        raise ValueError(f"noise must be the standard deviation of the errors of y, 0 or more, or None if it is not known; got {noise!r}.")
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise ValueError(f"seed must be an integer; got {seed!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def real_numbers(name: str, value: Any) -> Tensor:
    """The numbers of `value`, named `name` in messages, in double precision; see `kan.datasets.real_numbers` for errors."""
    found = taken(name, value)
    if found.is_complex():
        raise TypeError(f"{name} must hold real numbers; got complex ones.")
    return found.cpu().double()


def label_numbers(y: Any) -> Tensor:
    """The labels in double precision.

    Raises:
        TypeError: for labels that are not real numbers; if they are classes, the message says what can be done instead.
    """
    named = named_classes("y", y)
    if named is not None and isinstance(named[1][0], str):
        raise TypeError(
            f"y must hold numbers, which a law is about; it holds the classes {shown(named[1])}. Train a classifier, as in KAN([..., "
            f"{len(named[1])}]).fit((X, y), loss_fn=torch.nn.CrossEntropyLoss()), and ask for the law of one of its outputs, "
            f"model.discover(output=0); or make numbers of the classes."
        )
    return real_numbers("y", y)


def column_names(X: Any) -> list[str] | None:
    """The names of a frame's columns, if they are different strings."""
    return columns_of(X)


def _symbols(names: Sequence[str] | None, count: int) -> tuple[sympy.Symbol, ...]:
    """A symbol for each of `count` columns, after the names are checked."""
    if isinstance(names, str):
        raise ValueError(f"variables must be a list of names, got the string {names!r}.")
    names = [f"x_{i + 1}" for i in range(count)] if names is None else [str(name) for name in names]
    if len(names) != count or len(set(names)) != count or not all(name.strip() for name in names):
        raise ValueError(f"variables must be {count} different names, one per column of X; got {names}.")
    return tuple(sympy.Symbol(name, real=True) for name in names)


def _residual_norm(of: Tensor, column: Tensor) -> float:
    """Norm of the residual of a column after the best multiple of another one is subtracted."""
    times = of @ column / (of @ of).clamp_min(1e-300)
    return float((column - times * of).norm())


def _different_rows(rows: Tensor) -> int:
    """Number of different rows."""
    return len(torch.unique(rows, dim=0))


def _multiples(x: Tensor) -> dict[int, tuple[int | None, float]]:
    """The columns that are constant or a multiple of an earlier one, see `Observations.multiples`."""
    sizes = torch.maximum(x.amax(0), -x.amin(0))
    sizes = torch.where(sizes > 0, sizes, 1.0)
    few = x[:FIRST_ROWS] / sizes
    found: dict[int, tuple[int | None, float]] = {}
    for j in range(x.shape[1]):
        column = x[:, j] / sizes[j]
        if float(column.max() - column.min()) <= MAX_RELATIVE_DIFFERENCE:
            found[j] = None, float(x[0, j])
            continue
        for i in (i for i in range(j) if i not in found):
            if len(x) > FIRST_ROWS and _residual_norm(few[:, i], few[:, j]) > 2 * MAX_RELATIVE_DIFFERENCE * math.sqrt(FIRST_ROWS):
                continue  # it is no multiple in the first rows, and so not in all rows
            other = x[:, i] / sizes[i]
            times = float(other @ column / (other @ other))
            if float((column - times * other).abs().max()) <= MAX_RELATIVE_DIFFERENCE:
                factor = times * float(sizes[j]) / float(sizes[i])
                if not math.isfinite(factor) or factor == 0:
                    continue  # the factor overflows or vanishes
                found[j] = i, round(factor) if abs(factor - round(factor)) <= MAX_RELATIVE_DIFFERENCE * abs(factor) else factor
                break
    return found
