"""Splines beside symbolic edges: freedom for training to change what a network was told.

An edge is *on* if it has a symbolic function or its spline is not masked; a node is *used* if an edge that is on leads from it, a sub-node
if such an edge leads to it or from its node. With ``a`` for used and ``i`` for unused at either end, edges are of the types ``aa``,
``ai``, ``ia``, ``ii``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.network.network import Network

__all__ = ["MODES", "perturb_"]

MODES = ("non-intrusive", "minimal", "all")
LEGACY = {"best": "all"}
"""Names of older versions of pykan. Its page on Lagrangians calls ``best`` and goes on with splines on edges of inputs without use."""


@torch.no_grad()
def perturb_(network: Network, mag: float = 1.0, mode: str = "non-intrusive") -> None:
    """Switch splines on, in place.

    ============== ================================================ ==================================
    mode           edges                                            their numeric mask
    ============== ================================================ ==================================
    non-intrusive  those to unused sub-nodes (``ai``, ``ii``), and  `mag`; 1 in the last layer, where
                   in the last layer those that are masked          the scales of the splines become 0
    minimal        those with a symbolic function                   `mag`
    all            every edge                                       `mag`
    ============== ================================================ ==================================

    In the mode ``non-intrusive`` the function stays the same: what is switched on leads nowhere, but to edges of scale zero in the last
    layer, which training can raise. In the others it changes by `mag` times the splines, which are random where nothing was trained.

    Args:
        network: changed in place.
        mag: value of the masks.
        mode: one of `MODES`, or ``best``, an older name of ``all``.

    Raises:
        ValueError: for an unknown mode or a magnitude that is not finite.
    """
    mode = LEGACY.get(mode, mode)
    if mode not in MODES:
        raise unknown_name("mode of perturb", mode, MODES)
    if not math.isfinite(mag):
        raise ValueError(f"mag, the value of the masks, must be finite; got {mag}.")
    network.forget_pass()
    masks = [layer.mask for layer in network.numeric_layers]
    named = [_named(network, l) for l in range(network.depth)]
    if mode == "non-intrusive":
        unused = _unused_subnodes(network, [name | (mask != 0) for name, mask in zip(named, masks, strict=True)])
        for mask, without in zip(masks[:-1], unused, strict=True):
            mask[:, without] = mag
        last = network.numeric_layers[-1]
        masked = last.mask == 0
        for parameter in (last.scale_base, last.scale_sp):
            parameter[masked] = 0.0
        last.mask[masked] = 1.0
    else:
        for mask, name in zip(masks, named, strict=True):
            mask[name if mode == "minimal" else slice(None)] = mag


def _named(network: Network, l: int) -> Tensor:
    """Which edges of a layer have a symbolic function that is not masked, ``(inputs, outputs)``."""
    named = torch.zeros_like(network.numeric_layers[l].mask, dtype=torch.bool)
    for j, i in network.symbolic_layers[l].active():
        named[i, j] = True
    return named


def _unused_subnodes(network: Network, on: list[Tensor]) -> list[Tensor]:
    """For every layer but the last, the sub-nodes that no edge leads to, and none from their node, ``(outputs,)``."""
    unused = []
    for l, edges in enumerate(on[:-1]):
        left = on[l + 1].any(dim=1)
        without = ~edges.any(dim=0)
        for i in range(network.width_in[l + 1]):
            subnodes = network.structure.subnodes(l + 1, i)
            without[subnodes] &= ~left[i]
        unused.append(without)
    return unused
