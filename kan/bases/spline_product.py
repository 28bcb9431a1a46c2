r"""The product of B-spline values with coefficients: what a layer of splines does, in the least time and memory.

    ``y[b, o] = sum_i sum_m B_im(x[b, i]) W[o, i, m]``

and its two transposed products, the gradients with respect to ``x`` and ``W``. Two ways:

dense
    Rows of all ``n`` functions (`kan.bases.spline_rows`) and matrix products. A processor is at its best with those; work and memory grow
    with ``n``, so it goes by blocks of inputs whose rows stay in the cache.
gather
    Sparse products: of the ``n`` values of a point ``k + 1`` are not zero. Work does not grow with ``n``, but every multiplication costs
    several times as much. For the gradient of ``W`` points are sorted by span, so that every row of the result is written once.

`gathers` decides. Nothing is kept between a product and its transposed ones but ``x``: rows are made again.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.scratch import scratch
from kan.bases.spline_rows import local_values, write_rows
from kan.bases.spline_table import SplineTable

__all__ = ["gathers", "spline_product", "spline_product_gradients"]

GATHER_FROM = 8
"""Fewest functions, in units of ``k + 1``, from which sparse products are quicker than dense ones (measured on two cores)."""
BLOCK = 1 << 20
"""Most numbers in the rows, or in the folded weights, of a block of inputs."""


def gathers(table: SplineTable, x: Tensor) -> bool:
    """Whether the sparse way is taken for points like `x`; it needs a CPU with torch's sparse products (MKL)."""
    return table.size >= GATHER_FROM * (table.degree + 1) and not x.is_cuda and torch.backends.mkl.is_available()


def spline_product(x: Tensor, weight: Tensor, scaler: Tensor | None, table: SplineTable) -> Tensor:
    """``y`` ``(B, O)``, without a graph.

    Args:
        x: ``(B, I)``.
        weight: ``W``, ``(O, I, n)``.
        scaler: ``(O, I)``, factors of ``W``; or None for ones.
        table: of the splines.
    """
    gather, y = gathers(table, x), x.new_empty(len(x), len(weight))
    for first, last in _blocks(x, weight):
        part = x[:, first:last].t()
        beta = 0.0 if first == 0 else 1.0
        if gather:
            matrix = _folded(weight, scaler, first, last, transposed=True)
            torch.addmm(y, _Sparse.at(part, table.inputs(first, last)).matrix(), matrix, beta=beta, out=y)
        else:
            rows = scratch("rows", (last - first, table.size, len(x)), x)
            write_rows(rows, part, table.inputs(first, last))
            torch.addmm(y, rows.view(-1, len(x)).t(), _folded(weight, scaler, first, last).t(), beta=beta, out=y)
    return y


class Gradients(NamedTuple):
    """Of the arguments of `spline_product`, those that were asked for."""

    x: Tensor | None
    weight: Tensor | None
    scaler: Tensor | None


def spline_product_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, scaler: Tensor | None, table: SplineTable, *, to_x: bool, to_weight: bool, to_scaler: bool
) -> Gradients:
    """Gradients from `grad` ``(B, O)``, that with respect to ``y``; arguments as in `spline_product`."""
    gather, grad = gathers(table, x), grad.contiguous()
    found = Gradients(
        x.new_empty(x.shape) if to_x else None,
        torch.empty_like(weight, memory_format=torch.contiguous_format) if to_weight else None,
        torch.empty_like(scaler, memory_format=torch.contiguous_format) if scaler is not None and to_scaler else None,
    )
    size, to_matrix = table.size, to_weight or to_scaler
    for first, last in _blocks(x, weight):
        part, sub = x[:, first:last].t(), table.inputs(first, last)
        matrix = _folded(weight, scaler, first, last, transposed=gather) if to_x else None
        to_points, grad_matrix = None, None
        if gather:
            sparse = _Sparse.at(part, sub, slopes=to_x)
            if matrix is not None:
                to_points = sparse.to_points(grad, matrix)
            if to_matrix:
                grad_matrix = sparse.to_matrix(grad).t()
        else:
            rows = scratch("rows", (last - first, size, len(x)), x)
            slopes = write_rows(rows, part, sub, slopes=to_x, keep=False)
            if to_matrix:
                out = scratch("weights", (len(weight), (last - first) * size), x)
                grad_matrix = torch.mm(grad.t(), rows.view(-1, len(x)).t(), out=out)
            if matrix is not None and slopes is not None:
                torch.mm(matrix.t(), grad.t(), out=rows.view(-1, len(x)))
                to_points = slopes.contract(rows)
        if found.x is not None and to_points is not None:
            found.x[:, first:last] = to_points.t()
        if grad_matrix is not None:
            _unfold(grad_matrix.unflatten(1, (-1, size)), weight, scaler, found, first, last)
    return found


def _blocks(x: Tensor, weight: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of inputs."""
    (outputs, inputs, size), batch = weight.shape, len(x)
    count = max(1, min(inputs, BLOCK // (size * max(batch, outputs))))
    count = -(-inputs // -(-inputs // count))
    return ((first, min(first + count, inputs)) for first in range(0, inputs, count))


def _folded(weight: Tensor, scaler: Tensor | None, first: int, last: int, transposed: bool = False) -> Tensor:
    """Coefficients of the inputs ``first ... last - 1`` with their factors, ``(O, I n)``, or ``(I n, O)`` when `transposed`."""
    part = weight[:, first:last]
    factor = None if scaler is None else scaler[:, first:last, None]
    if transposed:
        part, factor = part.permute(1, 2, 0), None if factor is None else factor.permute(1, 2, 0)
    elif factor is None:
        return part.flatten(1)
    out = scratch("folded", tuple(part.shape), weight)
    (out.copy_(part) if factor is None else torch.mul(part, factor, out=out))
    return out.flatten(0, 1) if transposed else out.flatten(1)


def _unfold(grad: Tensor, weight: Tensor, scaler: Tensor | None, found: Gradients, first: int, last: int) -> None:
    """Gradients of the coefficients and of their factors from `grad` ``(O, I, n)``, that of their product."""
    part = slice(first, last)
    if found.scaler is not None:
        products = torch.mul(grad, weight[:, part], out=scratch("products", tuple(grad.shape), grad))
        found.scaler[:, part] = products @ grad.new_ones(grad.shape[2])  # quicker than a sum over a short axis
    if found.weight is not None:
        if scaler is None:
            found.weight[:, part] = grad
        else:
            torch.mul(grad, scaler[:, part, None], out=found.weight[:, part])


class _Sparse(NamedTuple):
    """The values of the functions at some points as a sparse matrix ``(B, I n)``.

    Attributes:
        values, slopes: ``(k+1, I, B)``.
        first: index of the first function of each point among all, ``(I, B)``, int32.
        width: ``I n``.
    """

    values: Tensor
    slopes: Tensor | None
    first: Tensor
    width: int

    @classmethod
    def at(cls, x: Tensor, table: SplineTable, *, slopes: bool = False) -> _Sparse:
        local = local_values(x.contiguous(), table, slopes=slopes)
        offsets = torch.arange(len(x), device=x.device)[:, None] * table.size
        return cls(local.values, local.slopes, local.first.add_(offsets).int(), len(x) * table.size)

    def matrix(self) -> Tensor:
        return self._by_points(self.values.permute(2, 0, 1).reshape(-1))

    def _by_points(self, values: Tensor) -> Tensor:
        """Sparse ``(B, I n)`` with a row per point."""
        functions, inputs, batch = self.values.shape
        places = torch.arange(functions, dtype=torch.int32)[:, None]
        columns = (self.first.t()[:, None] + places).reshape(-1)
        ends = torch.arange(0, columns.numel() + 1, functions * inputs, dtype=torch.int32)
        return _compressed(ends, columns, values, (batch, self.width))

    def to_points(self, grad: Tensor, matrix: Tensor) -> Tensor:
        """Gradient with respect to the points, ``(I, B)``."""
        functions, inputs, batch = self.values.shape
        if grad.dtype == torch.float32:
            pattern = self._by_points(grad.new_zeros(self.values.numel()))
            found = torch.sparse.sampled_addmm(pattern, grad, matrix.t(), beta=0.0).values()
        else:  # the product above is slow for float64
            columns = (self.first.t()[:, None] + torch.arange(functions, dtype=torch.int32)[:, None]).reshape(batch, -1)
            with torch.enable_grad():
                ones = grad.new_ones(columns.shape).requires_grad_()
                total = F.embedding_bag(columns, matrix, per_sample_weights=ones, mode="sum")
            (found,) = torch.autograd.grad(total, ones, grad)
        assert self.slopes is not None
        gradient: Tensor = (found.view(batch, functions, inputs).permute(1, 2, 0) * self.slopes).sum(0)
        return gradient

    def to_matrix(self, grad: Tensor) -> Tensor:
        """Gradient with respect to the matrix of coefficients, ``(I n, O)``."""
        functions, inputs, batch = self.values.shape
        ordered, order = self.first.view(-1).sort()
        # Function f has the points whose first function is one of f-k ... f: in sorted order one stretch, from before[f] on. Stretches of
        # neighbours overlap; laid one after another they begin at starts[f], the sum of the lengths so far.
        before = F.pad(torch.bincount(ordered, minlength=self.width).cumsum(0), (functions, 0))
        starts = before.unfold(0, functions, 1).sum(1)
        shift = starts - before[: len(starts)]
        points, values = (order % batch).int(), self.values.view(functions, -1)
        columns = torch.empty(functions * len(order), dtype=torch.int32)
        entries = grad.new_empty(functions * len(order))
        rank = torch.arange(len(order))
        for place in range(functions):
            slot = shift.index_select(0, ordered + place).add_(rank)
            columns[slot] = points
            entries[slot] = values[place].index_select(0, order)
        return torch.mm(_compressed(starts.int(), columns, entries, (self.width, batch)), grad)


def _compressed(ends: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix in compressed sparse rows."""
    _accept_sparse()
    return torch.sparse_csr_tensor(ends, columns, values, shape, check_invariants=False)


@functools.cache
def _accept_sparse() -> None:
    """Make torch say, where nobody hears it, that its sparse rows are in beta state; it says so once a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), (0, 0))
