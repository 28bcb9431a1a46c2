r"""The objective of a network as a problem of least squares, or of what comes closest to it; see `kan.solvers.levenberg_marquardt`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from kan.network.trace import FirstLayer, LayerRecord, Trace, covariance
from kan.solvers.levenberg_marquardt import Chunk, Linearisation
from kan.training.least_squares.coordinates import Columns
from kan.training.objectives.of_network import METRICS, Objective
from kan.training.objectives.sparsity import sparsity

__all__ = ["Leaves", "ObjectiveProblem"]

CHUNK = 2**22
"""Largest number of entries of the Jacobian that are held at a time."""
LOOSE = 1e4
"""Variance of corrections over the mean squared error that they correct. On exp(sin(pi x) + y^2) with up to 100 intervals the test error
is the same for 1e3 to 1e5; without an anchor coefficients at the ends of the samples follow the last few of them, and test errors are up
to ten times the training error."""
LEAST = 1e-3
"""Added to the magnitude of a coefficient in ``sum |coef|`` where the parabola above that is taken."""
TINY = 1e-12
"""Added to the deviation of an edge likewise."""


@dataclass(frozen=True)
class Anchor:
    """A prior for a network that has been refined: corrections of its coefficients are about as large as its error was.

    Attributes:
        origin: the coordinates before the first step, ``(P,)``.
        error: the mean squared error there.
        loose: variance of corrections over `error`.
    """

    origin: Tensor
    error: float
    loose: float = LOOSE

    def share(self, error: float, samples: int) -> float:
        """``eps`` where the mean squared error is `error`: the ratio of the variances of residuals and corrections, per sample."""
        return error / (samples * self.loose * self.error) if self.error > 0 else 0.0


class ObjectiveProblem:
    """``loss(network(x), y) + lamb R`` on some samples.

    Args:
        objective: of a network in float64.
        columns: what is trained.
        x, y, weight: the samples, and how much each counts.
        first: the first layer's features, if they are known.
        anchor: coordinates that hardly matter are kept near these.
    """

    def __init__(
        self,
        objective: Objective,
        columns: Columns,
        x: Tensor,
        y: Tensor,
        first: FirstLayer | None = None,
        weight: Tensor | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.objective, self.columns = objective, columns
        self.x, self.y, self.first, self.weight = x, y, first, weight
        self.move_, self.save, self.restore_ = columns.move_, columns.save, columns.restore_
        self._anchor = anchor if objective.squares and not objective.lamb else None
        self._share = 0.0 if self._anchor is None else self._anchor.share(self.value_alone(), len(x))
        self._roots: Tensor | None = None  # of the second derivatives of a loss that is no sum of squares, (B, K, K)

    @torch.no_grad()
    def value_alone(self) -> float:
        """The objective."""
        return float(self.objective(self.x, self.y, self.first, self.weight)[0])

    def value(self) -> float:
        """The objective with what the anchor adds."""
        value = self.value_alone()
        return value if self._anchor is None else value + self._share * float(self._away(self._anchor).square().sum())

    def _away(self, anchor: Anchor) -> Tensor:
        return self.columns.coordinates() - anchor.origin

    def linearise(self) -> Linearisation:
        """Its model around the present parameters."""
        outputs = self.objective.network.width_in[-1]
        gradient, penalty = self._slopes()
        anchor = None if self._anchor is None else (self._share, self._away(self._anchor))
        return Linearisation(self._chunks, self.columns.count, len(self.x) * outputs, gradient, penalty, anchor)

    def _slopes(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradient, where it is not that of squares alone, and the curvature of the penalty, if there is one."""
        objective, gradient = self.objective, None
        if objective.lamb or not objective.squares:
            objective.with_gradient(self.x, self.y, self.first, self.weight)
            gradient = self.columns.gradient()
        if not objective.squares:
            self._roots = self._curvature()
        return gradient, self._penalty() if objective.lamb else None

    def _chunks(self) -> Iterator[Chunk]:
        network, outputs = self.objective.network, self.objective.network.width_in[-1]
        size = max(1, CHUNK // (self.columns.count * outputs))
        for start in range(0, len(self.x), size):
            part = slice(start, start + size)
            first = None if self.first is None else self.first._replace(features=self.first.features[part])
            with torch.enable_grad():
                trace = network.trace(
                    self.x[part], first=first, singularity_avoiding=self.objective.singularity_avoiding, y_th=self.objective.y_th
                )
                rows = torch.stack(
                    [self.columns.rows(trace, out, last=o == outputs - 1) for o, out in enumerate(trace.last_nodes.unbind(1))], 2
                )
            yield self._weighted(rows, trace.last_nodes.detach(), part)

    def _weighted(self, rows: Tensor, output: Tensor, part: slice) -> Chunk:
        """Rows ``(P, B, K)`` of the outputs ``(B, K)`` made into those of the residuals."""
        if self._roots is not None:
            rows = torch.einsum("pbk,bkr->pbr", rows, self._roots[part]).flatten(1)
            return rows, rows.new_zeros(rows.shape[1])
        share = torch.full_like(output, 1 / self.y.numel())
        if self.weight is not None:
            share = (self.weight[part] / (self.weight.sum() * output.shape[1]))[:, None].expand_as(output)
        root = share.sqrt()
        return (rows * root).flatten(1), ((output - self.y[part]) * root).flatten()

    def _curvature(self) -> Tensor:
        """``S`` with ``S S'`` half the positive part of the loss' second derivatives with respect to the outputs, ``(B, K, K)``.

        The outputs of one sample must not enter the loss of another.
        """
        with torch.no_grad():
            output = self.objective.predict(self.x)
        with torch.enable_grad():
            output.requires_grad_()
            loss = self.objective.loss(output, self.y, self.weight)
            (slope,) = torch.autograd.grad(loss, output, create_graph=True)
            columns = []
            for k in range(output.shape[1]):
                found = (None,) if not slope.requires_grad else torch.autograd.grad(
                    slope[:, k].sum(), output, retain_graph=True, allow_unused=True
                )  # fmt: skip
                columns.append(torch.zeros_like(output) if found[0] is None else found[0])
        values, vectors = torch.linalg.eigh(torch.stack(columns, 2).detach())
        roots: Tensor = vectors * (values.clamp(min=0) / 2).sqrt()[:, None]
        return roots

    def _penalty(self) -> Tensor:
        """``lamb P`` ``(P, P)``."""
        objective, p, columns = self.objective, self.objective.penalty, self.columns
        network = objective.network
        with torch.no_grad():
            trace = network.trace(
                self.x, first=self.first, corner=objective.corner, singularity_avoiding=objective.singularity_avoiding, y_th=objective.y_th
            )
            layers = [Leaves.of(record) for record in trace.layers]
        with torch.enable_grad():
            total = sparsity(METRICS[p.metric](Trace(trace.structure, list(layers), trace.output)), p.lamb_l1, p.lamb_entropy)
        leaves = [leaf for record in layers for leaf in (record.numeric, record.total)]
        rates = torch.autograd.grad(total, leaves, allow_unused=True)
        matrix = self.x.new_zeros(columns.count + 1, columns.count + 1)  # the last is for what is not trained
        with torch.no_grad():
            for l, record in enumerate(layers):
                edges = columns.edges[l]
                if edges is None:
                    continue
                i, j = edges.inputs, edges.outputs
                slope = sum(
                    rate[j, i].clamp(min=0) / (leaf.detach()[j, i] + objective.corner + TINY)
                    for rate, leaf in zip(rates[2 * l : 2 * l + 2], (record.numeric, record.total), strict=True)
                    if rate is not None
                )
                assert record.features is not None
                block = covariance(record.features)[i] * torch.as_tensor(slope)[:, None, None]
                block = block * edges.sign[:, :, None] * edges.sign[:, None, :]
                coef = network.numeric_layers[l].coef[i, j]
                count, scale = network.numeric_layers[l].out_dim, edges.scale
                if p.lamb_coef:
                    block[:, 1:, 1:].diagonal(dim1=1, dim2=2).add_(p.lamb_coef / count / (coef.abs() + LEAST) / scale**2)
                if p.lamb_coefdiff:
                    change = torch.eye(coef.shape[1], dtype=coef.dtype, device=coef.device).diff(dim=0)
                    steep = p.lamb_coefdiff / count / ((coef @ change.t()).abs() + LEAST) / scale**2
                    block[:, 1:, 1:] += torch.einsum("dm,ed,dn->emn", change, steep, change)
                matrix.index_put_((edges.where[:, :, None], edges.where[:, None, :]), block, accumulate=True)
        return matrix[:-1, :-1] * objective.lamb


@dataclass
class Leaves(LayerRecord):
    """A record whose deviations are variables of their own."""

    numeric: Tensor = field(default_factory=lambda: torch.empty(0))
    total: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(cls, record: LayerRecord) -> Leaves:
        """With the deviations of `record`."""
        return cls(
            **{f.name: getattr(record, f.name) for f in fields(LayerRecord)},
            numeric=record.numeric_deviation().clone().requires_grad_(), total=record.edge_deviation().clone().requires_grad_(),
        )  # fmt: skip

    def numeric_deviation(self) -> Tensor:
        """As there."""
        return self.numeric

    def edge_deviation(self) -> Tensor:
        """As there."""
        return self.total
