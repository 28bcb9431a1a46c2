"""Splines in addition to symbolic functions, so that training can correct the functions of edges.

An edge is *on* if it has a symbolic function or its spline is not masked. A node is *active* if an edge that is on starts there. A sub-node
is active if an edge that is on ends there or starts at its node. The type of an edge is given by ``a`` (active) or ``i`` (inactive) for its
node and its sub-node: ``aa``, ``ai``, ``ia`` or ``ii``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kan.errors import unknown_name
from kan.network.network import Network

__all__ = ["MODES", "perturb_"]

MODES = ("non-intrusive", "minimal", "all")
"""Names of the modes, see `perturb_`."""
OLDER_MODES = {"best": "all"}
"""Names from older versions of pykan, whose page on Lagrangians uses ``best`` and relies on splines on the edges of inactive inputs."""


@torch.no_grad()
def perturb_(network: Network, mag: float = 1.0, mode: str = "non-intrusive") -> None:
    """Switch on splines, in place.

    ============== ================================================ ==================================
    mode           edges                                            their numeric mask
    ============== ================================================ ==================================
    non-intrusive  to inactive sub-nodes (``ai``, ``ii``), and in   `mag`; 1 in the last layer, where
                   the last layer those that are masked             the scales of the splines become 0
    minimal        those with a symbolic function                   `mag`
    all            every edge                                       `mag`
    ============== ================================================ ==================================

    The mode ``non-intrusive`` does not change the function: the new splines contribute to the outputs only through edges of scale 0 in the
    last layer, which training can increase. In the other modes the function changes by `mag` times the splines, which are random if they
    have not been trained.

    Args:
        network: the network, which is changed in place.
        mag: the value of the masks.
        mode: one of `MODES`, or ``best``, an older name of ``all``.

    Raises:
        ValueError: for an unknown mode or a magnitude that is not finite.
    """
    mode = OLDER_MODES.get(mode, mode)
    if mode not in MODES:
        raise unknown_name("mode of perturb", mode, MODES)
    if not math.isfinite(mag):
        raise ValueError(f"mag, the value of the masks, must be finite; got {mag}.")
    network.forget_pass()
    masks = [layer.mask for layer in network.numeric_layers]
    symbolic = [_symbolic_edges(network, l) for l in range(network.depth)]
    if mode == "non-intrusive":
        inactive = _inactive_subnodes(network, [left | (mask != 0) for left, mask in zip(symbolic, masks, strict=True)])
        for mask, subnodes in zip(masks[:-1], inactive, strict=True):
            mask[:, subnodes] = mag
        last = network.numeric_layers[-1]
        masked = last.mask == 0
        for parameter in (last.scale_base, last.scale_sp):
            parameter[masked] = 0.0
        last.mask[masked] = 1.0
    else:
        for mask, edges in zip(masks, symbolic, strict=True):
            mask[edges if mode == "minimal" else slice(None)] = mag


def _symbolic_edges(network: Network, l: int) -> Tensor:
    """Whether each edge of a layer has a symbolic function that is not masked, ``(inputs, outputs)``."""
    edges = torch.zeros_like(network.numeric_layers[l].mask, dtype=torch.bool)
    for j, i in network.symbolic_layers[l].active():
        edges[i, j] = True
    return edges


def _inactive_subnodes(network: Network, on: list[Tensor]) -> list[Tensor]:
    """For every layer but the last, whether each sub-node is inactive, ``(outputs,)``; `on` says which edges are on."""
    inactive = []
    for l, edges in enumerate(on[:-1]):
        active_nodes = on[l + 1].any(dim=1)
        subnodes = ~edges.any(dim=0)
        for i in range(network.width_in[l + 1]):
            subnodes[network.structure.subnodes(l + 1, i)] &= ~active_nodes[i]
        inactive.append(subnodes)
    return inactive
