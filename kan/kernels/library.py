"""The shared library of compiled kernels: whether there is one, and its functions.

The library is made of the C sources beside this file when the package is built where a compiler is (``setup.py``). Without it, or with the
environment variable ``KAN_KERNELS=0``, torch does all the work. It is called through ``ctypes``, and so depends on neither the version of
Python nor that of torch.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["FILE_NAME", "Library", "available", "library", "switched"]

FILE_NAME = "_kernels" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
"""Name of the shared library, which lies beside this file."""
SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
"""The number types that there are kernels for, as they are called in the names of functions."""
RESULTS = {"new": ctypes.c_void_p, "workspace": ctypes.c_int64}
"""What functions return whose names have these endings; the others return a number of 32 bits, or nothing."""

_on = os.environ.get("KAN_KERNELS", "1") != "0"


class Library:
    """The functions for one number type and the best instruction set of this processor, as attributes."""

    def __init__(self, handle: ctypes.CDLL, suffix: str) -> None:
        self._handle, self._suffix = handle, suffix

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._handle, f"kan_{name}_{self._suffix}")
        function.restype = RESULTS.get(name.rpartition("_")[2], ctypes.c_int)
        setattr(self, name, function)
        return function


@cache
def _loaded() -> tuple[dict[torch.dtype, Library], str]:
    """The functions by number type, and the instruction set; no functions, and the reason, where there is no library."""
    path = Path(__file__).with_name(FILE_NAME)
    if not path.exists():
        return {}, "not built"
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        return {}, f"cannot be loaded ({error})"
    handle.kan_instruction_set.restype = ctypes.c_char_p
    chosen = handle.kan_instruction_set().decode()
    return {dtype: Library(handle, f"{suffix}_{chosen}") for dtype, suffix in SUFFIXES.items()}, chosen


def library(dtype: torch.dtype) -> Library | None:
    """The kernels for tensors of `dtype` on a CPU; None where there are none, or they are switched off."""
    return _loaded()[0].get(dtype) if _on else None


def available() -> str:
    """What there is, in words, as `kan.show_versions` says it."""
    found, what = _loaded()
    if not found:
        return f"no ({what})"
    return f"yes ({what})" if _on else f"switched off by KAN_KERNELS=0 ({what})"


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Use the kernels, or do without them, within a ``with`` block."""
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before
