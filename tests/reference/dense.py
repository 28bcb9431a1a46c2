"""A KAN layer as its definition says, all B-splines at all points, in torch with plain autograd.

    ``y_j = sum_i base_weight_ji silu(x_i) + sum_i spline_scaler_ji sum_m spline_weight_jim B_m(x_i)``

with the recursion of Cox and de Boor run over all knots of an input. The parameters have the names and shapes of `kan.KANLinear`, so that
the state of either layer can be loaded into the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bases(x: Tensor, grid: Tensor, degree: int) -> Tensor:
    """All B-splines on the knots `grid` ``(I, P)``, which increase, at `x` ``(B, I)``: ``(B, I, P - degree - 1)``."""
    x = x.unsqueeze(-1)
    inside = (grid[:, :-1] <= x) & (x < grid[:, 1:])
    if degree == 0:  # the last interval is closed
        inside[..., -1] |= x[..., 0] == grid[:, -1]
    values = inside.to(x.dtype)
    for p in range(1, degree + 1):
        left = (x - grid[:, : -(p + 1)]) / (grid[:, p:-1] - grid[:, : -(p + 1)])
        right = (grid[:, p + 1 :] - x) / (grid[:, p + 1 :] - grid[:, 1:-p])
        values = left * values[..., :-1] + right * values[..., 1:]
    return values


class DenseKANLinear(nn.Module):
    """`kan.KANLinear` with B-splines and SiLU by the formula of the module. Its weights are zeros until they are set."""

    grid: Tensor

    def __init__(
        self, in_features: int, out_features: int, grid_size: int = 5, spline_order: int = 3, enable_standalone_scale_spline: bool = True
    ) -> None:
        super().__init__()
        self.spline_order = spline_order
        knots = torch.arange(-spline_order, grid_size + spline_order + 1) * (2 / grid_size) - 1
        self.register_buffer("grid", knots.repeat(in_features, 1))
        self.base_weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.spline_weight = nn.Parameter(torch.zeros(out_features, in_features, grid_size + spline_order))
        scaler = nn.Parameter(torch.zeros(out_features, in_features)) if enable_standalone_scale_spline else None
        self.spline_scaler: nn.Parameter | None
        self.register_parameter("spline_scaler", scaler)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, O)`` at `x` ``(B, I)``."""
        outputs = len(self.base_weight)
        weight = self.spline_weight if self.spline_scaler is None else self.spline_weight * self.spline_scaler[..., None]
        splines = F.linear(bases(x, self.grid, self.spline_order).view(len(x), -1), weight.view(outputs, -1))
        return F.linear(F.silu(x), self.base_weight) + splines


class DenseKANStack(nn.Module):
    """`DenseKANLinear` layers one after another, like `kan.KANStack`."""

    def __init__(self, layers_hidden: Sequence[int], grid_size: int = 5, spline_order: int = 3, **options: Any) -> None:
        super().__init__()
        sizes = zip(layers_hidden[:-1], layers_hidden[1:], strict=True)
        self.layers = nn.ModuleList(DenseKANLinear(n_in, n_out, grid_size, spline_order, **options) for n_in, n_out in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, layers_hidden[-1])`` at `x` ``(B, layers_hidden[0])``."""
        for layer in self.layers:
            x = layer(x)
        return x
