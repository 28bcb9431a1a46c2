r"""The curvature of a network's penalty, from parabolas that touch each of its terms from above.

`kan.solvers.levenberg_marquardt` uses it in place of second derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from kan.network.trace import FirstLayer, LayerRecord, Trace, covariance
from kan.training.least_squares.coordinates import Columns
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import METRICS
from kan.training.objectives.sparsity import sparsity

__all__ = ["DEVIATION_ROUNDING", "Leaves", "penalty_curvature"]

COEFFICIENT_ROUNDING = 1e-3
"""Added to ``|coef|``, by which the curvature of the term ``sum |coef|`` is divided, so that it stays finite at zero: a round choice."""
DEVIATION_ROUNDING = 1e-12
"""Added to the standard deviation of an edge, by which the curvature of the penalty is divided, so that it stays finite at zero: a round
choice."""


def penalty_curvature(objective: Objective, columns: Columns, x: Tensor, first: FirstLayer | None) -> Tensor:
    """``lamb P`` ``(P, P)`` of the penalty of `objective` at the inputs `x` ``(B, n)``, in the coordinates of `columns`.

    Args:
        objective: the objective of a network in float64.
        columns: the coordinates that are trained.
        x: the inputs.
        first: the first layer's features, if they are known.
    """
    network, p = objective.network, objective.penalty
    with torch.no_grad():
        trace = network.trace(
            x, first=first, corner=objective.corner, singularity_avoiding=objective.singularity_avoiding, y_th=objective.y_th
        )
        layers = [Leaves.of(record) for record in trace.layers]
    with torch.enable_grad():
        total = sparsity(METRICS[p.metric](Trace(trace.structure, list(layers), trace.output)), p.lamb_l1, p.lamb_entropy)
    leaves = [leaf for record in layers for leaf in (record.numeric, record.total)]
    rates = torch.autograd.grad(total, leaves, allow_unused=True)
    matrix = x.new_zeros(columns.count + 1, columns.count + 1)  # the last is for what is not trained
    with torch.no_grad():
        for l, record in enumerate(layers):
            edges = columns.edges[l]
            if edges is None:
                continue
            i, j = edges.inputs, edges.outputs
            slope = sum(
                rate[j, i].clamp(min=0) / (leaf.detach()[j, i] + objective.corner + DEVIATION_ROUNDING)
                for rate, leaf in zip(rates[2 * l : 2 * l + 2], (record.numeric, record.total), strict=True)
                if rate is not None
            )
            assert record.features is not None
            block = covariance(record.features)[i] * torch.as_tensor(slope)[:, None, None]
            coef = network.numeric_layers[l].coef[i, j]
            count, scale = network.numeric_layers[l].out_dim, edges.scale
            if p.lamb_coef:
                block[:, 1:, 1:].diagonal(dim1=1, dim2=2).add_(p.lamb_coef / count / (coef.abs() + COEFFICIENT_ROUNDING) / scale**2)
            if p.lamb_coefdiff:
                change = torch.eye(coef.shape[1], dtype=coef.dtype, device=coef.device).diff(dim=0)
                steep = p.lamb_coefdiff / count / ((coef @ change.t()).abs() + COEFFICIENT_ROUNDING) / scale**2
                block[:, 1:, 1:] += torch.einsum("dm,ed,dn->emn", change, steep, change)
            matrix.index_put_((edges.where[:, :, None], edges.where[:, None, :]), block, accumulate=True)
    return matrix[:-1, :-1] * objective.lamb


@dataclass
class Leaves(LayerRecord):
    """A record of a layer whose deviations are leaves of the autograd graph, so that the penalty can be differentiated by them."""

    numeric: Tensor = field(default_factory=lambda: torch.empty(0))
    total: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(cls, record: LayerRecord) -> Leaves:
        """A copy of `record` with its present deviations as leaves."""
        return cls(
            **{f.name: getattr(record, f.name) for f in fields(LayerRecord)},
            numeric=record.numeric_deviation().clone().requires_grad_(), total=record.edge_deviation().clone().requires_grad_(),
        )  # fmt: skip

    def numeric_deviation(self) -> Tensor:
        """The leaf of the numeric edges' deviations."""
        return self.numeric

    def edge_deviation(self) -> Tensor:
        """The leaf of the whole edges' deviations."""
        return self.total
