"""Derivatives of basis functions at given points, kept between a forward pass and its backward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kan.bases.scratch import scratch

__all__ = ["Slopes", "derivatives"]


class Slopes(NamedTuple):
    """Derivatives of basis functions at the points ``x`` ``(I, B)``.

    Attributes:
        values: of all functions, ``(I, n, B)``; or of the ``k + 1`` functions that are not zero around a point, ``(k+1, I, B)``.
        first: None if there are values of all functions. Otherwise, where the derivative of the first one belongs in the flattened rows,
            ``(I B,)``; those of the next functions follow at distances of ``B``.
    """

    values: Tensor
    first: Tensor | None = None

    def contract(self, rows: Tensor) -> Tensor:
        """``sum_m rows[i, lead + m, b] df_m(x[i, b])``, ``(I, B)`` from `rows` ``(I, lead + n, B)``."""
        if self.first is None:
            shape = tuple(self.values.shape)
            return torch.mul(rows[:, rows.shape[1] - shape[1] :], self.values, out=scratch("products", shape, rows)).sum(1)
        flat, batch = rows.reshape(-1), rows.shape[2]
        total = flat.index_select(0, self.first) * self.values[0].view(-1)
        for place in range(1, len(self.values)):
            total.addcmul_(flat[place * batch :].index_select(0, self.first), self.values[place].view(-1))
        return total.view(self.values.shape[1:])


def derivatives(values: Tensor, x: Tensor) -> Tensor:
    """Derivatives ``(I, n, B)`` of functions with the `values` ``(I, n, B)`` at `x` ``(I, B)``, each with respect to its own point.

    The gradient with respect to `x` is linear in the cotangent of the values, and the derivatives are its factors. Hence two backward
    passes suffice, whatever the number of functions is.

    Args:
        values: with a graph that leads to `x` and that can be differentiated twice. Without such a graph the functions are constant.
        x: the points, which require a gradient.
    """
    if not values.requires_grad:
        return torch.zeros_like(values)
    cotangent = torch.zeros_like(values, requires_grad=True)
    (gradient,) = torch.autograd.grad(values, x, cotangent, create_graph=True, materialize_grads=True)
    if not gradient.requires_grad:
        return torch.zeros_like(values)
    (found,) = torch.autograd.grad(gradient.sum(), cotangent, materialize_grads=True)
    return found
