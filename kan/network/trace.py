r"""The record of one pass: inputs, features and sums of every layer, and the statistics of its edges.

No tensor of shape ``(B, O, I)`` is made unless edge activations are asked for; how the deviations of edges do without is told in
`kan.layers.deviation`. A dead edge has the statistic 0 and the gradient 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kan.layers.deviation import covariance, deviation, edge_deviation, safe_sqrt
from kan.layers.symbolic_layer import SymbolicEdges
from kan.network.structure import Structure

__all__ = ["CalledRecord", "FirstLayer", "LayerRecord", "Trace", "covariance", "deviation", "safe_sqrt", "slopes_of"]

INPUT_OFFSET = 0.1
"""Added to the deviation of an edge's input before an edge's deviation is divided by it (pykan's ``acts_scale``)."""


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """Features of the first layer on fixed data, which stay the same until its grid moves.

    Attributes:
        features: ``(B, I, n+1)``, with the batch last in memory.
        inputs: ``(B, I)``.
    """

    features: Tensor
    inputs: Tensor

    @cached_property
    def covariance(self) -> Tensor:
        """Covariance of the features, ``(I, n+1, n+1)``, computed when a penalty first needs it."""
        with torch.inference_mode(False), torch.no_grad():
            return covariance(self.features)

    @cached_property
    def deviation(self) -> Tensor:
        """Standard deviation of the inputs, ``(I,)``, likewise."""
        with torch.inference_mode(False), torch.no_grad():
            return deviation(self.inputs)

    def part(self, rows: slice) -> FirstLayer:
        """The same for some of the data."""
        return FirstLayer(self.features[rows], self.inputs[rows])


def slopes_of(output: Tensor, values: Sequence[Tensor], retain: bool) -> list[Tensor]:
    """Derivatives of the sum of `output` with respect to each of `values` in its graph; zeros for what it does not depend on."""
    known = [value for value in values if value.requires_grad]
    found = iter(torch.autograd.grad(output.sum(), known, retain_graph=retain, allow_unused=True) if known else ())
    slopes = (next(found) if value.requires_grad else None for value in values)
    return [torch.zeros_like(value) if slope is None else slope for value, slope in zip(values, slopes, strict=True)]


@dataclass
class LayerRecord:
    """One layer of one pass; ``I`` nodes to ``O`` sub-nodes.

    Attributes:
        inputs: ``(B, I)``.
        features, weight: of the numeric edges, ``(B, I, n+1)`` (with the batch last in memory) and ``(I, n+1, O)``; None when all are
            masked.
        symbolic: outputs of the symbolic edges; None when there are none.
        sums: sub-node sums, ``(B, O)``.
        premult: after the sub-node scale and bias, ``(B, O)``.
        outputs: the next layer's nodes.
        first: what is known already about the first layer.
        corner: rounds the deviations of the edges, see `safe_sqrt`.
    """

    inputs: Tensor
    features: Tensor | None
    weight: Tensor | None
    symbolic: SymbolicEdges | None
    sums: Tensor
    premult: Tensor
    outputs: Tensor
    first: FirstLayer | None = None
    corner: float = 0.0

    def numeric_deviation(self) -> Tensor:
        """``std_b`` of the numeric part of every edge, ``(O, I)``."""
        if self.features is None or self.weight is None:
            return self.inputs.new_zeros(self.sums.shape[1], self.inputs.shape[1])
        known = None if self.first is None else self.first.covariance
        return edge_deviation(self.features.permute(1, 2, 0), self.weight, known, self.corner)

    def edge_deviation(self) -> Tensor:
        """``std_b`` of every edge, numeric and symbolic parts together, ``(O, I)``."""
        total = self.numeric_deviation()
        if self.symbolic is None:
            return total
        inputs, outputs, values = self.symbolic
        return total.index_put((outputs, inputs), deviation(values + self._numeric(inputs, outputs), self.corner))

    def numeric_mean(self) -> Tensor:
        """Mean over the batch of the numeric part of every edge, ``(O, I)``."""
        if self.features is None or self.weight is None:
            return self.inputs.new_zeros(self.sums.shape[1], self.inputs.shape[1])
        return torch.einsum("in,ino->oi", self.features.mean(dim=0), self.weight)

    def edge_mean(self) -> Tensor:
        """Mean over the batch of every edge, numeric and symbolic parts together, ``(O, I)``."""
        total = self.numeric_mean()
        if self.symbolic is None:
            return total
        inputs, outputs, values = self.symbolic
        return total.index_put((outputs, inputs), values.mean(dim=0), accumulate=True)

    def input_deviation(self) -> Tensor:
        """``std_b`` of the inputs, ``(I,)``."""
        return deviation(self.inputs) if self.first is None else self.first.deviation

    def _numeric(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Numeric part of some edges, ``(B, E)``."""
        if self.features is None or self.weight is None:
            return self.inputs.new_zeros(())
        return (self.features[:, inputs] * self.weight[inputs, :, outputs]).sum(-1)

    def _numeric_into(self, j: int) -> Tensor:
        """Numeric parts of the edges to sub-node `j`, ``(B, I)``."""
        if self.features is None or self.weight is None:
            return self.inputs.new_zeros(self.inputs.shape)
        return torch.einsum("bin,in->bi", self.features, self.weight[:, :, j])

    def _numeric_postacts(self) -> Tensor:
        """Numeric parts of all edges, ``(B, O, I)``."""
        batch, size = self.inputs.shape
        if self.features is None or self.weight is None:
            return self.inputs.new_zeros(batch, self.sums.shape[1], size)
        return torch.einsum("bin,ino->boi", self.features, self.weight)

    def edge(self, i: int, j: int) -> Tensor:
        """Output of the edge from node `i` to sub-node `j`, ``(B,)``."""
        index = torch.tensor([i], device=self.inputs.device), torch.tensor([j], device=self.inputs.device)
        value = self._numeric(*index) + self.inputs.new_zeros(self.inputs.shape[0], 1)
        if self.symbolic is not None:
            here = (self.symbolic.inputs == i) & (self.symbolic.outputs == j)
            value = value + self.symbolic.values[:, here].sum(dim=1, keepdim=True)
        return value[:, 0]

    def into(self, j: int) -> Tensor:
        """Outputs of the edges to sub-node `j`, ``(B, I)``."""
        values = self._numeric_into(j)
        if self.symbolic is not None:
            here = self.symbolic.outputs == j
            values = values.index_add(1, self.symbolic.inputs[here], self.symbolic.values[:, here])
        return values

    def postacts(self) -> Tensor:
        """Outputs of all edges, ``(B, O, I)``."""
        values = self._numeric_postacts()
        return values if self.symbolic is None else self.symbolic.added_to(values)


@dataclass
class CalledRecord(LayerRecord):
    """The record of a layer that was called as a module: what it says of its edges is taken as it is.

    Attributes:
        values: outputs of the numeric edges, ``(B, O, I)``.
    """

    values: Tensor = field(default_factory=lambda: torch.empty(0))

    def numeric_deviation(self) -> Tensor:
        """As there."""
        return deviation(self.values, self.corner)

    def numeric_mean(self) -> Tensor:
        """As there."""
        return self.values.mean(dim=0)

    def _numeric(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        return self.values[:, outputs, inputs]

    def _numeric_into(self, j: int) -> Tensor:
        return self.values[:, j]

    def _numeric_postacts(self) -> Tensor:
        return self.values


@dataclass
class Trace:
    """The record of one pass, layer by layer.

    Attributes:
        structure: of the network.
        layers: one `LayerRecord` per KAN layer.
        output: the network's output, ``(B, outputs)``: the last nodes, in the user's units where the network maps them to these.
        given: what a program has put in the place of parts of it, by pykan's names, see `kan.network.user_code.recorded_trace`.
    """

    structure: Structure
    layers: list[LayerRecord]
    output: Tensor
    given: Mapping[str, list[Tensor]] = field(default_factory=dict)

    @property
    def last_nodes(self) -> Tensor:
        """Values of the last layer of nodes, ``(B, outputs)``: what the network is trained to give."""
        return self.layers[-1].outputs

    @property
    def acts(self) -> list[Tensor]:
        """Node values per layer of nodes, ``(B, n_l)``, the inputs first; normalised where the network normalises them."""
        return [layer.inputs for layer in self.layers] + [self.last_nodes]

    def postacts(self, l: int) -> Tensor:
        """Outputs of all edges of layer `l`, ``(B, m_{l+1}, n_l)``."""
        return self.layers[l].postacts()

    @property
    def edge_actscale(self) -> list[Tensor]:
        """Standard deviation of every edge, ``(m_{l+1}, n_l)`` per layer."""
        return [layer.edge_deviation() for layer in self.layers]

    @property
    def subnode_actscale(self) -> list[Tensor]:
        """Standard deviation of the sub-node sums, ``(m_{l+1},)`` per layer."""
        return [deviation(layer.sums) for layer in self.layers]

    @property
    def acts_scale(self) -> list[Tensor]:
        """Standard deviation of every edge over that of its input plus 0.1, ``(m_{l+1}, n_l)`` per layer."""
        return [layer.edge_deviation() / (layer.input_deviation() + INPUT_OFFSET) for layer in self.layers]

    @property
    def acts_scale_spline(self) -> list[Tensor]:
        """As `acts_scale`, of the numeric part alone."""
        return [layer.numeric_deviation() / (layer.input_deviation() + INPUT_OFFSET) for layer in self.layers]
