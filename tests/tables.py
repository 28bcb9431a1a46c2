"""Frames and series of a library that nobody has: columns, `to_numpy` or `__array__`, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Frame", "Series"]


class Series:
    """A column with a name."""

    def __init__(self, entries: Any, name: str = "y") -> None:
        self.entries, self.name = entries, name

    def __len__(self) -> int:
        return len(self.entries)

    def to_numpy(self) -> np.ndarray:
        """The entries."""
        return np.asarray(self.entries)


class Frame:
    """Columns by name."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.data = {name: np.asarray(column) for name, column in columns.items()}

    @property
    def columns(self) -> list[str]:
        """The names."""
        return list(self.data)

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def __getitem__(self, name: str | Sequence[str]) -> Any:
        return Series(self.data[name], name) if isinstance(name, str) else Frame({one: self.data[one] for one in name})

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.column_stack(list(self.data.values())).astype(dtype)
