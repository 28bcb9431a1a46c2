"""Parts of a network that can be switched off and on again: edges, or all edges that lead away from a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kan.network.network import Network
from kan.network.trace import Trace

__all__ = ["Units", "connected_nodes", "drop_", "switches"]


@dataclass(frozen=True)
class Units:
    """A division of branches of edges into units; an edge has a numeric and a symbolic branch.

    Attributes:
        numeric, symbolic: for every layer, the number of the unit to which this branch of each edge belongs, ``(m_{l+1}, n_l)``; -1 for
            none.
        count: number of units.
    """

    numeric: list[Tensor]
    symbolic: list[Tensor]
    count: int

    @classmethod
    def of_edges(cls, numeric: Sequence[Tensor], symbolic: Sequence[Tensor]) -> Units:
        """One unit for every edge with a marked branch, which has its marked branches; marks are ``(m_{l+1}, n_l)`` per layer."""
        marked = [left | right for left, right in zip(numeric, symbolic, strict=True)]
        flat = torch.cat([layer.flatten() for layer in marked])
        numbers = (flat.cumsum(0) - 1).split([layer.numel() for layer in marked])
        parts = [
            [torch.where(on, labels.view_as(on), -1) for on, labels in zip(branch, numbers, strict=True)] for branch in (numeric, symbolic)
        ]
        return cls(parts[0], parts[1], int(flat.sum()))

    @classmethod
    def of_nodes(cls, network: Network, nodes: Sequence[tuple[int, int]]) -> Units:
        """One unit for every node ``(l, i)``: all edges that lead away from it."""
        labels = [torch.full_like(layer.mask, -1, dtype=torch.long) for layer in network.symbolic_layers]
        for number, (l, i) in enumerate(nodes):
            labels[l][:, i] = number
        return cls(labels, labels, len(nodes))

    def gone(self, dropped: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Marks of the numeric and the symbolic branches of the units that are `dropped`, ``(count,)``."""
        known = torch.cat([dropped, dropped.new_zeros(1)])  # the label -1 refers to this last entry
        return [known[labels] for labels in self.numeric], [known[labels] for labels in self.symbolic]


def switches(network: Network) -> list[Tensor]:
    """The tensors that `drop_` changes: masks and biases of all layers."""
    layers = zip(network.numeric_layers, network.symbolic_layers, network.subnode_bias, strict=True)
    return [tensor for numeric, symbolic, bias in layers for tensor in (numeric.mask, symbolic.mask, bias)]


@torch.no_grad()
def drop_(network: Network, trace: Trace, numeric: Sequence[Tensor], symbolic: Sequence[Tensor]) -> None:
    """Switch off the marked branches, ``(m_{l+1}, n_l)`` per layer, in place, and add their means over `trace` to the biases."""
    for l, record in enumerate(trace.layers):
        mean = (record.numeric_mean() * numeric[l]).sum(dim=1)
        if record.symbolic is not None:
            inputs, outputs, values = record.symbolic
            mean = mean.index_add(0, outputs, values.mean(dim=0) * symbolic[l][outputs, inputs])
        network.numeric_layers[l].mask.mul_(~numeric[l].t())
        network.symbolic_layers[l].mask.mul_(~symbolic[l])
        network.subnode_bias[l].add_(network.subnode_scale[l] * mean)


def connected_nodes(network: Network) -> list[list[int]]:
    """For every layer of nodes, the nodes on a path from an input to an output; all lists are empty if there is no path."""
    on = [(left.mask.t() != 0) | (right.mask != 0) for left, right in zip(network.numeric_layers, network.symbolic_layers, strict=True)]
    structure = network.structure
    groups = [[list(structure.subnodes(l, i)) for i in range(network.width_in[l])] for l in range(1, network.depth + 1)]
    ahead = [torch.ones(network.width_in[0], dtype=torch.bool)]
    for edges, nodes in zip(on, groups, strict=True):
        reached = (edges.cpu() & ahead[-1]).any(dim=1)
        ahead.append(torch.stack([reached[subnodes].any() for subnodes in nodes]))
    needed = ahead[-1]
    kept = [needed]
    for l in range(network.depth - 1, -1, -1):
        wanted = torch.zeros(network.width_out[l + 1], dtype=torch.bool)
        for i, subnodes in enumerate(groups[l]):
            wanted[subnodes] = needed[i]
        needed = (on[l].cpu() & wanted[:, None]).any(dim=0) & ahead[l]
        kept.insert(0, needed)
    return [nodes.nonzero()[:, 0].tolist() for nodes in kept]
