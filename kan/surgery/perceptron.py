"""Exchange of hidden nodes of a perceptron, which does not change its function and may shorten its connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kan.analysis.connection import edge_lengths
from kan.network.perceptron import Perceptron
from kan.surgery.swap import _greedy

__all__ = ["auto_swap_", "swap_"]


def swap_(network: Perceptron, l: int, i1: int, i2: int) -> None:
    """Exchange the nodes `i1` and `i2` of hidden layer `l`, in place.

    Raises:
        IndexError: if there is no such hidden layer or node.
    """
    _check_layer(network, l)
    if not all(0 <= i < network.width[l] for i in (i1, i2)):
        raise IndexError(f"layer {l} has the nodes 0 to {network.width[l] - 1}; got {i1} and {i2}.")
    _reorder_(network, l, [{i1: i2, i2: i1}.get(i, i) for i in range(network.width[l])])


@torch.no_grad()
def auto_swap_(network: Perceptron, l: int) -> list[int]:
    """Exchange nodes of hidden layer `l` as long as that lowers the connection cost, in place.

    Returns:
        For each place, the former place of the node that is there now.

    Raises:
        IndexError: if there is no such hidden layer.
    """
    _check_layer(network, l)
    # As for KANs (`kan.surgery.swap`), with the sizes of the weights as scores.
    incoming, outgoing = (network.w[layer].abs().double().cpu() for layer in (l - 1, l))
    cost = incoming @ edge_lengths(incoming).t() + outgoing.t() @ edge_lengths(outgoing)
    order = _greedy(cost.numpy(), [list(range(network.width[l]))])
    _reorder_(network, l, order)
    return order


def _check_layer(network: Perceptron, l: int) -> None:
    if not 0 < l < network.depth:
        hidden = f"1 to {network.depth - 1}" if network.depth > 1 else "none"
        raise IndexError(f"only nodes of hidden layers can be exchanged; the layers of this network that are hidden: {hidden}; got {l}.")


@torch.no_grad()
def _reorder_(network: Perceptron, l: int, order: Sequence[int]) -> None:
    """Put node ``order[p]`` of the hidden layer `l` at place ``p``."""
    network.forget_pass()
    before, after, places = network.linear_layers[l - 1], network.linear_layers[l], list(order)
    before.weight.copy_(before.weight[places])
    before.bias.copy_(before.bias[places])
    after.weight.copy_(after.weight[:, places])
