"""The shared library of compiled kernels: whether there is one, and its functions.

The library is made of the C sources beside this file when the package is built where a compiler is (``setup.py``). Without it, or with the
environment variable ``KAN_KERNELS=0``, torch does all the work. ``KAN_KERNELS`` may also name the best instruction set to use, as in
``KAN_KERNELS=avx2``, so that different processors round alike. The library is called through ``ctypes``, and so depends on neither the
version of Python nor that of torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
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
INSTRUCTION_SETS = ("base", "avx2", "avx512")
"""Instruction sets that functions may be compiled for, from the oldest to the newest; see ``setup.py``."""
RESULTS = {"new": ctypes.c_void_p, "workspace": ctypes.c_int64}
"""What functions return whose names have these endings; the others return a number of 32 bits, or nothing."""


class _Switch:
    """Whether the kernels are used where there are any."""

    on = os.environ.get("KAN_KERNELS", "1") != "0"


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
        handle.kan_instruction_set.restype = handle.kan_sources.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:  # for another system, or not the library
        return {}, f"cannot be loaded: {error}"
    best, made_of = handle.kan_instruction_set().decode(), handle.kan_sources().decode()
    sources = sorted(Path(__file__).with_name("csrc").glob("*.[ch]"))
    if made_of and sources and made_of != _fingerprint(sources):
        return {}, "made of other sources than those in kan/kernels/csrc: install the checkout again"
    wanted = os.environ.get("KAN_KERNELS")
    chosen = min(best, wanted, key=INSTRUCTION_SETS.index) if wanted in INSTRUCTION_SETS else best
    return {dtype: Library(handle, f"{suffix}_{chosen}") for dtype, suffix in SUFFIXES.items()}, chosen


def _fingerprint(paths: Sequence[Path]) -> str:
    """The hash of the C sources that ``setup.py`` writes into the library. It guards a checkout whose library is older than its sources."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def library(dtype: torch.dtype) -> Library | None:
    """The kernels for tensors of `dtype` on a CPU; None where there are none, or they are switched off."""
    return _loaded()[0].get(dtype) if _Switch.on else None


def available() -> str:
    """Whether the kernels are there and in use, and their instruction set; or why they are not. `kan.show_versions` prints it."""
    found, what = _loaded()
    if not found:
        return f"no ({what})"
    return f"yes ({what})" if _Switch.on else f"switched off ({what})"


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Use the kernels, or do without them, within a ``with`` block. The switch holds for all threads, and is for one of them to turn."""
    before, _Switch.on = _Switch.on, on
    try:
        yield
    finally:
        _Switch.on = before
