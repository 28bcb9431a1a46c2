"""Refinement: the same function on more grid intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from kan.network.network import Network
from kan.surgery.select import inherit

__all__ = ["refine"]

N = TypeVar("N", bound=Network)


@torch.no_grad()
def refine(network: N, new_grid: int | Sequence[int]) -> N:
    """A new network with `new_grid` intervals per spline (one number, or one per layer), computing what `network` computes.

    If the number of intervals is a multiple of the old one, the new splines contain the old ones and the function is the same to
    round-off, at the last input also outside of the grid. Otherwise the new splines are the least-squares fit of the old ones at the
    activations of the last input, and interpolate the old ones where these say nothing. Symbolic edges, masks, scales and node affines are
    copies.

    Raises:
        ValueError: if `new_grid` is no positive integer or list of them.
    """
    new = network.replace(grid=new_grid)
    acts = None if network.last_input is None else network.trace().acts
    for l in range(network.depth):
        old_layer, layer = network.numeric_layers[l], new.numeric_layers[l]
        layer.initialize_grid_from_parent(old_layer, None if acts is None else acts[l])
        for name in ("mask", "scale_base", "scale_sp"):
            getattr(layer, name).copy_(getattr(old_layer, name))
        new.symbolic_fun[l] = network.symbolic_layers[l].get_subset(range(old_layer.in_dim), range(old_layer.out_dim))
    known = dict(network.named_parameters())
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(known[name].requires_grad)
        if name.startswith(("node_", "subnode_")):
            parameter.copy_(known[name])
    inherit(new, network)
    return new
