"""Refinement: the same function on more grid intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from kan.network.insertion import reaching_knots
from kan.network.network import Network
from kan.surgery.select import inherit

__all__ = ["initialize_from_", "initialize_grids_from_", "refine"]

N = TypeVar("N", bound=Network)


@torch.no_grad()
def refine(network: N, new_grid: int | Sequence[int], adaptive: bool = False) -> N:
    """A new network with `new_grid` intervals per spline (one number, or one per layer), computing what `network` computes.

    If the number of intervals is a multiple of the old one, the new splines contain the old ones and the function is the same to
    round-off, at the last input also outside of the grid. Otherwise the new splines are the least-squares fit of the old ones at the
    activations of the last input, and interpolate the old ones where these say nothing. Symbolic edges, masks, scales and node affines are
    copies.

    Raises:
        ValueError: if `new_grid` is no positive integer or list of them.
    """
    new = network.blank(grid=new_grid)
    _take_over_(new, network, network.last_input, adaptive)
    known = dict(network.named_parameters())
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(known[name].requires_grad)
    inherit(new, network)
    return new


@torch.no_grad()
def initialize_grids_from_(network: Network, parent: Network, x: Tensor | None = None) -> None:
    """Give `network` the grids of `parent`, read at its own numbers of intervals, and its splines on them, in place.

    Args:
        network: changed in place; scales, masks, affines and symbolic edges stay as they are.
        parent: of the same width and degree; left alone.
        x: ``(B, inputs)`` samples for `parent`; its last input when not given.

    Raises:
        ValueError: if the widths or degrees differ, or there are no samples.
    """
    _check_match(network, parent)
    for layer, old, inputs in zip(network.numeric_layers, parent.numeric_layers, parent.trace(x).acts, strict=False):
        layer.initialize_grid_from_parent(old, inputs)


@torch.no_grad()
def initialize_from_(network: Network, parent: Network, x: Tensor | None = None) -> None:
    """Let `network` compute what `parent` does, on its own numbers of grid intervals, in place; see `refine`.

    All that is taken over is copied: the two share nothing.

    Args:
        network: changed in place.
        parent: of the same width and degree; left alone.
        x: ``(B, inputs)`` samples for `parent`; its last input when not given.

    Raises:
        ValueError: if the widths or degrees differ, or there are no samples.
    """
    _check_match(network, parent)
    _take_over_(network, parent, parent.remembered_input() if x is None else x)


def _check_match(network: Network, parent: Network) -> None:
    """Raise ``ValueError`` unless `network` can take `parent` over."""
    if network.structure != parent.structure:
        raise ValueError(
            f"a network can be initialised from one of the same width and arities; this one has width {network.width} and arities "
            f"{network.structure.arities}, the other {parent.width} and {parent.structure.arities}."
        )
    degrees = [[layer.k for layer in one.numeric_layers] for one in (network, parent)]
    if degrees[0] != degrees[1]:
        raise ValueError(
            f"a network can be initialised from one with splines of the same degrees; k is {degrees[0]} here and {degrees[1]} there."
        )


def _take_over_(network: Network, parent: Network, x: Tensor | None, adaptive: bool = False) -> None:
    """Splines, scales, masks, symbolic edges and affines of `parent`, copied."""
    acts = None if x is None else parent.trace(x).acts
    reaching = None if x is None else reaching_knots(parent, [layer.num for layer in network.numeric_layers], x, adaptive)
    for l in range(parent.depth):
        old_layer, layer = parent.numeric_layers[l], network.numeric_layers[l]
        layer.initialize_grid_from_parent(old_layer, None if acts is None else acts[l])
        if reaching is not None:
            layer.take_over_(old_layer, reaching[l])
        for name in ("mask", "scale_base", "scale_sp"):
            getattr(layer, name).copy_(getattr(old_layer, name))
        subset = parent.symbolic_layers[l].get_subset(range(old_layer.in_dim), range(old_layer.out_dim))
        network.symbolic_fun[l] = subset.to(layer.coef)
    known = dict(parent.named_parameters())
    for name, parameter in network.named_parameters():
        if name.startswith(("node_", "subnode_")):
            parameter.copy_(known[name])
