r"""The product of B-spline values with coefficients, which is the output of a layer of splines.

    ``y[b, o] = sum_i sum_m B_im(x[b, i]) W[o, i, m]``

and its two transposed products, the gradients with respect to ``x`` and ``W``. There are two algorithms:

dense
    Rows of all ``n`` functions (`kan.bases.spline_rows`) and matrix products, which are fastest per operation. Work and memory grow with
    ``n``, so that inputs are processed in blocks whose rows stay in the cache.
gather
    Sparse products, since only ``k + 1`` of the ``n`` values of a point are not zero. The work does not grow with ``n``, but every
    multiplication costs several times as much. For the gradient of ``W`` the points are sorted by span, so that every row of the result is
    written once.

`gathers` chooses between them. Only ``x`` is kept for the transposed products; the rows are computed again.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.scratch import scratch
from kan.bases.spline_rows import local_values, write_rows
from kan.bases.spline_table import SplineTable
from kan.devices import at_hand

__all__ = ["gathers", "spline_product", "spline_product_gradients"]

BLOCK = 1 << 20
"""Largest number of elements in the rows, or in the folded weights, of a block of inputs."""


def gathers(x: Tensor, weight: Tensor, degree: int) -> bool:
    """Whether the sparse algorithm is used: if ``B >= 2 O`` and ``n >= (k + 1) (4 + O/256)``.

    The rule was measured on two cores in float32, for both passes. With ``k = 3`` and ``B = 1024`` both algorithms take the same time at
    n = 11 for 64 inputs and outputs, at 20 for 256 and at 33 for 1024 outputs; at n = 63 the sparse one is faster by factors of 2.5, 1.8
    and 1.2. It transposes the coefficients, which pays only for many points: with ``B <= O`` it is at best equal up to n = 72.
    It requires a CPU with torch's sparse products (MKL).
    """
    (outputs, _, size), batch = weight.shape, len(x)
    worthwhile = batch >= 2 * outputs and size >= (degree + 1) * (4 + outputs / 256)
    return worthwhile and at_hand(x) and torch.backends.mkl.is_available()


def spline_product(x: Tensor, weight: Tensor, scaler: Tensor | None, table: SplineTable) -> Tensor:
    """Compute ``y`` ``(B, O)``, without a graph.

    Args:
        x: ``(B, I)``.
        weight: ``W``, ``(O, I, n)``.
        scaler: factors ``(O, I)`` of ``W``; None for ones.
        table: the table of the splines.
    """
    gather, y = gathers(x, weight, table.degree), x.new_empty(len(x), len(weight))
    if len(x) == 0:
        return y
    for inputs, outputs in _blocks(x, weight, table.degree, gather):
        part, sub = x[:, inputs].t(), table.inputs(inputs.start, inputs.stop)
        if gather:
            matrix = _folded(weight, scaler, inputs, outputs[0], transposed=True)
            _Sparse.at(part, sub).add_product(y, matrix, add=inputs.start > 0)
            continue
        rows = scratch("rows", (len(part), table.size, len(x)), x)
        write_rows(rows, part, sub)
        for some in outputs:
            block, matrix = y[:, some], _folded(weight, scaler, inputs, some)
            block.addmm_(rows.view(-1, len(x)).t(), matrix.t(), beta=float(inputs.start > 0))
    return y


class Gradients(NamedTuple):
    """The requested gradients with respect to the arguments of `spline_product`; None for the others."""

    x: Tensor | None
    weight: Tensor | None
    scaler: Tensor | None


def spline_product_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, scaler: Tensor | None, table: SplineTable, *, to_x: bool, to_weight: bool, to_scaler: bool
) -> Gradients:
    """Compute gradients from `grad` ``(B, O)``, the gradient with respect to ``y``; the other arguments are those of `spline_product`."""
    gather, grad = gathers(x, weight, table.degree), grad.contiguous()
    found = Gradients(
        x.new_empty(x.shape) if to_x else None,
        torch.empty_like(weight, memory_format=torch.contiguous_format) if to_weight else None,
        torch.empty_like(scaler, memory_format=torch.contiguous_format) if scaler is not None and to_scaler else None,
    )
    size, to_matrix = table.size, to_weight or to_scaler
    if len(x) == 0:
        return Gradients(*(None if tensor is None else tensor.zero_() for tensor in found))
    for inputs, outputs in _blocks(x, weight, table.degree, gather):
        part, sub = x[:, inputs].t(), table.inputs(inputs.start, inputs.stop)
        to_points = None
        if gather:
            sparse = _Sparse.at(part, sub, slopes=to_x)
            if to_x:
                to_points = sparse.to_points(grad, _folded(weight, scaler, inputs, outputs[0], transposed=True))
            if to_matrix:
                transposed = sparse.to_matrix(grad).t()
                grad_matrix = scratch("transposed", tuple(transposed.shape), grad).copy_(transposed)
                _unfold(grad_matrix.unflatten(1, (-1, size)), weight, scaler, found, inputs, outputs[0])
        else:
            rows = scratch("rows", (len(part), size, len(x)), x)
            slopes = write_rows(rows, part, sub, slopes=to_x, keep=False)
            if to_matrix:
                for some in outputs:
                    out = scratch("weights", (some.stop - some.start, len(part) * size), x)
                    grad_matrix = torch.mm(grad[:, some].t(), rows.view(-1, len(x)).t(), out=out)
                    _unfold(grad_matrix.unflatten(1, (-1, size)), weight, scaler, found, inputs, some)
            if slopes is not None:
                to_rows = rows.view(-1, len(x))
                for some in outputs:
                    matrix = _folded(weight, scaler, inputs, some).t()
                    to_rows.addmm_(matrix, grad[:, some].t(), beta=float(some.start > 0))
                to_points = slopes.contract(rows)
        if found.x is not None and to_points is not None:
            found.x[:, inputs] = to_points.t()
    return found


def _blocks(x: Tensor, weight: Tensor, degree: int, gather: bool) -> Iterator[tuple[slice, list[slice]]]:
    """Iterate over blocks of inputs, each with its blocks of outputs; the sparse algorithm has a single block of outputs."""
    (outputs, inputs, size), batch = weight.shape, len(x)
    if gather:  # it has many small arrays of k + 1 numbers per point, for which a quarter of a block is best
        count = BLOCK // max(outputs * size, 4 * (degree + 1) * batch)
    else:
        count = BLOCK // max(1, batch * size)
    for part in _equal_parts(inputs, count):
        yield part, _equal_parts(outputs, outputs if gather else BLOCK // ((part.stop - part.start) * size))


def _equal_parts(length: int, most: int) -> list[slice]:
    """Divide a length into the fewest parts of about equal length with at most `most`, and at least 1, in each."""
    step = -(-length // -(-length // max(1, min(length, most))))
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def _folded(weight: Tensor, scaler: Tensor | None, inputs: slice, outputs: slice, transposed: bool = False) -> Tensor:
    """Return the coefficients of some inputs and outputs times their factors, ``(O, I n)``, or ``(I n, O)`` if `transposed`."""
    part = weight[outputs, inputs]
    factor = None if scaler is None else scaler[outputs, inputs, None]
    if transposed:
        part, factor = part.permute(1, 2, 0), None if factor is None else factor.permute(1, 2, 0)
    elif factor is None:
        return part.flatten(1)
    out = scratch("folded", tuple(part.shape), weight)
    (out.copy_(part) if factor is None else torch.mul(part, factor, out=out))
    return out.flatten(0, 1) if transposed else out.flatten(1)


def _unfold(grad: Tensor, weight: Tensor, scaler: Tensor | None, found: Gradients, inputs: slice, outputs: slice) -> None:
    """Write the gradients of the coefficients and of their factors, from the gradient `grad` ``(O, I, n)`` of their product."""
    if found.scaler is not None:
        products = torch.mul(grad, weight[outputs, inputs], out=scratch("products", tuple(grad.shape), grad))
        found.scaler[outputs, inputs] = products @ grad.new_ones(grad.shape[2])  # faster than a sum over a short axis
    if found.weight is not None:
        if scaler is None:
            found.weight[outputs, inputs] = grad
        else:
            torch.mul(grad, scaler[outputs, inputs, None], out=found.weight[outputs, inputs])


class _Sparse(NamedTuple):
    """The values of the functions at some points as a sum of ``k + 1`` sparse matrices, one for each of the local functions.

    Matrix p, ``(B, I n - k)``, contains the values of the functions ``first + p`` in the columns ``first``. All matrices have the same
    columns, and matrix p is multiplied with the rows ``p, p + 1, ...`` of the matrix of coefficients.

    Attributes:
        values, slopes: values and derivatives of the local functions, ``(k+1, I, B)``.
        first: index of the first local function of each point, ``(I, B)``, int64.
        size: number of functions ``n``.
    """

    values: Tensor
    slopes: Tensor | None
    first: Tensor
    size: int

    @classmethod
    def at(cls, x: Tensor, table: SplineTable, *, slopes: bool = False) -> _Sparse:
        local = local_values(x.contiguous(), table, slopes=slopes, keep=False)
        return cls(local.values, local.slopes, local.first, table.size)

    def _offsets(self) -> Tensor:
        """Return the index of the first function of each input among the functions of all inputs, ``(I, 1)``."""
        return torch.arange(0, len(self.first) * self.size, self.size)[:, None]

    def _by_points(self, values: Tensor) -> list[Tensor]:
        """Return the matrices, with `values` ``(k+1, B, I)``."""
        inputs, batch = self.first.shape
        columns = (self.first + self._offsets()).t().int().reshape(-1)
        ends = torch.arange(0, columns.numel() + 1, inputs, dtype=torch.int32)
        shape = batch, inputs * self.size - len(values) + 1
        return [_compressed(ends, columns, value.view(-1), shape) for value in values]

    def add_product(self, y: Tensor, matrix: Tensor, *, add: bool) -> None:
        """Write the product with `matrix` ``(I n, O)`` into `y` ``(B, O)``, or `add` it there."""
        for place, sparse in enumerate(self._by_points(_turned(self.values))):
            torch.addmm(y, sparse, matrix[place : place + sparse.shape[1]], beta=float(add or place > 0), out=y)

    def to_points(self, grad: Tensor, matrix: Tensor) -> Tensor:
        """Return the gradient with respect to the points, ``(I, B)``."""
        assert self.slopes is not None
        slopes = self.slopes.transpose(1, 2)
        total = torch.zeros_like(slopes[0])
        for place, pattern in enumerate(self._by_points(_turned(self.values))):  # only their sparsity pattern matters
            rows = matrix[place : place + pattern.shape[1]]
            found = torch.sparse.sampled_addmm(pattern, grad, rows.t(), beta=0.0, out=pattern).values()
            total.addcmul_(found.view(total.shape), slopes[place])
        return total.t()

    def to_matrix(self, grad: Tensor) -> Tensor:
        """Return the gradient with respect to the matrix of coefficients, ``(I n, O)``."""
        inputs, batch = self.first.shape
        # Sorted by their first functions, the points are the columns of the transposed matrices, row by row. NumPy sorts two-byte integers
        # by radix, which is fast.
        short = self.first.short() if self.size < 2**15 else self.first
        points = torch.from_numpy(np.argsort(short.numpy(), axis=1, kind="stable"))
        count = inputs * self.size - len(self.values) + 1
        ends = F.pad(torch.bincount((self.first + self._offsets()).view(-1), minlength=count).cumsum(0), (1, 0)).int()
        columns = points.view(-1).int()
        result = scratch("weights", (inputs * self.size, grad.shape[1]), grad).zero_()
        order = points.expand(len(self.values), -1, -1)
        values = torch.gather(self.values, 2, order, out=scratch("ordered", tuple(order.shape), grad))
        for place, value in enumerate(values):
            part = result[place : place + count]
            torch.addmm(part, _compressed(ends, columns, value.view(-1), (count, batch)), grad, out=part)
        return result


def _turned(values: Tensor) -> Tensor:
    """Transpose ``(k+1, I, B)`` to ``(k+1, B, I)``."""
    turned = values.transpose(1, 2)
    return scratch("turned", tuple(turned.shape), values).copy_(turned)


def _compressed(ends: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a matrix in the format of compressed sparse rows."""
    _accept_sparse()
    return torch.sparse_csr_tensor(ends, columns, values, shape, check_invariants=False)


@functools.cache
def _accept_sparse() -> None:
    """Trigger torch's warning that sparse rows are in beta state, which appears once per process, while warnings are suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), (0, 0))
