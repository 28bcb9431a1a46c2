"""Pruning: dropping what contributes nothing, judged by attribution scores.

Scores measure how much an edge varies. What it adds on average is no reason to keep it, but dropping that too would shift the function;
it is held by the biases of the sub-nodes instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from kan.analysis.attribution import attribute
from kan.network.network import Network
from kan.network.trace import Trace
from kan.surgery.select import select_nodes

__all__ = ["active_nodes", "prune", "prune_edges_", "prune_inputs", "prune_nodes"]

N = TypeVar("N", bound=Network)


def prune(network: N, node_th: float = 1e-2, edge_th: float = 3e-2) -> tuple[N, list[list[int]]]:
    """A new network without the hidden nodes and edges whose score is not above a threshold, and the nodes kept of every hidden layer.

    Args:
        network: left alone; it must have seen data, on which the scores are computed.
        node_th: threshold of the node scores.
        edge_th: threshold of the edge scores, which are computed anew after the nodes are gone.

    Raises:
        ValueError: if nothing would be left between inputs and outputs; the message names a threshold that leaves something.
    """
    with torch.no_grad():
        trace = network.trace()
    kept = active_nodes(network, node_th, trace)
    new = _selected(network, _all_but_hidden(network, kept), trace)
    prune_edges_(new, edge_th)
    return new, kept


def prune_nodes(network: N, threshold: float = 1e-2, active: Sequence[Sequence[int]] | None = None) -> N:
    """A new network with the hidden nodes whose score is above `threshold`, or with those that are named.

    Args:
        network: left alone.
        threshold: of the node scores.
        active: instead, for every hidden layer the indices of the nodes to keep.

    Raises:
        ValueError: if a hidden layer would lose all its nodes, or `active` does not fit.
    """
    hidden = active_nodes(network, threshold) if active is None else _checked(network, active)
    return _selected(network, _all_but_hidden(network, hidden))


def prune_inputs(network: N, threshold: float = 1e-2, active: Sequence[int] | None = None) -> N:
    """A new network without the inputs whose score is not above `threshold`, or with those that are named.

    It is called with the same data as before and picks its columns itself.

    Raises:
        ValueError: if no input would be left, or `active` does not fit.
    """
    size = network.width_in[0]
    if active is None:
        with torch.no_grad():
            score = attribute(network.trace()).node_scores[0]
        inputs = [int(i) for i in (score > threshold).nonzero()[:, 0]]
        if not inputs:
            raise ValueError(
                f"pruning with the threshold {threshold:g} would drop every input; the largest score is {float(score.max()):.3g}. "
                f"Choose a threshold below that."
            )
    else:
        inputs = _resolved("inputs", active, size)
    return _selected(network, [inputs, *([*range(n)] for n in network.width_in[1:])])


def _all_but_hidden(network: Network, hidden: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The nodes `hidden` of the hidden layers with all inputs and outputs."""
    return [range(network.width_in[0]), *hidden, range(network.width_in[-1])]


@torch.no_grad()
def _selected(network: N, keep: Sequence[Sequence[int]], trace: Trace | None = None) -> N:
    """`select_nodes`, with what the dropped nodes contributed on average held by the biases; `trace` if there is one already."""
    new = select_nodes(network, keep)
    if network.last_input is not None:
        for l, layer in enumerate((trace or network.trace()).layers):
            dropped = [i for i in range(network.width_in[l]) if i not in set(keep[l])]
            if not dropped:
                continue
            subnodes = [s for i in keep[l + 1] for s in network.structure.subnodes(l + 1, i)]
            _hold_(new, l, layer.edge_mean()[subnodes][:, dropped].sum(dim=1))
    return new


def _hold_(network: Network, l: int, mean: Tensor) -> None:
    """Add a constant to the sub-node sums of layer `l`."""
    network.subnode_bias[l].add_(network.subnode_scale[l] * mean)


@torch.no_grad()
def active_nodes(network: Network, threshold: float = 1e-2, trace: Trace | None = None) -> list[list[int]]:
    """For every hidden layer the indices of the nodes whose attribution score, by `trace` if there is one already, is above `threshold`.

    Raises:
        ValueError: if a layer has none.
    """
    hidden = []
    for l, score in enumerate(attribute(trace or network.trace()).node_scores[1:-1], start=1):
        kept = [int(i) for i in (score > threshold).nonzero()[:, 0]]
        if not kept:
            raise ValueError(
                f"pruning with the node threshold {threshold:g} would drop every node of layer {l}; its largest score is "
                f"{float(score.max()):.3g}. Choose a threshold below that."
            )
        hidden.append(kept)
    return hidden


@torch.no_grad()
def prune_edges_(network: Network, threshold: float = 3e-2, symbolic: bool = False) -> None:
    """Mask the edges whose attribution score is not above `threshold`, in place.

    Args:
        network: changed in place.
        threshold: of the edge scores.
        symbolic: whether symbolic edges are masked, too; they are kept otherwise.

    Raises:
        ValueError: if a layer would lose all its edges, or no path would lead from an input to an output; the network is left alone then.
    """
    trace = network.trace()
    scores = attribute(trace).edge_scores
    masks = []
    for l, score in enumerate(scores):
        numeric, named = network.numeric_layers[l].mask, network.symbolic_layers[l].mask
        kept = (score > threshold).to(score.dtype)
        masks.append((numeric * kept.t(), named * kept if symbolic else named.clone()))
        empty = not any(bool(mask.any()) for mask in masks[l])
        if empty and (bool(numeric.any()) or network.symbolic_layers[l].active()):
            raise ValueError(
                f"pruning with the edge threshold {threshold:g} would drop every edge of layer {l}; its largest score is "
                f"{float(score.max()):.3g}. Choose a threshold below that."
            )
    widest = _widest_path(network, scores, symbolic)
    if widest is not None and not widest > threshold:
        raise ValueError(
            f"pruning with the edge threshold {threshold:g} would cut every path from the inputs to the outputs; the least score on the "
            f"best of them is {widest:.3g}. Choose a threshold below that."
        )
    for l, (left, right) in enumerate(masks):
        record, layer = trace.layers[l], network.symbolic_layers[l]
        mean = (record.numeric_mean() * (left == 0).t()).sum(dim=1)
        if record.symbolic is not None:
            inputs, outputs, values = record.symbolic
            gone = (right[outputs, inputs] == 0).to(values.dtype)
            mean = mean.index_add(0, outputs, values.mean(dim=0) * gone)
        network.numeric_layers[l].mask.copy_(left)
        layer.mask.copy_(right)
        _hold_(network, l, mean)


def _widest_path(network: Network, scores: Sequence[Tensor], symbolic: bool) -> float | None:
    """The least score on that path from an input to an output where it is largest; None if there is no path.

    Masked edges are none, symbolic ones count by their scores only if `symbolic` is True. A multiplication node is reached by any factor.
    """
    reached = scores[0].new_full((network.width_in[0],), math.inf)
    for l, score in enumerate(scores):
        named = network.symbolic_layers[l].mask != 0
        edges = torch.where(network.numeric_layers[l].mask.t() != 0, score, -math.inf)
        edges = torch.where(named, score if symbolic else math.inf, edges)
        subnodes = torch.minimum(edges, reached).amax(dim=1)
        structure = network.structure
        reached = torch.stack([subnodes[list(structure.subnodes(l + 1, i))].amax() for i in range(network.width_in[l + 1])])
    widest = float(reached.amax())
    return None if widest == -math.inf else widest


def _checked(network: Network, active: Sequence[Sequence[int]]) -> list[list[int]]:
    """`active` with negative indices resolved."""
    sizes = network.width_in[1:-1]
    if len(active) != len(sizes):
        raise ValueError(
            f"active_neurons_id must have one list of node indices for each of the {len(sizes)} hidden layers; got {len(active)}."
        )
    return [_resolved(f"nodes of layer {l}", ids, size) for l, (ids, size) in enumerate(zip(active, sizes, strict=True), start=1)]


def _resolved(what: str, ids: Sequence[int], size: int) -> list[int]:
    """Sorted indices, none negative."""
    if not len(ids) or any(not -size <= i < size for i in ids):
        raise ValueError(f"at least one of the {what} must be kept, and they are numbered 0 to {size - 1}; got {list(ids)}.")
    return sorted({int(i) % size for i in ids})
