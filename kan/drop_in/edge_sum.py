r"""The sum over a layer's inputs of all its edges, without a tensor that has both an input and an output index beside the batch.

    ``y_j = sum_i u_ij b(x_i) + sum_i s_ij sum_m w_ijm f_im(x_i)``

with base weights ``u``, the base function ``b``, basis functions ``f``, their coefficients ``w`` and optional factors ``s``.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kan.bases.base import Basis
from kan.bases.bspline import basis_rows
from kan.bases.spline_product import spline_product, spline_product_gradients
from kan.bases.spline_table import SplineTable
from kan.kernels.layer import Edges, gradients, kernels_of, sums
from kan.kernels.library import Library
from kan.layers.base_functions import COMPILED_ZERO, BaseFunction, base_values, compiled_number
from kan.layers.ordinary_module import ordinary
from kan.modes import composed, composing

__all__ = ["basis_values", "edge_sum"]

KEPT = 1 << 16
"""Most numbers, basis functions' values and slopes and coefficients together, that a layer of splines keeps for the backward pass; where
there are more it keeps its input alone and works them out again. To keep them takes about 0.6 times as long (measured on two cores)."""


def basis_values(x: Tensor, basis: Basis, prepared: Any) -> Tensor:
    """Values ``(I, n, B)`` at `x` ``(B, I)`` in the dtype of `x`; worked out in float32 if that has two bytes a number."""
    if x.dtype in (torch.float16, torch.bfloat16):
        return basis.rows(x.t().float(), prepared).to(x.dtype)
    return basis.rows(x.t(), prepared)


def edge_sum(
    x: Tensor,
    base_weight: Tensor | None,
    spline_weight: Tensor,
    spline_scaler: Tensor | None,
    base_function: BaseFunction,
    basis: Basis,
    prepared: Any,
) -> Tensor:
    """``y`` ``(B, O)``.

    Args:
        x: ``(B, I)``.
        base_weight: ``u``, ``(O, I)``, or None to go without.
        spline_weight: ``w``, ``(O, I, n)``.
        spline_scaler: ``s``, ``(O, I)``, or None for ones.
        base_function: ``b``.
        basis: of the ``n`` functions.
        prepared: from `basis`.
    """
    if isinstance(prepared, SplineTable) and not composed():
        functions = kernels_of(prepared, x, spline_weight, spline_scaler, base_weight)
        if functions is not None:
            number = COMPILED_ZERO if base_weight is None else compiled_number(base_function)
            saved = x if torch.is_inference_mode_enabled() else ordinary(x)
            parts = _Parts(functions, prepared, base_function, COMPILED_ZERO if number is None else number)
            y: Tensor = _CompiledSum.apply(saved.contiguous(), spline_weight, spline_scaler, None if number is None else base_weight, parts)
            return _with_base(y, base_weight, base_function, x) if number is None else y
    # Sizes come last: where torch is tracing, the number of rows is not known, and to compare it would fix a bound of it.
    plain = not composed() and not _casts(x) and x.dtype in (torch.float32, torch.float64)
    if isinstance(prepared, SplineTable) and plain and 2 * x.numel() * spline_weight.shape[2] + spline_weight.numel() > KEPT:
        saved = x if torch.is_inference_mode_enabled() else ordinary(x)
        y = _SplineSum.apply(saved, spline_weight, spline_scaler, prepared)
    else:
        y = _composed_sum(basis_values(x, basis, prepared), spline_weight, spline_scaler)
    return _with_base(y, base_weight, base_function, x)


def _with_base(y: Tensor, weight: Tensor | None, function: BaseFunction, x: Tensor) -> Tensor:
    return y if weight is None else torch.addmm(y, base_values(function, x), weight.t())


def _casts(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def _composed_sum(rows: Tensor, weight: Tensor, scaler: Tensor | None) -> Tensor:
    scaled = weight if scaler is None else weight * scaler[..., None]
    return F.linear(rows.permute(2, 0, 1).flatten(1), scaled.flatten(1))


class _Parts(NamedTuple):
    """What the kernels are called with besides tensors."""

    functions: Library
    table: SplineTable
    base_function: BaseFunction
    base: int


class _CompiledSum(torch.autograd.Function):
    """The whole sum by the compiled kernels; a graph of its gradient is one of torch's own operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scaler: Tensor | None, base_weight: Tensor | None, parts: _Parts) -> Tensor:
        ctx.save_for_backward(x, weight, scaler, base_weight)
        ctx.parts = parts
        return sums(parts.functions, Edges(x, weight, scaler, base_weight, parts.table, parts.base))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, (grad,) = ctx.saved_tensors, grads
        x, weight, scaler, base_weight = saved
        functions, table, base_function, base = ctx.parts
        wanted = ctx.needs_input_grad[:4]
        many = not torch._C._has_storage(grad)  # a batch of gradients, as torch.autograd.grad(is_grads_batched=True) has them
        if torch.is_grad_enabled() or many:  # a graph of the gradient is wanted, or operations that take batches
            with torch.enable_grad(), composing() if many else nullcontext():
                y = _with_base(_composed_sum(basis_rows(x.t(), table), weight, scaler), base_weight, base_function, x)
            leaves = [of for of, want in zip(saved, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(y, leaves, grad, create_graph=torch.is_grad_enabled()))
            return *(next(found) if want else None for want in wanted), None
        return *gradients(functions, Edges(x, weight, scaler, base_weight, table, base), grad.contiguous(), wanted), None


class _SplineSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scaler: Tensor | None, table: SplineTable) -> Tensor:
        ctx.save_for_backward(x, weight, scaler)
        ctx.table = table
        return spline_product(x, weight, scaler, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x, weight, scaler), (grad,) = ctx.saved_tensors, grads
        to_x, to_weight, to_scaler, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            y = _composed_sum(basis_rows(x.t(), ctx.table), weight, scaler)
            wanted = [of for of, need in zip((x, weight, scaler), ctx.needs_input_grad, strict=False) if need]
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            return next(found) if to_x else None, next(found) if to_weight else None, next(found) if to_scaler else None, None
        gradients = spline_product_gradients(grad, x, weight, scaler, ctx.table, to_x=to_x, to_weight=to_weight, to_scaler=to_scaler)
        return *gradients, None
