"""The numbers in what users have: tensors, arrays, sequences, frames and series.

Every entrance for data takes them from here, so that none loses a mask, reads categories by their codes, or makes numbers of text. pandas,
polars and scipy are looked at only where the caller has imported them.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_dense", "check_pairing", "is_array", "is_frame", "labels_of", "real_numbers"]

ADVICE = "Encode or drop them; .astype(float) makes numbers of those that are stored as categories or text"
DATES = "dates become numbers as the time since one of them, (t - t.min()) / pandas.Timedelta(seconds=1)"


def is_array(value: object) -> bool:
    """Whether `value` is a tensor, a numpy array, a frame or series of pandas or polars, or a sparse matrix, which will be refused."""
    return isinstance(value, (Tensor, np.ndarray)) or is_frame(value) or _is_sparse(value)


def is_frame(value: object) -> bool:
    """Whether `value` is a frame or a series of pandas or polars."""
    return isinstance(value, (*_frames("pandas"), *_frames("polars")))


def labels_of(frame: Any) -> list[Any]:
    """What the columns of a frame, or a series, are called."""
    series: tuple[Any, ...] = (*_frames("pandas")[1:], *_frames("polars")[1:])
    return [frame.name] if isinstance(frame, series) else list(frame.columns)


def real_numbers(name: str, value: Any, refusal: str = "must hold real numbers; got {}") -> Tensor:
    """The numbers in `value` as a tensor that is dense, needs no gradient and has ordinary memory of its own or a tensor's.

    Tensors and arrays keep their kinds of numbers; frames whose columns are all integers become integers, others float64. Decimals,
    fractions and other objects that are real numbers become float64, and what is missing NaN, which is for the caller to refuse.

    Args:
        name: what messages call it.
        value: tensor, array, sequence, frame or series. A tensor may be complex.
        refusal: what is said of a kind of entries that are no numbers.

    Raises:
        TypeError: for text (of numbers, too), categories, dates, complex numbers, other objects, and sparse matrices of scipy.
        ValueError: for masked entries, sparse tensors, and tensors without numbers.

    >>> real_numbers("x", [[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    if isinstance(value, Tensor):
        check_dense(name, value)
        if value.is_inference():  # nothing that is made of such a tensor could be trained on
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
    array = _array(name, value)
    if array.dtype.kind == "O":
        array = _from_objects(name, array, refusal)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} {refusal.format('complex ones' if array.dtype.kind == 'c' else array.dtype)}.")
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(kind, order="C"))


def check_dense(name: str, value: Tensor) -> None:
    """Raise ``ValueError`` unless a tensor is dense and holds numbers, none of them masked."""
    if isinstance(value, torch.masked.MaskedTensor):
        _refuse_masked(name, ~value.get_mask().cpu().numpy())
    if value.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor; got {value.layout}. Convert it with .to_dense().")
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device, which has shapes but no numbers.")


def check_pairing(name: str, x: Any, label: str, y: Any) -> None:
    """Warn if `x` and `y`, called `name` and `label`, are of pandas and their indices say that their rows do not belong together.

    That is so if they share labels and have them in different places. An index ``0, 1, 2 ...`` that pandas has made says nothing, unless
    the other one is the same in another order.
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


def _is_pandas_array(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray))


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, (list, tuple)) and any(isinstance(part, np.ma.MaskedArray) for part in value):
        value = np.ma.array(value)
    if isinstance(value, np.ma.MaskedArray):
        _refuse_masked(name, np.ma.getmaskarray(value))
        value = value.data
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold real numbers, as many in each row; numpy says: {error}.") from error


def _refuse_masked(name: str, mask: np.ndarray) -> None:
    if mask.any():
        rows: Any = mask.reshape(len(mask), -1).any(1) if mask.ndim else mask[None]
        raise ValueError(
            f"{name} must have no masked entries: {int(mask.sum())} of {mask.size} are masked, in {int(rows.sum())} of {len(rows)} rows. "
            f"Drop these rows from inputs and labels alike: keep those where numpy.ma.getmaskarray(values) has no True."
        )


def _from_objects(name: str, array: np.ndarray, refusal: str) -> np.ndarray:
    """An array of Python's objects in float64; missing values are NaN."""
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
    """The numbers of a frame or series of pandas; missing ones are NaN."""
    types = sys.modules["pandas"].api.types
    columns = [(str(frame.name), frame)] if frame.ndim == 1 else [(str(key), frame.iloc[:, i]) for i, key in enumerate(frame.columns)]
    others: dict[str, str] = {}
    parts: list[np.ndarray] = []
    for key, column in columns:
        kind = column.dtype
        if types.is_object_dtype(kind):
            try:
                parts.append(_from_objects(name, column.to_numpy(), refusal))
            except TypeError:
                others[key] = str(kind)
        elif not types.is_numeric_dtype(kind) or types.is_complex_dtype(kind):
            others[key] = str(kind)
        elif types.is_integer_dtype(kind) and not bool(column.isna().any()):
            parts.append(column.to_numpy(dtype=np.int64))
        else:
            parts.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
    _refuse_columns(name, others, refusal)
    return parts[0] if frame.ndim == 1 else np.column_stack(parts) if parts else np.empty((len(frame), 0))


def _from_polars(name: str, frame: Any, refusal: str) -> np.ndarray:
    """The numbers of a frame or series of polars; missing ones are NaN."""
    polars = sys.modules["polars"]
    columns = {frame.name: frame.dtype} if isinstance(frame, polars.Series) else dict(frame.schema)
    _refuse_columns(name, {k: str(kind) for k, kind in columns.items() if not (kind.is_numeric() or kind == polars.Boolean)}, refusal)
    return np.asarray(frame.to_numpy())


def _refuse_columns(name: str, others: dict[str, str], refusal: str) -> None:
    if others:
        advice = f"{ADVICE}; {DATES}" if any(kind.lower().startswith(("date", "time", "period")) for kind in others.values()) else ADVICE
        raise TypeError(f"{name} {refusal.split(';')[0]}; the columns {others} do not. {advice}.")
