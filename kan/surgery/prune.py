"""Pruning: dropping what contributes nothing, judged by attribution scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from kan.analysis.attribution import attribute
from kan.network.network import Network
from kan.surgery.select import select_nodes

__all__ = ["active_nodes", "prune", "prune_edges_", "prune_nodes"]

N = TypeVar("N", bound=Network)


def prune(network: N, node_th: float = 1e-2, edge_th: float = 3e-2) -> N:
    """A new network without the hidden nodes and edges whose score is not above a threshold.

    Args:
        network: left alone; it must have seen data, on which the scores are computed.
        node_th: threshold of the node scores.
        edge_th: threshold of the edge scores, which are computed anew after the nodes are gone.

    Raises:
        ValueError: if nothing would be left between inputs and outputs; the message names a threshold that leaves something.
    """
    new = prune_nodes(network, node_th)
    prune_edges_(new, edge_th)
    return new


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
    inputs, outputs = range(network.width_in[0]), range(network.width_in[-1])
    return select_nodes(network, [list(inputs), *hidden, list(outputs)])


@torch.no_grad()
def active_nodes(network: Network, threshold: float = 1e-2) -> list[list[int]]:
    """For every hidden layer the indices of the nodes whose attribution score is above `threshold`.

    Raises:
        ValueError: if a layer has none.
    """
    hidden = []
    for l, score in enumerate(attribute(network.trace()).node_scores[1:-1], start=1):
        kept = [int(i) for i in (score > threshold).nonzero()[:, 0]]
        if not kept:
            raise ValueError(
                f"pruning with the node threshold {threshold:g} would drop every node of layer {l}; its largest score is {float(score.max()):.3g}. "
                f"Choose a threshold below that."
            )
        hidden.append(kept)
    return hidden


@torch.no_grad()
def prune_edges_(network: Network, threshold: float = 3e-2) -> None:
    """Mask the numeric edges whose attribution score is not above `threshold`, in place. Symbolic edges are kept.

    Raises:
        ValueError: if a layer would lose all its edges; the network is left alone then.
    """
    masks = []
    for l, score in enumerate(attribute(network.trace()).edge_scores):
        layer = network.act_fun[l]
        mask = layer.mask * (score.t() > threshold)
        if bool(layer.mask.any()) and not bool(mask.any()) and not network.symbolic_fun[l].active():
            raise ValueError(
                f"pruning with the edge threshold {threshold:g} would drop every edge of layer {l}; its largest score is {float(score.max()):.3g}. "
                f"Choose a threshold below that."
            )
        masks.append(mask)
    for layer, mask in zip(network.act_fun, masks, strict=True):
        layer.mask.copy_(mask)


def _checked(network: Network, active: Sequence[Sequence[int]]) -> list[list[int]]:
    """`active` with negative indices resolved."""
    sizes = network.width_in[1:-1]
    if len(active) != len(sizes):
        raise ValueError(f"active_neurons_id must have one list of node indices for each of the {len(sizes)} hidden layers; got {len(active)}.")
    resolved = []
    for l, (ids, size) in enumerate(zip(active, sizes, strict=True), start=1):
        wrong = [i for i in ids if not -size <= i < size]
        if wrong or not ids:
            raise ValueError(f"layer {l} has nodes 0 to {size - 1}, at least one of which must be kept; got {list(ids)}.")
        resolved.append(sorted({i % size for i in ids}))
    return resolved
