"""A layer by the compiled kernels: sums over its edges or the values of all edges, and their gradients; see ``csrc/layer.h``."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kan.kernels.library import Library, library
from kan.kernels.network import Table, _Grid
from kan.kernels.splines import MAX_DEGREE

__all__ = ["Edges", "Gradients", "edge_values", "gradients", "kernels_of", "sums"]

MIN_PRODUCTS_OF_THREAD = 1 << 21
"""Fewest products of local splines and weights for which a further thread is used. They take one thread about 0.2 ms; to wake another takes
a tenth of that."""
LANES = 64
"""Outputs of a thread are a multiple of this number, which the kernels take at a time."""
TILE = 128
"""Points of a thread are a multiple of this number, which the kernels take at a time."""

PLAIN = (Tensor, nn.Parameter)
"""Classes of tensors without code of their own."""


class _Edges(ctypes.Structure):
    _fields_ = (
        [("grid", _Grid)]
        + [(name, ctypes.c_int32) for name in ("outputs", "batch", "by_output", "by_input")]
        + [(name, ctypes.c_void_p) for name in ("weight", "scaler", "base", "x")]
    )


class _Gradients(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("y", "values", "weight", "scaler", "base", "x")]


class Edges(NamedTuple):
    """A layer at some points. All tensors are contiguous, on the CPU, and of one number type.

    Attributes:
        x: the points ``(B, I)``.
        weight: coefficients ``(O, I, n)``; ``(I, O, n)`` if the inputs come first.
        scaler: factors of the coefficients, ``(O, I)`` or ``(I, O)``; None for ones.
        base_weight: factors of the base function, of the same shape; None for zeros.
        table: of the splines.
        base: number of the base function in `kan.layers.base_functions`.
        inputs_first: how the weights lie in memory.
    """

    x: Tensor
    weight: Tensor
    scaler: Tensor | None
    base_weight: Tensor | None
    table: Table
    base: int
    inputs_first: bool = False

    @property
    def outputs(self) -> int:
        """Number of outputs ``O``."""
        return self.weight.shape[1 if self.inputs_first else 0]

    def structure(self) -> _Edges:
        """What the kernels read; it is valid as long as the tensors are held."""
        outputs, (batch, inputs) = self.outputs, self.x.shape
        steps = (1, outputs) if self.inputs_first else (inputs, 1)
        found = _Edges(_grid(self.table), outputs, batch, *steps, *map(_address, (self.weight, self.scaler, self.base_weight, self.x)))
        found.grid.base = self.base
        return found

    def threads(self) -> int:
        """Into how many parts the work is divided: at most as many as torch may use threads."""
        products = self.x.numel() * self.outputs * (self.table.degree + 2)
        return max(1, min(torch.get_num_threads(), products // MIN_PRODUCTS_OF_THREAD))


class Gradients(NamedTuple):
    """Gradients with respect to the tensors of `Edges`; None for those that are not wanted."""

    x: Tensor | None
    weight: Tensor | None
    scaler: Tensor | None
    base_weight: Tensor | None


def kernels_of(table: Table, x: Tensor, *weights: Tensor | None) -> Library | None:
    """The kernels for a layer of splines at the points `x`; None if these or its weights are no plain tensors that they can read.

    It does not ask whether torch looks into the computation, as its transforms and compilers do.
    """
    dtype, functions = x.dtype, library(x.dtype)
    if functions is None or table.degree > MAX_DEGREE or table.knots.dtype != dtype or torch.is_autocast_enabled("cpu"):
        return None
    if type(x) not in PLAIN or not x.is_cpu or torch._C._len_torch_dispatch_stack():  # modes of torch's see operators alone
        return None
    for tensor in weights:
        if tensor is not None and not (type(tensor) in PLAIN and tensor.dtype == dtype and tensor.is_cpu and tensor.is_contiguous()):
            return None
    return functions


def sums(functions: Library, edges: Edges) -> Tensor:
    """Outputs ``y`` ``(B, O)`` of the layer."""
    batch, outputs, threads = len(edges.x), edges.outputs, edges.threads()
    y, structure = edges.x.new_empty(batch, outputs), edges.structure()
    address, to = ctypes.byref(structure), ctypes.c_void_p(y.data_ptr())

    def part(start: int, stop: int, first: int, last: int) -> None:
        functions.layer_forward(address, start, stop, first, last, _workspace(functions, address, last - first), to, None)

    if threads == 1:
        part(0, batch, 0, outputs)
    elif outputs >= LANES * threads:
        _divide(lambda first, last: part(0, batch, first, last), outputs, LANES, threads)
    else:
        _divide(lambda start, stop: part(start, stop, 0, outputs), batch, TILE, threads)
    return y


def edge_values(functions: Library, edges: Edges) -> Tensor:
    """The values of all edges, ``(I, B, O)``."""
    batch, outputs, structure = len(edges.x), edges.outputs, edges.structure()
    values = edges.x.new_empty(edges.x.shape[1], batch, outputs)
    address, to = ctypes.byref(structure), ctypes.c_void_p(values.data_ptr())

    def part(start: int, stop: int) -> None:
        functions.layer_forward(address, start, stop, 0, outputs, _workspace(functions, address, outputs), None, to)

    _divide(part, batch, TILE, edges.threads())
    return values


def gradients(functions: Library, edges: Edges, grad: Tensor, wanted: tuple[bool, bool, bool, bool]) -> Gradients:
    """Gradients of the tensors that are wanted, in the order of `Gradients`.

    Args:
        functions: the kernels.
        edges: the layer.
        grad: gradient of the sums ``(B, O)`` or of the edges' values ``(I, B, O)``, contiguous.
        wanted: which are wanted.
    """
    x, weight, scaler, base_weight = (
        None if tensor is None or not want else torch.empty_like(tensor) for tensor, want in zip(edges[:4], wanted, strict=True)
    )
    structure, outputs = edges.structure(), edges.outputs
    place = grad.data_ptr()
    places = (place, None) if grad.dim() == 2 else (None, place)
    to = _Gradients(*places, _address(weight), _address(scaler), _address(base_weight), _address(x))
    address, to_address = ctypes.byref(structure), ctypes.byref(to)

    def part(first: int, last: int) -> None:
        functions.layer_backward(address, to_address, first, last, _workspace(functions, address, outputs))

    _divide(part, edges.x.shape[1], 1, edges.threads())
    return Gradients(x, weight, scaler, base_weight)


def _divide(work: Callable[[int, int], None], length: int, multiple: int, parts: int) -> None:
    """Call `work` with the bounds of parts of a length, each but the first in another thread. Parts are multiples of a number."""
    pieces = -(-length // multiple)
    parts = min(parts, pieces)
    if parts <= 1:
        return work(0, length)
    bounds = [min(length, multiple * (pieces * part // parts)) for part in range(parts + 1)]
    others = [_pool().submit(work, *pair) for pair in zip(bounds[1:-1], bounds[2:], strict=True)]
    try:
        work(bounds[0], bounds[1])
    finally:  # they write into memory of the caller
        for other in others:
            other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for work. The kernels run without the interpreter's lock."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="kan-kernels")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not follow into another process


class _Memory(threading.local):
    """Workspace of a thread, kept for the next call: newly allocated memory costs more than the arithmetic in it."""

    def __init__(self) -> None:
        self.block = ctypes.create_string_buffer(1)


_memory = _Memory()


def _workspace(functions: Library, edges: Any, outputs: int) -> Any:
    needed = functions.layer_workspace(edges, outputs)
    if len(_memory.block) < needed:
        _memory.block = ctypes.create_string_buffer(needed)
    return ctypes.byref(_memory.block)


class _KeptGrid(NamedTuple):
    columns: weakref.ref[Tensor]
    pieces: Tensor
    structure: _Grid


_grids: dict[int, _KeptGrid] = {}


def _grid(table: Table) -> _Grid:
    """What the kernels read of a table, made once for every table."""
    key = id(table.columns)
    kept = _grids.get(key)
    if kept is None or kept.columns() is not table.columns or kept.structure.knots != table.knots.data_ptr():
        pieces = table.columns.t().contiguous()
        structure = _Grid(
            len(table.knots), table.size, table.degree, 0, table.uniform is not None, table.knots.data_ptr(), pieces.data_ptr()
        )  # fmt: skip
        kept = _grids[key] = _KeptGrid(weakref.ref(table.columns, lambda _: _grids.pop(key, None)), pieces, structure)
    return kept.structure


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()

