"""The curve of a numeric edge as a function that formulas can name.

It is ``phi_l_i_j(x) = w_0 b(x) + sum_m w_m B_m(x)`` with the base function ``b`` and the functions ``B_m`` of the basis: B-splines on the
knots of the edge, or the functions of another basis on its grid. The weights include the scales and the mask of the edge.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kan.layers.base_functions import base_values, is_elementwise
from kan.layers.edge_functions import has_knots
from kan.layers.kan_layer import KANLayer

__all__ = ["EdgeSpline"]

BASE_SOURCES = {"silu": "x / (1 + {library}.exp(-x))", "identity": "x", "zero": "0 * x"}
"""Source code of the base functions, by their names in networks."""

SPLINE_SOURCE = '''
def spline(x, knots, weights):
    """Sum of weighted B-splines, zero outside of their knots; the recursion of Cox and de Boor."""
    degree = len(knots) - len(weights) - 1
    values = [(x >= low) * (x < high) * 1.0 for low, high in zip(knots[:-1], knots[1:])]
    if degree == 0:
        values[-1] = (x >= knots[-2]) * (x <= knots[-1]) * 1.0
    for p in range(1, degree + 1):
        values = [
            (x - knots[m]) / (knots[m + p] - knots[m]) * values[m]
            + (knots[m + p + 1] - x) / (knots[m + p + 1] - knots[m + 1]) * values[m + 1]
            for m in range(len(values) - 1)
        ]
    return sum(weight * value for weight, value in zip(weights, values))
'''
"""Source code of the function that the source code of every edge calls."""


class EdgeSpline(nn.Module):
    """The numeric branch of one edge in double precision, as a copy that is independent of its layer.

    Args:
        layer: the layer of the edge.
        i, j: input and output of the edge.
        base_name: the name of the layer's base function, if it has one.

    Raises:
        ValueError: if the base function is not a function of one number, but of all inputs of a sample together.
    """

    knots: Tensor
    weights: Tensor

    def __init__(self, layer: KANLayer, i: int, j: int, base_name: object = None) -> None:
        super().__init__()
        edge = layer.get_subset([i], [j]).double()
        self.basis = edge.basis
        self.base_fun: Callable[[Tensor], Tensor] = edge.base_fun
        self.base_name = base_name
        if not _is_of_one_number(self.base_fun, edge.grid.detach()[0]):
            raise ValueError(
                f"an edge with the base function {self.base_fun} is no curve, since that takes all inputs of a sample together: make "
                f"the edge symbolic, or the network with another base_fun."
            )
        with torch.no_grad():
            self.register_buffer("knots", edge.grid.detach().clone())
            self.register_buffer("weights", edge.edge_weight()[0, :, 0].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """The values of the curve at points of any shape, in their dtype."""
        points = x.reshape(1, -1).to(self.knots)
        rows = self.basis.rows(points, self.basis.prepare(self.knots))[0]
        curve = self.weights[0] * self.base_fun(points[0]) + self.weights[1:] @ rows
        return curve.reshape(x.shape).to(x)

    def source(self, name: str, library: str) -> str:
        """Source code that defines the curve as a function, and calls that of `SPLINE_SOURCE`.

        Args:
            name: the name of the function.
            library: the name of numpy or torch in the code.

        Raises:
            ValueError: if the base function has no name, or the basis is not splines.
        """
        if not has_knots(self.basis):
            raise ValueError(
                f"the edge {name} has the basis {self.basis}, of which there is no source code, as there is of splines. Use to_numpy() or "
                f"to_torch(), which call it."
            )
        base = BASE_SOURCES.get(self.base_name) if isinstance(self.base_name, str) else None
        if base is None and float(self.weights[0]) != 0:
            raise ValueError(
                f"the edge {name} has the base function {self.base_name!r}, of which there is no source code; expected one of "
                f"{', '.join(BASE_SOURCES)}. Use to_numpy() or to_torch(), which call it."
            )
        scale, *weights = self.weights.tolist()
        term = "" if scale == 0 or base is None or self.base_name == "zero" else f"{scale!r} * ({base.format(library=library)}) + "
        return (
            f"\ndef {name}(x):\n    knots = {self.knots[0].tolist()!r}\n    weights = {weights!r}\n"
            f"    return {term}spline(x, knots, weights)\n"
        )


@torch.no_grad()
def _is_of_one_number(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a base function gives the same values for the numbers `x`, ``(N,)``, together as for each of them alone."""
    if is_elementwise(function):
        return True
    try:
        together, each = base_values(function, x), torch.cat([base_values(function, number[None]) for number in x])
    except Exception:  # the function may need rows of a certain length
        return False
    return together.shape == x.shape and torch.allclose(together, each, equal_nan=True)
