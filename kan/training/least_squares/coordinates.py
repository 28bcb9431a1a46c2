r"""The exact Jacobian of a network's outputs with respect to what is trained.

The sub-node sums of layer l are ``s_bj = sum_im psi_bim w_imj``. With the sensitivities ``delta_bj = d out_b / d s_bj`` of one output, of
which one backward pass gives those of all layers,

    ``d out_b / d w_imj = delta_bj psi_bim``,

the row-wise Khatri-Rao product of sensitivities and features. Parameters behind the weights follow by ``w_ij0 = mask scale_base`` and
``w_ijm = mask scale_sp coef_ijm``; those of symbolic edges ``mask (c f(a x + b) + d)`` and of the nodes' affine maps alike.

Coordinates. Coefficients are measured in units of the weight, ``q = mask scale_sp coef`` (and ``mask scale_base``), everything else as
it is. While the coefficients of an edge are trained its ``scale_sp`` is left alone: it says nothing that they do not.

Layout. The batch is the last axis, so that the Jacobian of a chunk is stored transposed, ``(parameters, residuals)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kan.network.autograd_pass import multiplied
from kan.network.network import Network
from kan.network.trace import LayerRecord, Trace, slopes_of

__all__ = ["Columns"]

Writer = Callable[[LayerRecord, "Sensitivity", Tensor], None]
"""Writes the rows of a block, ``(columns, B)``, from a layer's record and the sensitivities of one output."""


@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of one output with respect to a layer's sums, sub-nodes and nodes, ``(units, B)`` each."""

    sums: Tensor
    premult: Tensor
    outputs: Tensor


Pick = Callable[[Sensitivity], Tensor]


@dataclass(frozen=True)
class Block:
    """Trained entries of one parameter.

    Attributes:
        parameter: the parameter.
        index: flat indices of the entries, ``(n,)``.
        scale: of the coordinates, ``q = scale * entry``, ``(n,)``.
        layer: that it belongs to.
        write: its part of the Jacobian.
    """

    parameter: nn.Parameter
    index: Tensor
    scale: Tensor
    layer: int
    write: Writer

    @cached_property
    def where(self) -> tuple[Tensor, ...]:
        """`index` for each axis of the parameter, whose memory may be in any order."""
        # torch.unravel_index would import sympy, a third of a second at the first fit.
        rest, axes = self.index, list[Tensor]()
        for size in reversed(self.parameter.shape):
            axes.insert(0, rest % size)
            rest = rest // size
        return tuple(axes)


class Edges(NamedTuple):
    """Where the weights of a layer's numeric edges stand.

    Attributes:
        inputs, outputs: indices of the edges, ``(E,)``.
        where: columns of their weights, base function first, ``(E, n+1)``; -1 for those that are not trained.
        sign: of the weight over its coordinate, ``(E, n+1)``.
        scale: of the coefficients' coordinates, ``(E, 1)``.
    """

    inputs: Tensor
    outputs: Tensor
    where: Tensor
    sign: Tensor
    scale: Tensor


class Columns:
    """The columns of the Jacobian: which entries of which parameters are trained, and their coordinates.

    Args:
        network: the network. Its masks and what of it is trained must not change afterwards.
        parameters: those that may be trained.
        singularity_avoiding, y_th: how symbolic edges are evaluated, see `Network.forward`.
    """

    def __init__(
        self, network: Network, parameters: Sequence[nn.Parameter], singularity_avoiding: bool = False, y_th: float = 1000.0
    ) -> None:
        self.network = network
        self.singularity_avoiding, self.y_th = singularity_avoiding, y_th
        trained = set(parameters)
        self.blocks: list[Block] = []
        self.edges: list[Edges | None] = []
        for l in range(network.depth):
            self._add_numeric(l, trained)
            self._add_symbolic(l, trained)
            self._add_affine(l, trained)

    @property
    def sizes(self) -> list[int]:
        """Columns of every block."""
        return [len(block.index) for block in self.blocks]

    @property
    def count(self) -> int:
        """Number of columns."""
        return sum(self.sizes)

    @torch.no_grad()
    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)``, in coordinates, to the parameters."""
        for block, part in zip(self.blocks, step.split(self.sizes), strict=True):
            block.parameter.index_put_(block.where, part / block.scale, accumulate=True)

    @torch.no_grad()
    def coordinates(self) -> Tensor:
        """``q`` ``(P,)``."""
        return torch.cat([block.parameter[block.where] * block.scale for block in self.blocks])

    @torch.no_grad()
    def save(self) -> list[Tensor]:
        """The entries as they are."""
        return [block.parameter[block.where] for block in self.blocks]

    @torch.no_grad()
    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""
        for block, values in zip(self.blocks, saved, strict=True):
            block.parameter.index_put_(block.where, values)

    @torch.no_grad()
    def gradient(self) -> Tensor:
        """The ``.grad`` of the parameters, in coordinates, ``(P,)``."""
        parts = []
        for block in self.blocks:
            grad = block.parameter.grad
            parts.append(torch.zeros_like(block.scale) if grad is None else grad[block.where] / block.scale)
        return torch.cat(parts)

    def rows(self, trace: Trace, output: Tensor, *, last: bool) -> Tensor:
        """The transposed Jacobian ``(P, B)`` of one output.

        Args:
            trace: of a pass that has recorded a graph.
            output: ``(B,)``, each entry of which depends on its own sample alone.
            last: whether the graph is not needed afterwards.
        """
        leaves = [leaf for record in trace.layers for leaf in (record.sums, record.premult, record.outputs)]
        parts = [slopes.t() for slopes in slopes_of(output, leaves, retain=not last)]
        with torch.no_grad():
            rows = output.new_empty(self.count, len(output))
            for block, target in zip(self.blocks, rows.split(self.sizes), strict=True):
                block.write(trace.layers[block.layer], Sensitivity(*parts[3 * block.layer : 3 * block.layer + 3]), target)
        return rows

    def _add_numeric(self, l: int, trained: set[nn.Parameter]) -> None:
        layer = self.network.numeric_layers[l]
        i, j = layer.mask.nonzero().unbind(1)
        if not len(i):
            self.edges.append(None)
            return
        size, edge = layer.coef.shape[2], i * layer.out_dim + j
        mask, scale_sp = layer.mask[i, j].detach(), layer.scale_sp[i, j].detach()
        where, sign = torch.full((len(i), size + 1), -1, device=i.device), mask.new_ones(len(i), size + 1)
        scale = torch.where(scale_sp != 0, (mask * scale_sp).abs(), 1.0)
        self.edges.append(Edges(i, j, where, sign, scale[:, None]))

        def base(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
            assert record.features is not None
            torch.mul(record.features[:, i, 0].t(), sensitivity.sums[j] * mask.sign()[:, None], out=out)

        def spline(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
            assert record.features is not None
            delta = sensitivity.sums[j] * (mask * scale_sp).sign()[:, None]
            torch.mul(record.features.permute(1, 2, 0)[i, 1:], delta[:, None], out=out.unflatten(0, (len(i), size)))

        def along(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
            assert record.features is not None
            splines = torch.einsum("bem,em->eb", record.features[:, i, 1:], layer.coef.detach()[i, j])
            torch.mul(splines, sensitivity.sums[j] * mask[:, None], out=out)

        if layer.scale_base in trained:
            where[:, 0], sign[:, 0] = self.count + torch.arange(len(i), device=i.device), mask.sign()
            self.blocks.append(Block(layer.scale_base, edge, mask.abs(), l, base))
        if layer.coef in trained:
            where[:, 1:] = self.count + torch.arange(len(i) * size, device=i.device).view(-1, size)
            sign[:, 1:] = (mask * scale_sp).sign()[:, None]
            entries = edge[:, None] * size + torch.arange(size, device=edge.device)
            self.blocks.append(Block(layer.coef, entries.reshape(-1), scale.repeat_interleave(size), l, spline))
        elif layer.scale_sp in trained:
            self.blocks.append(Block(layer.scale_sp, edge, torch.ones_like(mask), l, along))

    def _add_symbolic(self, l: int, trained: set[nn.Parameter]) -> None:
        layer = self.network.symbolic_layers[l]
        active = layer.active() if self.network.symbolic_enabled else []
        if not active or layer.affine not in trained:
            return
        j = torch.tensor([out for out, _ in active], device=layer.affine.device)
        entries = torch.tensor([(out * layer.in_dim + i) * 4 + part for out, i in active for part in range(4)], device=layer.affine.device)

        def affine(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
            slopes = layer.affine_slopes(record.inputs, self.singularity_avoiding, self.y_th)
            torch.mul(slopes, sensitivity.sums[j][:, None], out=out.unflatten(0, (len(active), 4)))

        self.blocks.append(Block(layer.affine, entries, layer.affine.detach().new_ones(len(entries)), l, affine))

    def _add_affine(self, l: int, trained: set[nn.Parameter]) -> None:
        network = self.network

        def bias(pick: Pick) -> Writer:
            def write(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
                out.copy_(pick(sensitivity))

            return write

        def scale(pick: Pick, value: Callable[[LayerRecord], Tensor]) -> Writer:
            def write(record: LayerRecord, sensitivity: Sensitivity, out: Tensor) -> None:
                torch.mul(pick(sensitivity), value(record).t(), out=out)

            return write

        kinds = (
            (network.subnode_scale[l], scale(lambda s: s.premult, lambda record: record.sums)),
            (network.subnode_bias[l], bias(lambda s: s.premult)),
            (network.node_scale[l], scale(lambda s: s.outputs, lambda record: multiplied(network.structure, l + 1, record.premult))),
            (network.node_bias[l], bias(lambda s: s.outputs)),
        )
        for parameter, write in kinds:
            if parameter in trained:
                index = torch.arange(parameter.numel(), device=parameter.device)
                self.blocks.append(Block(parameter, index, torch.ones_like(parameter.detach()), l, write))
