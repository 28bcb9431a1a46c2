"""Isolation of a module of a network: a set of nodes that are connected with each other and with no other nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from kan.analysis.indices import checked_index
from kan.network.network import Network

__all__ = ["isolate_module_", "parse_chain"]

GROUP = re.compile(r"\[\s*(-?\d+\s*(,\s*-?\d+\s*)*)?\]")
"""One list of integers in a chain."""


def parse_chain(chain: str) -> list[list[int]]:
    """The groups of indices in the text of a chain.

    Raises:
        ValueError: if the text is not an even number of lists of integers joined by ``->``.

    >>> parse_chain("[0,1]->[0]->[0]->[1,2]")
    [[0, 1], [0], [0], [1, 2]]
    """
    groups = [part.strip() for part in chain.split("->")]
    if len(groups) % 2 or not all(GROUP.fullmatch(group) for group in groups):
        raise ValueError(
            f"chain must be lists of integers joined by '->', in pairs of the inputs and the outputs of a layer, such as "
            f"'[0,1]->[0]->[0]->[1,2]' for two layers; got {chain!r}."
        )
    return [[int(number) for number in re.findall(r"-?\d+", group)] for group in groups]


@torch.no_grad()
def isolate_module_(network: Network, start_layer: int, chain: str) -> None:
    """Switch off the edges between a module and the rest, numeric and symbolic, in place.

    Args:
        network: the network, which is changed in place.
        start_layer: the first layer of edges of the module; negative numbers count from the end.
        chain: the module as ``'[nodes]->[sub-nodes]->[nodes]->[sub-nodes]'``: for each of its layers of edges, the nodes at which the edges
            start, and the sub-nodes at which they end. Negative indices count from the end.

    Raises:
        IndexError: for a layer, node or sub-node that does not exist; the network is not changed then.
        ValueError: if the chain cannot be parsed.
    """
    groups = parse_chain(chain)
    layers, first = len(groups) // 2, checked_index("start_layer", start_layer, network.depth)
    if first + layers > network.depth:
        raise IndexError(f"the chain has {layers} layers, but from layer {first} on the network has {network.depth - first}.")
    ids = []
    for step in range(layers):
        l = first + step
        ids.append(_resolved(f"node of layer {l}", groups[2 * step], network.width_in[l]))
        ids.append(_resolved(f"sub-node of layer {l + 1}", groups[2 * step + 1], network.width_out[l + 1]))
    for step in range(layers):
        numeric, symbolic = network.numeric_layers[first + step], network.symbolic_layers[first + step]
        crossing = torch.zeros_like(numeric.mask, dtype=torch.bool)
        crossing[ids[2 * step]] = True
        crossing[:, ids[2 * step + 1]] ^= True
        numeric.mask[crossing] = 0.0
        symbolic.mask[crossing.t()] = 0.0


def _resolved(what: str, ids: Sequence[int], size: int) -> list[int]:
    """The indices with negative ones replaced by those that they stand for."""
    return [checked_index(what, i, size) for i in ids]
