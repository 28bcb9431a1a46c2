"""Exchange of hidden nodes, which does not change the function and may shorten the connections.

The connection cost (`kan.analysis.connection`) is a sum over nodes: with the neighbouring layers fixed, node ``v`` contributes ``T_vp`` at
place ``p`` of its layer. Exchanging ``v`` at ``p`` with ``w`` at ``q`` therefore saves ``T_vp + T_wq - T_vq - T_wp``. The table ``T``
follows from the scores of a single pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch

from kan.analysis.attribution import attribute
from kan.analysis.connection import edge_lengths
from kan.analysis.indices import layer_index, node_index
from kan.network.network import Network
from kan.network.structure import Structure

__all__ = ["auto_swap_", "auto_swap_layer_", "swap_"]

MIN_SAVING = 1e-9
"""Smallest saving of an exchange, as a share of the largest entry of the table of costs; less is round-off."""


def swap_(network: Network, l: int, i1: int, i2: int) -> list[int]:
    """Exchange the nodes `i1` and `i2` of the hidden layer `l`, in place, without changing the function.

    Two sum nodes can be exchanged, and two multiplication nodes of any arities. If these differ, the network's ``mult_arity`` changes.

    Returns:
        For each place, the former place of the node that is there now.

    Raises:
        IndexError: if there is no such hidden layer or node.
        ValueError: for a sum node and a multiplication node, since sum nodes come first.
    """
    structure = network.structure
    l = _hidden(structure, l)
    i1, i2 = node_index(structure, l, i1), node_index(structure, l, i2)
    n_sum = structure.n_sum[l]
    if (i1 < n_sum) != (i2 < n_sum):
        raise ValueError(
            f"the nodes {i1} and {i2} of layer {l} are a sum node and a multiplication node; sum nodes come first, so that only two of "
            f"a kind can be exchanged. Sum nodes are 0 to {n_sum - 1}, multiplication nodes {n_sum} to {structure.width_in[l] - 1}."
        )
    order = list(range(structure.width_in[l]))
    order[i1], order[i2] = i2, i1
    _reorder_(network, l, order)
    return order


def auto_swap_layer_(network: Network, l: int) -> list[int]:
    """Exchange nodes of the hidden layer `l` as long as that lowers the connection cost, in place.

    For every place in turn, the node there is exchanged with the node of the same kind and arity for which the cost decreases most.

    Args:
        network: the network, which must have seen data, on which the scores are computed.
        l: the layer.

    Returns:
        For each place, the former place of the node that is there now.

    Raises:
        IndexError: if there is no such hidden layer.
        ValueError: if the network has seen no data.
    """
    l = _hidden(network.structure, l)
    return _auto_swap_(network, [l])[l]


def auto_swap_(network: Network) -> dict[int, list[int]]:
    """`auto_swap_layer_` for all hidden layers, from the first on; returns the places by layer."""
    return _auto_swap_(network, range(1, network.depth))


def _auto_swap_(network: Network, layers: Sequence[int]) -> dict[int, list[int]]:
    with torch.no_grad():
        scores = [score.double().cpu() for score in attribute(network.trace()).edge_scores]
    orders = {}
    for l in layers:
        structure = network.structure
        order = _greedy(_placement_costs(structure, l, scores[l - 1], scores[l]), _peers(structure, l))
        # Scores belong to nodes and move along with them; the next layer needs no further pass.
        scores[l] = scores[l][:, order]
        _reorder_(network, l, order)
        orders[l] = order
    return orders


def _placement_costs(structure: Structure, l: int, incoming: torch.Tensor, outgoing: torch.Tensor) -> np.ndarray:
    """The table ``T_vp``, ``(n_l, n_l)``: the cost of the edges of node ``v`` at place ``p``, for nodes and places of equal arity.

    Args:
        structure: the structure of the network.
        l: a hidden layer.
        incoming: scores of the edges to the sub-nodes of the layer, ``(m_l, n_{l-1})``.
        outgoing: scores of the edges from the nodes of the layer, ``(m_{l+1}, n_l)``.
    """
    by_subnode = (incoming @ edge_lengths(incoming).t()).numpy()
    cost = (outgoing.t() @ edge_lengths(outgoing)).numpy()
    subnodes = [structure.subnodes(l, i) for i in range(structure.width_in[l])]
    for peers in _peers(structure, l):
        for factor in zip(*(subnodes[i] for i in peers), strict=True):
            cost[np.ix_(peers, peers)] += by_subnode[np.ix_(factor, factor)]
    return cost


def _greedy(cost: np.ndarray, groups: list[list[int]]) -> list[int]:
    """The node at each place after the best exchange within its group has been made for every place in turn."""
    order = list(range(len(cost)))
    group_of = {i: group for group in groups for i in group}
    for p in range(len(cost)):
        others = group_of[p]
        there = [order[q] for q in others]
        saved = cost[order[p], p] + cost[there, others] - cost[order[p], others] - cost[there, p]
        best = int(np.argmax(saved))
        if saved[best] > MIN_SAVING * abs(cost).max():
            q = others[best]
            order[p], order[q] = order[q], order[p]
    return order


def _peers(structure: Structure, l: int) -> list[list[int]]:
    """The nodes of layer `l` in groups of the same kind and arity."""
    n_sum, arities = structure.n_sum[l], structure.arities[l]
    products = [[n_sum + r for r, a in enumerate(arities) if a == arity] for arity in sorted(set(arities))]
    return [list(range(n_sum)), *products]


def _hidden(structure: Structure, l: int) -> int:
    index = layer_index(structure, l)
    if not 0 < index < structure.depth:
        hidden = f"1 to {structure.depth - 1}" if structure.depth > 1 else "none"
        raise IndexError(f"only nodes of hidden layers can be exchanged; the layers of this network that are hidden: {hidden}; got {l}.")
    return index


def _subnodes(structure: Structure, l: int, order: Sequence[int]) -> list[int]:
    return [s for i in order for s in structure.subnodes(l, i)]


@torch.no_grad()
def _reorder_(network: Network, l: int, order: Sequence[int]) -> None:
    """Put node ``order[p]`` of the hidden layer `l` at place ``p``."""
    network.forget_pass()
    structure = network.structure
    subnodes = _subnodes(structure, l, order)
    for a, b in _exchanges(subnodes):
        network.numeric_layers[l - 1].swap(a, b, mode="out")
        network.symbolic_layers[l - 1].swap(a, b, mode="out")
    for a, b in _exchanges(order):
        network.numeric_layers[l].swap(a, b, mode="in")
        network.symbolic_layers[l].swap(a, b, mode="in")
    for parameters, places in (
        ((network.node_bias[l - 1], network.node_scale[l - 1]), order),
        ((network.subnode_bias[l - 1], network.subnode_scale[l - 1]), subnodes),
    ):
        for parameter in parameters:
            parameter.copy_(parameter[list(places)])
    n_sum, arities = structure.n_sum[l], structure.arities[l]
    moved = tuple(arities[i - n_sum] for i in order[n_sum:])
    if moved != arities:
        network.structure = replace(structure, arities=(*structure.arities[:l], moved, *structure.arities[l + 1 :]))
    if not isinstance(network.mult_arity, Integral):
        network.mult_arity = [list(a) for a in network.structure.arities]


def _exchanges(order: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Exchanges of two places that, one after the other, turn ``0, 1, ...`` into `order`.

    >>> list(_exchanges([1, 2, 0]))
    [(0, 1), (1, 2)]
    """
    there = list(range(len(order)))
    for p, wanted in enumerate(order):
        q = there.index(wanted)
        if p != q:
            there[p], there[q] = there[q], there[p]
            yield p, q
