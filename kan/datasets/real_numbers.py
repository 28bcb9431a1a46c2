"""Conversion of data to real numbers, from tensors, arrays, sequences, frames and series.

All functions that accept data use this conversion, so that masks are not lost, and neither categories nor text become numbers silently.
pandas, polars and scipy are used only if the caller has imported them. Frames and arrays of other libraries are recognised by their
interface: a frame has ``columns`` and returns a column as ``frame[name]``; a series or an array has ``to_numpy()`` or ``__array__()``.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kan.errors import some_of

__all__ = [
    "check_all_finite", "check_dense", "check_pairing", "columns_of", "is_array", "is_frame", "is_table", "labels_of", "real_numbers",
    "select",
]  # fmt: skip

ADVICE = "Encode or drop them; .astype(float) makes numbers of those that are stored as categories or text"
DATES = "dates become numbers as the time since one of them, (t - t.min()) / pandas.Timedelta(seconds=1)"


def is_array(value: object) -> bool:
    """Whether `value` is a tensor, an array, a frame or a series of any library, or a sparse matrix, which is refused later."""
    return isinstance(value, (Tensor, np.ndarray)) or is_frame(value) or _is_sparse(value) or _converts(value)


def is_table(value: object) -> bool:
    """Whether `value` is an array according to `is_array`, or a list of numbers or text, or of rows of these."""
    if is_array(value) or isinstance(value, range):
        return True
    return isinstance(value, list) and bool(value) and (_are_entries(value) or all(isinstance(r, list) and _are_entries(r) for r in value))


def is_frame(value: object) -> bool:
    """Whether `value` is a frame or a series of pandas, of polars, or of a library with the same interface to columns."""
    if isinstance(value, (*_frames("pandas"), *_frames("polars"))):
        return True
    return not isinstance(value, (Tensor, np.ndarray)) and _converts(value) and (hasattr(value, "columns") or hasattr(value, "name"))


def labels_of(frame: Any) -> list[Any]:
    """Return the labels of the columns of a frame, or the name of a series."""
    return list(frame.columns) if hasattr(frame, "columns") else [frame.name]


def columns_of(value: Any) -> list[str] | None:
    """Return the names of a frame's columns if they are different strings; None for all other values, series included."""
    if not is_frame(value) or not hasattr(value, "columns"):
        return None
    names = labels_of(value)
    usable = names and all(isinstance(name, str) and name.strip() for name in names) and len(set(names)) == len(names)
    return [str(name) for name in names] if usable else None


def select(name: str, frame: Any, wanted: Sequence[str]) -> Any:
    """Return the columns `wanted` of a frame, in that order.

    Args:
        name: name of the frame in messages.
        frame: a frame. A frame that has exactly these columns, and any other value, is returned as it is.
        wanted: names of the columns, all different.

    Raises:
        ValueError: if columns are missing; the message names them.
    """
    columns = columns_of(frame)
    if columns is None or columns == list(wanted):
        return frame
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise ValueError(
            f"{name} must have the {len(wanted)} column(s) {_quoted(wanted)} that the model takes; missing: "
            f"{_quoted(missing)}, present: {_quoted(columns)}. Rename them, or pass "
            f"frame.to_numpy(), whose columns are taken by their order."
        )
    return frame[list(wanted)]


def check_all_finite(name: str, values: Tensor, names: Sequence[str] | None = None, dtype: torch.dtype | None = None) -> None:
    """Raise ``ValueError`` if some of the `values` ``(N, ...)`` are NaN or infinite, possibly after conversion to the model's type.

    Args:
        name: name of the values in messages.
        values: numbers.
        names: names of their columns.
        dtype: type in which the model computes; by default that of `values`.
    """
    bad = ~torch.isfinite(values if dtype is None else values.to(dtype))
    if not bool(bad.any()):
        return
    undefined = ~torch.isfinite(values)
    if bool(undefined.any()):
        raise ValueError(f"{name} must be finite; it holds NaN or infinity {_whereabouts(undefined, names)}. Remove or fill them.")
    assert dtype is not None
    raise ValueError(
        f"{name} must be finite in {dtype}; it holds numbers beyond {torch.finfo(dtype).max:.2g} {_whereabouts(bad, names)}. Choose "
        f"larger units for these columns, or take a model in double precision, model.double()."
    )


def _quoted(names: Sequence[Any]) -> str:
    """Return names for messages, shortened to the first few."""
    return f"[{some_of([*map(repr, names)])}]"


def _whereabouts(bad: Tensor, names: Sequence[str] | None) -> str:
    """Describe the positions of the entries `bad` ``(N, ...)``: the columns, by name if there are `names`, and the rows."""
    bad = bad.reshape(len(bad), -1)
    columns: list[Any] = bad.any(dim=0).nonzero()[:, 0].tolist()
    if names is not None and len(names) == bad.shape[1]:
        columns = [names[i] for i in columns]
    rows = bad.any(dim=1).nonzero()[:, 0]
    return f"in column(s) {_quoted(columns)} ({len(rows)} of {len(bad)} rows, first in row {int(rows[0])})"


def real_numbers(name: str, value: Any, refusal: str = "must hold real numbers; got {}") -> Tensor:
    """Return the numbers in `value` as a dense tensor without a gradient.

    A tensor shares its memory with the result, unless it is an inference tensor; all other values are copied. Tensors and arrays keep
    their types of numbers. Frames whose columns are all integers become integers, other frames float64. Decimals, fractions and other
    objects that are real numbers become float64. Missing values become NaN, which the caller must refuse.

    Args:
        name: name of the value in messages.
        value: tensor, array, sequence, frame or series. A tensor may be complex.
        refusal: message for entries that are not numbers, with a placeholder for their type.

    Raises:
        TypeError: for text (even of numbers), categories, dates, complex numbers, other objects, and sparse matrices of scipy.
        ValueError: for masked entries, sparse tensors, and tensors without numbers.

    >>> real_numbers("x", [[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(value, Tensor):
        check_dense(name, value)
        if value.is_inference():  # autograd refuses inference tensors in training
            with torch.inference_mode(False), torch.no_grad():
                return value.clone()
        return value.detach()
    if _is_sparse(value):
        raise TypeError(f"{name} must be a dense array; got a sparse {type(value).__name__}. Convert it with .toarray().")
    if _is_pandas_array(value):
        value = sys.modules["pandas"].Series(value)
    if isinstance(value, _frames("pandas")):
        value = _from_pandas(name, value, refusal)
    elif isinstance(value, _frames("polars")):
        value = _from_polars(name, value, refusal)
    elif is_frame(value):
        value = _from_frame(name, value, refusal)
    array = _array(name, value)
    if array.dtype.kind == "O":
        array = _from_objects(name, array, refusal)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} {refusal.format('complex ones' if array.dtype.kind == 'c' else array.dtype)}.")
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(kind, order="C"))


def check_dense(name: str, value: Tensor) -> None:
    """Raise ``ValueError`` unless a tensor is dense, holds numbers, and has no masked entries."""
    if isinstance(value, torch.masked.MaskedTensor):
        _refuse_masked(name, ~value.get_mask().cpu().numpy())
    if value.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor; got {value.layout}. Convert it with .to_dense().")
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device, which has shapes but no numbers.")


def check_pairing(name: str, x: Any, label: str, y: Any) -> None:
    """Warn if the indices of two pandas objects suggest that their rows do not belong together.

    This is the case if they share labels at different positions. An automatic index ``0, 1, 2 ...`` is ignored, unless the other index
    contains the same labels in another order.

    Args:
        name: name of `x` in the warning.
        x: inputs.
        label: name of `y` in the warning.
        y: labels.
    """
    if not (isinstance(x, _frames("pandas")) and isinstance(y, _frames("pandas"))) or len(x) != len(y) or x.index.equals(y.index):
        return
    shared = x.index.isin(y.index)
    made = any(isinstance(part.index, sys.modules["pandas"].RangeIndex) for part in (x, y))
    if shared.all() or (shared.any() and not made):
        what = "the same labels in different orders" if shared.all() else "labels in common, in different places"
        warnings.warn(
            f"the indices of {name} and {label} have {what}. Rows are paired by their position, not by their labels: if labels say what "
            f"belongs together, align them first, as in y = y.loc[X.index].",
            UserWarning,
            stacklevel=2,
        )


def _frames(module: str) -> tuple[Any, ...]:
    known = sys.modules.get(module)
    return () if known is None else (known.DataFrame, known.Series)


def _is_sparse(value: object) -> bool:
    scipy = sys.modules.get("scipy.sparse")
    return scipy is not None and bool(scipy.issparse(value))


def _converts(value: object) -> bool:
    """Whether a value, neither a number nor a class, can be converted to a numpy array."""
    return not isinstance(value, (np.generic, type, Number)) and (hasattr(value, "to_numpy") or hasattr(value, "__array__"))


def _are_entries(values: Sequence[Any]) -> bool:
    return all(entry is None or isinstance(entry, (Number, str, np.generic)) for entry in values)


def _is_pandas_array(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray))


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, (list, tuple)) and any(isinstance(part, np.ma.MaskedArray) for part in value):
        value = np.ma.array(value)
    try:
        if _converts(value):
            value = value.to_numpy() if hasattr(value, "to_numpy") else value
        array = np.asanyarray(value)  # asanyarray keeps masks, also those of variables in files
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold real numbers, as many in each row; numpy says: {str(error).rstrip('.')}.") from error
    if isinstance(array, np.ma.MaskedArray):
        _refuse_masked(name, np.ma.getmaskarray(array))
        return np.asarray(array.data)
    return np.asarray(array)


def _refuse_masked(name: str, mask: np.ndarray) -> None:
    if mask.any():
        rows: Any = mask.reshape(len(mask), -1).any(1) if mask.ndim else mask[None]
        raise ValueError(
            f"{name} must have no masked entries: {int(mask.sum())} of {mask.size} are masked, in {int(rows.sum())} of {len(rows)} rows. "
            f"Drop these rows from inputs and labels alike: keep those where numpy.ma.getmaskarray(values) has no True."
        )


def _from_objects(name: str, array: np.ndarray, refusal: str) -> np.ndarray:
    """Convert an array of Python objects to float64; missing values become NaN."""
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    found = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        if value is None or value is missing:
            found[place] = math.nan
            continue
        try:
            if isinstance(value, (str, bytes, complex, np.complexfloating, np.datetime64, np.timedelta64)):
                raise TypeError
            found[place] = float(value)
        except OverflowError:
            found[place] = math.inf
        except (TypeError, ValueError):
            what = "complex ones" if isinstance(value, (complex, np.complexfloating)) else f"{type(value).__name__}, {value!r:.40}"
            raise TypeError(f"{name} {refusal.format(what)}.") from None
    return found


def _from_pandas(name: str, frame: Any, refusal: str) -> np.ndarray:
    """Return the numbers of a frame or series of pandas; missing values become NaN."""
    types = sys.modules["pandas"].api.types
    columns = [(str(frame.name), frame)] if frame.ndim == 1 else [(str(key), frame.iloc[:, i]) for i, key in enumerate(frame.columns)]
    others: dict[str, tuple[str, str]] = {}
    parts: list[np.ndarray] = []
    for key, column in columns:
        kind = column.dtype
        if types.is_object_dtype(kind):
            try:
                parts.append(_from_objects(name, column.to_numpy(), refusal))
            except TypeError:
                others[key] = str(kind), _first_text(column.to_numpy())
        elif not types.is_numeric_dtype(kind) or types.is_complex_dtype(kind):
            others[key] = str(kind), _first_text(column.to_numpy(dtype=object))
        elif types.is_integer_dtype(kind) and not bool(column.isna().any()):
            parts.append(column.to_numpy(dtype=np.int64))
        else:
            parts.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
    _refuse_columns(name, others, refusal)
    return parts[0] if frame.ndim == 1 else np.column_stack(parts) if parts else np.empty((len(frame), 0))


def _from_polars(name: str, frame: Any, refusal: str) -> np.ndarray:
    """Return the numbers of a frame or series of polars; missing values become NaN."""
    polars = sys.modules["polars"]
    columns = [frame] if isinstance(frame, polars.Series) else frame.get_columns()
    others = [column for column in columns if not (column.dtype.is_numeric() or column.dtype == polars.Boolean)]
    _refuse_columns(name, {column.name: (str(column.dtype), _first_text(column.to_list())) for column in others}, refusal)
    return np.asarray(frame.to_numpy())


def _from_frame(name: str, frame: Any, refusal: str) -> np.ndarray:
    """Return the numbers of a frame or series of another library."""
    keys = columns_of(frame)
    if keys is None or not hasattr(frame, "__getitem__"):
        return _array(name, frame)
    others: dict[str, tuple[str, str]] = {}
    parts: list[np.ndarray] = []
    for key in keys:
        part = _array(name, frame[key])
        try:
            parts.append(_from_objects(name, part, refusal) if part.dtype.kind == "O" else part)
        except TypeError:
            others[key] = "object", _first_text(part)
        else:
            if part.dtype.kind not in "biufO":
                others[key] = str(part.dtype), _first_text(part)
    _refuse_columns(name, others, refusal)
    return np.column_stack(parts)


def _first_text(column: Any) -> str:
    """Return the first text in a column, preferably not a numeral, with its row, for messages; empty if there is no text."""
    texts = [(row, entry) for row, entry in enumerate(column) if isinstance(entry, str)]
    for row, entry in (*((row, entry) for row, entry in texts if not _is_numeral(entry)), *texts[:1]):
        return f"{str(entry)[:40]!r} in row {row}"
    return ""


def _is_numeral(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _refuse_columns(name: str, others: dict[str, tuple[str, str]], refusal: str) -> None:
    """Raise ``TypeError`` if there are `others`, columns without numbers, given with their type and their first text."""
    if others:
        kinds = some_of([f"{key!r}: {kind!r}" for key, (kind, _) in others.items()])
        texts = some_of([f"{key} has {text}" for key, (_, text) in others.items() if text])
        advice = f"{ADVICE}; {DATES}" if any(kind.lower().startswith(("date", "time", "period")) for kind, _ in others.values()) else ADVICE
        raise TypeError(f"{name} {refusal.split(';')[0]}; the columns {{{kinds}}} do not{f' ({texts})' if texts else ''}. {advice}.")
