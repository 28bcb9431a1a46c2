r"""The features of a layer's inputs: the base function and the basis functions of every input, and the weights that edges have for them.

    ``psi_i(x_i) = [b(x_i), B_1(x_i), ..., B_n(x_i)]``,   ``phi_ij(x_i) = psi_i(x_i) . w_ij``,
    ``w_ij = mask_ij [scale_base_ij, scale_sp_ij coef_ij1, ..., scale_sp_ij coef_ijn]``.

The batch is the last axis, as in `kan.bases.bspline`. Both functions have closed-form gradients, because a small network spends its time
not on arithmetic but on the number of operations that autograd has to record and to replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan.bases.base import Basis
from kan.bases.bspline import basis_rows
from kan.bases.slopes import Slopes
from kan.bases.spline_table import SplineTable
from kan.layers.base_functions import BaseFunction, base_rows, is_elementwise, write_base
from kan.modes import composed

__all__ = ["Features", "edge_weight", "feature_rows", "fold", "unfold"]


def feature_rows(x: Tensor, prepared: Any, base_fun: BaseFunction, basis: Basis) -> Tensor:
    """``psi`` at `x` ``(I, B)``: ``(I, n+1, B)``, differentiable any number of times; `prepared` is what `basis` has made of its grid."""
    if not isinstance(prepared, SplineTable):
        return torch.cat([base_rows(base_fun, x)[:, None], basis.rows(x, prepared)], dim=1)
    if is_elementwise(base_fun) and not composed():
        rows: Tensor = _FeatureRows.apply(x, prepared, base_fun, basis)
        return rows
    return torch.cat([base_rows(base_fun, x)[:, None], basis_rows(x, prepared)], dim=1)


def edge_weight(coef: Tensor, scale_base: Tensor, scale_sp: Tensor, mask: Tensor) -> Tensor:
    """``w`` ``(I, n+1, O)`` from `coef` ``(I, O, n)`` and the scales and the mask ``(I, O)``."""
    if composed():
        return torch.cat([(mask * scale_base)[:, None], coef.transpose(1, 2) * (mask * scale_sp)[:, None]], dim=1)
    weight: Tensor = _EdgeWeight.apply(coef, scale_base, scale_sp, mask)
    return weight


class Features(NamedTuple):
    """The features at some points, without a graph, and what their derivatives need.

    Attributes:
        rows: ``psi``, ``(I, n+1, B)``.
        base_slopes: ``b'(x)``, ``(I, B)``, when asked for.
        slopes: of the basis functions, when asked for.
    """

    rows: Tensor
    base_slopes: Tensor | None = None
    slopes: Slopes | None = None

    @classmethod
    def at(cls, x: Tensor, prepared: Any, base_fun: BaseFunction, basis: Basis, *, slopes: bool) -> Features:
        """At `x` ``(I, B)``, with an elementwise base function; `prepared` is what `basis` has made of its grid."""
        rows = x.new_empty(x.shape[0], basis.size + 1, x.shape[1])
        of_basis = basis.write_rows(rows, x, prepared, slopes=slopes)
        return cls(rows, write_base(base_fun, x, rows[:, 0], slopes=slopes), of_basis)

    def pull_back(self, grad: Tensor) -> Tensor:
        """Gradient with respect to the points, ``(I, B)``, from the one with respect to `rows`, ``(I, n+1, B)``."""
        assert self.slopes is not None and self.base_slopes is not None
        return self.slopes.contract(grad).addcmul_(grad[:, 0], self.base_slopes)


class _FeatureRows(torch.autograd.Function):
    """Base function and splines in one pass over the points, recorded as one operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: SplineTable, base_fun: BaseFunction, basis: Basis) -> Tensor:
        found = Features.at(x, table, base_fun, basis, slopes=ctx.needs_input_grad[0])
        if found.slopes is not None:
            ctx.save_for_backward(x, found.base_slopes, *found.slopes)
            ctx.table, ctx.base_fun = table, base_fun
        return found.rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (x, base_slopes, *slopes), (grad,) = ctx.saved_tensors, grads
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            (of_base,) = torch.autograd.grad(ctx.base_fun(x), x, grad[:, 0], create_graph=True)
            return of_base + (grad[:, 1:] * basis_rows(x, ctx.table, 1)).sum(1), None, None, None
        return Features(grad, base_slopes, Slopes(*slopes)).pull_back(grad), None, None, None


def fold(coef: Tensor, scale_base: Tensor, scale_sp: Tensor, mask: Tensor) -> Tensor:
    """`edge_weight` without a graph."""
    inputs, outputs, size = coef.shape
    weight = coef.new_empty(inputs, size + 1, outputs)
    torch.mul(mask, scale_base, out=weight[:, 0])
    torch.mul(coef.mT, (mask * scale_sp)[:, None], out=weight[:, 1:])
    return weight


def unfold(grad: Tensor, arguments: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of the four arguments of `edge_weight`, those that are `wanted`, from the one of its result."""
    coef, scale_base, scale_sp, mask = arguments
    base, spline = grad[:, 0], grad[:, 1:]
    along = (spline * coef.mT).sum(1) if wanted[2] or wanted[3] else None
    return (
        (spline * (mask * scale_sp)[:, None]).mT if wanted[0] else None,
        base * mask if wanted[1] else None,
        along * mask if along is not None and wanted[2] else None,
        base * scale_base + along * scale_sp if along is not None and wanted[3] else None,
    )


class _EdgeWeight(torch.autograd.Function):
    """The gradient is made of differentiable operations, which record themselves when a graph of it is wanted."""

    @staticmethod
    def forward(ctx: Any, coef: Tensor, scale_base: Tensor, scale_sp: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(coef, scale_base, scale_sp, mask)
        return fold(coef, scale_base, scale_sp, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        to_coef, *others = unfold(grads[0], ctx.saved_tensors, ctx.needs_input_grad)
        # As users view it. (With a single output it counts as contiguous, but has strides that DistributedDataParallel warns of.)
        return None if to_coef is None else to_coef.contiguous().view(to_coef.shape), *others
