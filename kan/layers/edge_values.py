"""The values of all edges of a layer by the compiled kernels, where these know its splines and its base function."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kan.bases.bspline import basis_rows
from kan.bases.spline_table import SplineTable
from kan.kernels.layer import Edges, gradients, kernels_of
from kan.kernels.layer import edge_values as compiled_values
from kan.kernels.library import Library
from kan.layers.base_functions import BaseFunction, base_rows
from kan.layers.ordinary_module import ordinary
from kan.modes import composed, composing

__all__ = ["edge_values"]


class _Parts(NamedTuple):
    functions: Library
    table: SplineTable
    base_function: BaseFunction
    base: int


def edge_values(
    x: Tensor, coef: Tensor, scale_sp: Tensor | None, scale_base: Tensor | None, prepared: Any, base_function: BaseFunction,
    base: int | None,
) -> Tensor | None:  # fmt: skip
    """``scale_base_ij b(x_i) + scale_sp_ij sum_m coef_ijm B_m(x_i)``, ``(I, B, O)``; None where the kernels cannot compute it.

    Args:
        x: ``(B, I)``.
        coef: ``(I, O, n)``.
        scale_sp: ``(I, O)``; None for ones.
        scale_base: ``(I, O)``; None for zeros.
        prepared: from the basis.
        base_function: ``b``.
        base: its number in the kernels, None if these do not know it.
    """
    if base is None or not isinstance(prepared, SplineTable) or composed():
        return None
    functions = kernels_of(prepared, x, coef, scale_sp, scale_base)
    if functions is None:
        return None
    saved = x if torch.is_inference_mode_enabled() else ordinary(x)
    found: Tensor = _EdgeValues.apply(saved.contiguous(), coef, scale_sp, scale_base, _Parts(functions, prepared, base_function, base))
    return found


class _EdgeValues(torch.autograd.Function):
    """A graph of the gradient is one of torch's own operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coef: Tensor, scale_sp: Tensor | None, scale_base: Tensor | None, parts: _Parts) -> Tensor:
        ctx.save_for_backward(x, coef, scale_sp, scale_base)
        ctx.parts = parts
        return compiled_values(parts.functions, Edges(x, coef, scale_sp, scale_base, parts.table, parts.base, inputs_first=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, (grad,), parts = ctx.saved_tensors, grads, ctx.parts
        x, coef, scale_sp, scale_base = saved
        wanted = ctx.needs_input_grad[:4]
        many = not torch._C._has_storage(grad)  # a batch of gradients, as torch.autograd.grad(is_grads_batched=True) has them
        if torch.is_grad_enabled() or many:
            with torch.enable_grad(), composing() if many else nullcontext():
                weight = coef if scale_sp is None else coef * scale_sp[..., None]
                values = torch.einsum("inb,ion->ibo", basis_rows(x.t(), parts.table), weight)
                if scale_base is not None:
                    values = values + base_rows(parts.base_function, x.t())[..., None] * scale_base[:, None]
            leaves = [of for of, want in zip(saved, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(values, leaves, grad, create_graph=torch.is_grad_enabled()))
            return *(next(found) if want else None for want in wanted), None
        edges = Edges(x, coef, scale_sp, scale_base, parts.table, parts.base, inputs_first=True)
        return *gradients(parts.functions, edges, grad.contiguous(), wanted), None
