r"""The objective of a network that contains the user's own code, as a problem for Levenberg-Marquardt, by automatic differentiation.

`kan.training.least_squares.coordinates` has the derivatives of the library's own layers. Here the network is called as it is, and every row
of the Jacobian is the gradient of one output of one sample with respect to all trained parameters. This is exact, and its cost grows with
the number of rows. The coordinates are the parameters themselves.

The curvature of the penalty is taken along the gradients ``g_e`` of the deviations ``sigma_e`` of edges only,

    ``P = lamb sum_e rho_e / sigma_e g_e g_e'``,   ``rho_e = max(dR/dsigma_e, 0)``.

The curvature of the terms ``lamb_coef`` and ``lamb_coefdiff``, and of a penalty of the user's own, is left out. The gradient is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from kan.modes import composing
from kan.network.trace import Trace
from kan.solvers.levenberg_marquardt import Chunk
from kan.training.least_squares.network_problem import NetworkProblem
from kan.training.least_squares.penalty_curvature import DEVIATION_ROUNDING, Leaves
from kan.training.objectives.of_network import Objective
from kan.training.objectives.penalty import METRICS
from kan.training.objectives.sparsity import sparsity

__all__ = ["CalledProblem"]

MAX_ENTRIES = 2**22
"""Largest number of entries of the Jacobian, and of values of the samples in its computation, that are held at a time: a round choice."""


class Parameters:
    """All entries of some parameters as coordinates; the interface of `kan.training.least_squares.coordinates.Columns`."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.sizes = [p.numel() for p in self.parameters]
        self.count = sum(self.sizes)

    @torch.no_grad()
    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)`` to the parameters."""
        for parameter, part in zip(self.parameters, step.split(self.sizes), strict=True):
            parameter.add_(part.view_as(parameter))

    @torch.no_grad()
    def coordinates(self) -> Tensor:
        """The entries, ``(P,)``."""
        return torch.cat([parameter.reshape(-1) for parameter in self.parameters])

    @torch.no_grad()
    def save(self) -> list[Tensor]:
        """The parameters as they are."""
        return [parameter.clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""
        for parameter, values in zip(self.parameters, saved, strict=True):
            parameter.copy_(values)

    @torch.no_grad()
    def gradient(self) -> Tensor:
        """The ``.grad`` of the parameters, ``(P,)``."""
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters])

    def rows(self, values: Tensor) -> Tensor:
        """The gradients ``(P, R)`` of each of `values` ``(R,)``; the graph is kept."""
        directions = torch.eye(len(values), dtype=values.dtype, device=values.device)
        found: tuple[Tensor | None, ...]
        try:
            found = torch.autograd.grad(values, self.parameters, directions, retain_graph=True, is_grads_batched=True, allow_unused=True)
        except RuntimeError:  # some operation in the graph cannot be batched
            each = [torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True) for value in values]
            found = tuple(_stacked(parts) for parts in zip(*each, strict=True))
        blank: Tensor = values.new_zeros(len(values), 1)
        return torch.cat(
            [blank.expand(-1, size) if part is None else part.flatten(1) for part, size in zip(found, self.sizes, strict=True)], 1
        ).t()


def _stacked(rows: Sequence[Tensor | None]) -> Tensor | None:
    known = [row for row in rows if row is not None]
    return torch.stack([torch.zeros_like(known[0]) if row is None else row for row in rows]) if known else None


class CalledProblem(NetworkProblem):
    """The objective ``loss(network(x), y) + lamb R`` on some samples, with derivatives by autograd.

    Args:
        objective: the objective of a network in float64.
        parameters: the parameters that are trained.
        x, y, weight: the samples, and how much each counts; predictions are ``(B, K)``.
    """

    columns: Parameters  # type: ignore[assignment]

    def __init__(self, objective: Objective, parameters: Sequence[nn.Parameter], x: Tensor, y: Tensor, weight: Tensor | None) -> None:
        super().__init__(objective, Parameters(parameters), x, y, None, weight)  # type: ignore[arg-type]
        with torch.no_grad():
            shape = objective.predict(x).shape
        if len(shape) != 2:
            raise ValueError(
                f"opt='LM' needs predictions of the shape (number of samples, outputs); got {tuple(shape)}. Use 'LBFGS' or 'Adam', or "
                f"return a column."
            )
        self._outputs = shape[1]

    def _closed_form(self) -> None:
        """There is no closed form, because only autograd can differentiate the user's code."""

    @cached_property
    def _samples(self) -> int:
        widest = max(self.columns.count, len(self.x) * max(self.objective.network.width_out))
        return max(1, MAX_ENTRIES // (widest * self._outputs))

    def _chunks(self) -> Iterator[Chunk]:
        with torch.enable_grad(), composing():
            output = self.objective.predict(self.x)
        for start in range(0, len(self.x), self._samples):
            part = slice(start, start + self._samples)
            values = output[part].t()
            with torch.enable_grad(), composing():
                rows = self.columns.rows(values.reshape(-1)).unflatten(1, values.shape)
            residual = self._residual(values.detach(), part)
            yield torch.einsum("pkb,rkb->prb", rows, self._quantities(part)).flatten(1), residual.flatten()

    def _penalty(self) -> Tensor:
        """The curvature of the penalty, times its weight ``lamb``, ``(P, P)``."""
        objective, p = self.objective, self.objective.penalty
        matrix = self.x.new_zeros(self.columns.count, self.columns.count)
        if objective.own_penalty:
            return matrix
        with torch.enable_grad(), composing():
            trace = objective.traced(self.x)
            deviations = [d for record in trace.layers for d in (record.numeric_deviation(), record.edge_deviation())]
            layers = [Leaves.of(record) for record in trace.layers]
            total = sparsity(METRICS[p.metric](Trace(trace.structure, list(layers), trace.output)), p.lamb_l1, p.lamb_entropy)
            leaves = [leaf for record in layers for leaf in (record.numeric, record.total)]
            rates = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
            for values, rate in zip(deviations, rates, strict=True):
                if rate is not None and values.requires_grad:
                    steep = (rate.clamp(min=0) / (values.detach() + objective.corner + DEVIATION_ROUNDING)).flatten()
                    rows = self.columns.rows(values.flatten())
                    matrix += (rows * steep) @ rows.t()
        return matrix * objective.lamb
