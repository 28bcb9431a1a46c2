r"""The trained parameters of a network as coordinates of a least-squares problem, and their columns of the Jacobian.

The sub-node sums of a layer are ``s_jb = sum_im psi_imb w_imj``. With the sensitivities ``delta_jb = d r_b / d s_jb`` of a quantity that
depends on sample b alone (`kan.network.layer_pass`),

    ``d r_b / d w_imj = delta_jb psi_imb``,

the row-wise Khatri-Rao product of sensitivities and features. The derivatives with respect to the parameters of which the weights are made
follow from ``w_ij0 = mask scale_base`` and ``w_ijm = mask scale_sp coef_ijm``. Those of symbolic edges ``mask (c f(a x + b) + d)`` and of
the affine maps of the nodes are formed likewise.

Coordinates. Coefficients are measured in units of the weight, ``q = mask scale_sp coef`` (and ``mask scale_base``), and all other
parameters in their own units. While the coefficients of an edge are trained, its ``scale_sp`` stays fixed, because it is redundant.

Layout. The batch is the last axis, so that the Jacobian is stored transposed, ``(parameters, residuals)``, with the residuals of one output
after those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kan.devices import Remembered, fingerprint
from kan.network.layer_pass import LayerParts, LayerPass, Sensitivity
from kan.network.network import Network

__all__ = ["Columns", "Entries"]

Writer = Callable[[LayerParts, LayerPass, Sensitivity, Tensor], None]
"""Writes the rows of a block, ``(n, K, B)``, from a layer's parts, its pass and the sensitivities of K quantities."""


@dataclass(frozen=True)
class Entries:
    """The trained entries of one parameter, and how their columns of the Jacobian are computed.

    Attributes:
        parameter: the parameter.
        index: flat indices of the entries, ``(n,)``.
        scale: ratio of coordinate to entry, ``q = scale * entry``, ``(n,)``.
        layer: index of the layer that the parameter belongs to.
        write: writes the columns of the Jacobian, see `Writer`.
    """

    parameter: nn.Parameter
    index: Tensor
    scale: Tensor
    layer: int
    write: Writer

    @cached_property
    def where(self) -> tuple[Tensor, ...] | None:
        """The indices of the entries along each axis of the parameter, which need not be contiguous; None when all entries are trained."""
        if len(self.index) == self.parameter.numel():
            return None
        # torch.unravel_index would import sympy, a third of a second at the first fit.
        rest, axes = self.index, list[Tensor]()
        for size in reversed(self.parameter.shape):
            axes.insert(0, rest % size)
            rest = rest // size
        return tuple(axes)

    def entries(self, of: Tensor) -> Tensor:
        """A copy of the entries ``(n,)`` of a tensor with the parameter's shape."""
        return of.flatten().clone() if self.where is None else of[self.where]

    def add_(self, change: Tensor) -> None:
        """Add `change` ``(n,)`` to the entries."""
        if self.where is None:
            self.parameter.add_(change.view(self.parameter.shape))
        else:
            self.parameter.index_put_(self.where, change, accumulate=True)

    def put_(self, values: Tensor) -> None:
        """Set the entries to `values` ``(n,)``."""
        if self.where is None:
            self.parameter.copy_(values.view(self.parameter.shape))
        else:
            self.parameter.index_put_(self.where, values)


class NumericWeights(NamedTuple):
    """The trained weights of a layer's numeric edges.

    Attributes:
        inputs, outputs: indices of the edges, ``(E,)``.
        where: columns of the Jacobian for the weights of each edge, base function first, ``(E, n+1)``; -1 for weights that are not trained.
        scale: ratio of coordinate to coefficient, ``(E, 1)``.
    """

    inputs: Tensor
    outputs: Tensor
    where: Tensor
    scale: Tensor


class Columns:
    """The columns of the Jacobian: which entries of which parameters are trained, and their coordinates.

    Args:
        network: the network. Its masks and its choice of trained parameters must not change afterwards; `is_current` checks this.
        parameters: the parameters that may be trained.

    Attributes:
        blocks: the trained entries, in the order of the columns.
        edges: for each layer, the columns of the weights of its numeric edges; None when all are masked.
        dense: the layers all of whose edges are live and have all of their weights trained. Their first block is that of the base
            functions, and their second that of the coefficients.
    """

    def __init__(self, network: Network, parameters: Sequence[nn.Parameter]) -> None:
        self.network = network
        trained = set(parameters)
        self.blocks: list[Entries] = []
        self.edges: list[NumericWeights | None] = []
        self.dense: list[int] = []
        self.count = 0
        for l in range(network.depth):
            self._add_numeric(l, trained)
            self._add_symbolic(l, trained)
            self._add_affine(l, trained)
        self.sizes = [len(block.index) for block in self.blocks]
        self._scales = torch.cat([block.scale for block in self.blocks]) if self.blocks else torch.empty(0)
        self._made_of = [Remembered(p) for layer in network.numeric_layers for p in (layer.mask, layer.scale_sp)]
        self._functions = self._present_functions()

    def _present_functions(self) -> list[object]:
        layers = self.network.symbolic_layers if self.network.symbolic_enabled else []
        return [(layer.functions, fingerprint(layer.mask)) for layer in layers if layer.functions]

    def is_current(self) -> bool:
        """Whether masks, scales and symbolic functions have not changed since the columns were made."""
        named = [p for layer in self.network.numeric_layers for p in (layer.mask, layer.scale_sp)]
        same = all(then.is_current(now) for now, then in zip(named, self._made_of, strict=True))
        return same and self._functions == self._present_functions()

    @torch.no_grad()
    def move_(self, step: Tensor) -> None:
        """Add `step` ``(P,)``, in coordinates, to the parameters."""
        for block, part in zip(self.blocks, (step / self._scales).split(self.sizes), strict=True):
            block.add_(part)

    @torch.no_grad()
    def coordinates(self) -> Tensor:
        """The coordinates ``q``, ``(P,)``."""
        return torch.cat(self.save()) * self._scales

    @torch.no_grad()
    def save(self) -> list[Tensor]:
        """The entries as they are."""
        return [block.entries(block.parameter) for block in self.blocks]

    @torch.no_grad()
    def restore_(self, saved: list[Tensor]) -> None:
        """Back to what `save` returned."""
        for block, values in zip(self.blocks, saved, strict=True):
            block.put_(values)

    @torch.no_grad()
    def gradient(self) -> Tensor:
        """The ``.grad`` of the parameters, in coordinates, ``(P,)``."""
        parts = []
        for block in self.blocks:
            grad = block.parameter.grad
            parts.append(torch.zeros_like(block.scale) if grad is None else block.entries(grad))
        return torch.cat(parts) / self._scales

    @torch.no_grad()
    def write(
        self, layers: Sequence[LayerParts], passes: Sequence[LayerPass], back: Sequence[Sensitivity], *, sparing_dense: bool = False
    ) -> Tensor:
        """The transposed Jacobian of K quantities of every sample, ``(P, K, B)``.

        Args:
            layers: the parts of the network's layers.
            passes: their pass, with features.
            back: the derivatives of the quantities with respect to their sums, sub-nodes and nodes.
            sparing_dense: leave out the weights of layers that are `dense`.
        """
        blocks = [block for block in self.blocks if not (sparing_dense and self._is_dense(block))]
        sizes = [len(block.index) for block in blocks]
        found = passes[0].x.new_empty(sum(sizes), len(back[0].sums), passes[0].x.shape[1])
        for block, target in zip(blocks, found.split(sizes), strict=True):
            block.write(layers[block.layer], passes[block.layer], back[block.layer], target)
        return found

    def _is_dense(self, block: Entries) -> bool:
        layer = self.network.numeric_layers[block.layer]
        return block.layer in self.dense and (block.parameter is layer.coef or block.parameter is layer.scale_base)

    def assembled(self, weights: Sequence[Tensor], others: Tensor) -> Tensor:
        """A vector ``(P,)`` in the order of the columns, assembled from the weights of the `dense` layers and all other columns.

        Args:
            weights: the entries for each dense layer, ``(I (n+1), O)``.
            others: the entries for the columns that ``write(sparing_dense=True)`` returns, in their order.
        """
        parts: list[Tensor] = []
        start = 0
        for block in self.blocks:
            if not self._is_dense(block):
                parts.append(others[start : start + len(block.index)])
                start += len(block.index)
                continue
            layer = self.network.numeric_layers[block.layer]
            own = weights[self.dense.index(block.layer)].view(layer.in_dim, -1, layer.out_dim)
            parts.append((own[:, 0] if block.parameter is layer.scale_base else own[:, 1:].mT).flatten())
        return torch.cat(parts)

    def _add(self, parameter: nn.Parameter, index: Tensor, scale: Tensor, layer: int, write: Writer) -> None:
        self.blocks.append(Entries(parameter, index, scale, layer, write))
        self.count += len(index)

    def _add_numeric(self, l: int, trained: set[nn.Parameter]) -> None:
        layer = self.network.numeric_layers[l]
        i, j = layer.mask.nonzero().unbind(1)
        if not len(i):
            self.edges.append(None)
            return
        size, edge, everywhere = layer.coef.shape[2], i * layer.out_dim + j, len(i) == layer.mask.numel()
        mask = layer.mask.detach()[i, j]
        spline = mask * layer.scale_sp.detach()[i, j]
        scale = torch.where(spline != 0, spline, 1.0)
        where = torch.full((len(i), size + 1), -1, device=i.device)
        self.edges.append(NumericWeights(i, j, where, scale[:, None]))
        place = i if everywhere else i.unique(return_inverse=True)[1]  # among the inputs with an edge

        def products(passed: LayerPass, back: Sensitivity, part: slice, out: Tensor) -> None:
            assert passed.features is not None
            rows, delta = passed.features.rows[:, part], back.sums.transpose(0, 1)
            if everywhere:
                shape = (len(rows), len(delta), rows.shape[1], *out.shape[1:])
                torch.mul(rows[:, None, :, None], delta[:, None], out=out.view(shape))
            else:
                rows = rows[i if len(rows) == layer.in_dim else place]
                torch.mul(rows[:, :, None], delta[j][:, None], out=out.view(*rows.shape[:2], *out.shape[1:]))

        def along(parts: LayerParts, passed: LayerPass, back: Sensitivity, out: Tensor) -> None:
            assert passed.features is not None
            rows = passed.features.rows[:, 1:]
            rows = rows[i if len(rows) == layer.in_dim else place]
            splines = (layer.coef.detach()[i, j][:, None] @ rows) * mask[:, None, None]
            torch.mul(splines, back.sums.transpose(0, 1)[j], out=out)

        if layer.scale_base in trained:
            where[:, 0] = self.count + torch.arange(len(i), device=i.device)
            self._add(layer.scale_base, edge, mask, l, lambda parts, passed, back, out: products(passed, back, slice(0, 1), out))
        if layer.coef in trained:
            where[:, 1:] = self.count + torch.arange(len(i) * size, device=i.device).view(-1, size)
            entries = edge[:, None] * size + torch.arange(size, device=edge.device)
            scales = scale.repeat_interleave(size)
            rest = slice(1, None)
            self._add(layer.coef, entries.reshape(-1), scales, l, lambda parts, passed, back, out: products(passed, back, rest, out))
        elif layer.scale_sp in trained:
            self._add(layer.scale_sp, edge, torch.ones_like(mask), l, along)
        if everywhere and layer.scale_base in trained and layer.coef in trained:
            self.dense.append(l)

    def _add_symbolic(self, l: int, trained: set[nn.Parameter]) -> None:
        layer = self.network.symbolic_layers[l]
        active = layer.active() if self.network.symbolic_enabled else []
        if not active or layer.affine not in trained:
            return
        entries = torch.tensor([(out * layer.in_dim + i) * 4 + part for out, i in active for part in range(4)], device=layer.affine.device)

        def write(parts: LayerParts, passed: LayerPass, back: Sensitivity, out: Tensor) -> None:
            assert parts.symbolic is not None and passed.symbolic is not None
            columns, delta = parts.symbolic.columns(passed.symbolic), back.sums.transpose(0, 1)[parts.symbolic.outputs]
            torch.mul(columns[:, :, None], delta[:, None], out=out.view(len(active), 4, *out.shape[1:]))

        self._add(layer.affine, entries, layer.affine.detach().new_ones(len(entries)), l, write)

    def _add_affine(self, l: int, trained: set[nn.Parameter]) -> None:
        network = self.network
        kinds: tuple[tuple[nn.Parameter, Writer], ...] = (
            (network.subnode_scale[l], lambda _, passed, back, out: _scaled(back.premult, passed.sums, out)),
            (network.subnode_bias[l], lambda _, passed, back, out: _scaled(back.premult, None, out)),
            (network.node_scale[l], lambda _, passed, back, out: _scaled(back.nodes, passed.products, out)),
            (network.node_bias[l], lambda _, passed, back, out: _scaled(back.nodes, None, out)),
        )
        for parameter, write in kinds:
            if parameter in trained:
                index = torch.arange(parameter.numel(), device=parameter.device)
                self._add(parameter, index, torch.ones_like(parameter.detach()), l, write)


def _scaled(back: Tensor, values: Tensor | None, out: Tensor) -> None:
    """``(K, units, B)`` to ``(units, K, B)``, times `values` ``(units, B)``."""
    if values is None:
        out.copy_(back.transpose(0, 1))
    else:
        torch.mul(back.transpose(0, 1), values[:, None], out=out)
