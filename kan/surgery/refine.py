"""Refinement: the same function on more grid intervals.

If the new knots contain the old ones, the function does not change. Otherwise it changes. The change is measured and kept as
`Network.refinement_change`, and a warning tells the user if it is large.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from kan.layers.computed import settled
from kan.layers.kan_layer import KANLayer
from kan.network.insertion import reaching_knots
from kan.network.network import Network
from kan.network.user_code.inheritance import in_the_kind_of
from kan.network.user_code.observed import seen_by_layers
from kan.surgery.select import inherit

__all__ = ["initialize_from_", "initialize_grids_from_", "refine"]

N = TypeVar("N", bound=Network)

MAX_SILENT_CHANGE = 0.01
"""Largest change of the outputs without a warning by `refine`: their root mean square change at the last input, as a share of their
standard deviation."""


@torch.no_grad()
def refine(network: N, new_grid: int | Sequence[int], adaptive: bool = False) -> N:
    """A new network with `new_grid` intervals per spline (one number, or one per layer), computing what `network` computes.

    The new grid points are the old ones read at fractional indices. If the new number of intervals is a multiple of the old one, the new
    knots contain the old ones and the function is the same to round-off. Otherwise the new splines are the closest to the old ones, both on
    the whole interval and at the last input; see `kan.bases.projection.carried_over`.

    If samples of the last input lie outside of a grid, or only on a part of it, knots are inserted instead. The new knots then contain all
    old ones, whatever their number, and reach as far as the samples; the added ones lie where the error of the splines is largest. If there
    are enough intervals, the function is the same on the whole line. Symbolic edges, masks, scales and node affines are copied.

    Bases other than splines get ``new_grid + k`` functions on the same intervals. The function is the same where the larger space contains
    the smaller one, as with Chebyshev polynomials, Fourier functions and wavelets; otherwise it is the closest one there is.

    Args:
        network: the network, which is not changed.
        new_grid: number of intervals, or one per layer.
        adaptive: whether knots are inserted for all inputs, as between the levels of ``fit(grids=...)``. This is meant for trained
            networks; the curves of other networks do not show where knots are useful.

    Returns:
        The new network. Its `refinement_change` is the measured change of the outputs at the last input.

    Raises:
        ValueError: if `new_grid` is neither a positive integer nor a list of positive integers, or a basis has no version of that size.

    Warns:
        UserWarning: if some grid is coarser than it was, or if the outputs of a trained network change by more than `MAX_SILENT_CHANGE`.
    """
    new = network.blank(grid=new_grid)
    _take_over_(new, network, network.last_input, adaptive)
    known = dict(network.named_parameters())
    for name, parameter in new.named_parameters():
        if name in known:
            parameter.requires_grad_(known[name].requires_grad)
    inherit(new, network)
    _tell(new, network, network.last_input, warns=adaptive)
    return new


@torch.no_grad()
def initialize_grids_from_(network: Network, parent: Network, x: Tensor | None = None) -> None:
    """Give `network` the grids of `parent`, read at its own numbers of intervals, and the splines of `parent` on them, in place.

    Args:
        network: the network, which is changed in place; its scales, masks, affines and symbolic edges stay as they are.
        parent: a network of the same width and degree, which is not changed.
        x: samples for `parent`, ``(B, inputs)``; its last input when not given.

    Raises:
        ValueError: if the widths or degrees differ, or there are no samples.
    """
    _check_match(network, parent)
    acts = parent.layer_trace(_inputs(parent, x)).acts
    network.forget_pass()
    for layer, old, inputs in zip(network.numeric_layers, parent.numeric_layers, acts, strict=False):
        layer.initialize_grid_from_parent(old, inputs)


@torch.no_grad()
def initialize_from_(network: Network, parent: Network, x: Tensor | None = None) -> None:
    """Give `network` the function of `parent`, on its own numbers of grid intervals, in place; see `refine`.

    Everything is copied, so that the two networks share nothing.

    Args:
        network: the network, which is changed in place.
        parent: a network of the same width and degree, which is not changed.
        x: samples for `parent`, ``(B, inputs)``; its last input when not given.

    Raises:
        ValueError: if the widths or degrees differ, or there are no samples.
    """
    _check_match(network, parent)
    network.forget_pass()
    x = _inputs(parent, x)
    _take_over_(network, parent, x)
    _tell(network, parent, x, warns=True)


def _inputs(parent: Network, x: Tensor | None) -> Tensor:
    """What the layers of `parent` are given of `x`, or their last input."""
    return parent.remembered_input() if x is None else seen_by_layers(parent, x)


def _check_match(network: Network, parent: Network) -> None:
    """Raise ``ValueError`` if `network` and `parent` differ in structure or degrees."""
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
    """Copy the splines, scales, masks, symbolic edges and affines of `parent` into `network`, in place."""
    acts = None if x is None else parent.layer_trace(x).acts
    reaching = None if x is None else reaching_knots(parent, [layer.num for layer in network.numeric_layers], x, adaptive)
    for l in range(parent.depth):
        old_layer = parent.numeric_layers[l]
        network.act_fun[l] = layer = in_the_kind_of(old_layer, network.numeric_layers[l])
        layer.initialize_grid_from_parent(old_layer, None if acts is None else acts[l])
        if reaching is not None and reaching[l]:
            _take_over_knots_(layer, old_layer, reaching[l])
        for name in ("mask", "scale_base", "scale_sp"):
            getattr(layer, name).copy_(settled(old_layer, name))
        subset = parent.symbolic_layers[l].get_subset(range(old_layer.in_dim), range(old_layer.out_dim))
        network.symbolic_fun[l] = subset.to(layer.coef)
    known = dict(parent.named_parameters())
    for name, parameter in network.named_parameters():
        if name.startswith(("node_", "subnode_")):
            parameter.copy_(known[name])


def _take_over_knots_(layer: KANLayer, parent: KANLayer, knots: Mapping[int, Tensor]) -> None:
    """Give some inputs of `layer`, by their numbers, knots ``(G + 2k + 1,)`` that contain all of `parent`, and its splines on them."""
    ids, grid = list(knots), torch.stack(list(knots.values()))
    part = parent.get_subset(ids, range(parent.out_dim)).edge_functions()
    layer.grid[ids], layer.coef[ids] = grid, part.on_grid(layer.basis, grid, grid[:, [0, -1]])


def _tell(network: Network, parent: Network, x: Tensor | None, warns: bool) -> None:
    """Measure the change of the layers' outputs from `parent` to `network` at their inputs `x`, record it, and warn.

    A warning is given if a grid is coarser than before and, if `warns`, also if the change is large. It points at the call of a method of
    `KAN`.
    """
    sizes = [[layer.num for layer in one.numeric_layers] for one in (parent, network)]
    coarser = any(new < old for old, new in zip(*sizes, strict=True))
    network.refinement_change, change = None, ""
    if x is not None:
        before, after = parent.layer_trace(x).output, network.layer_trace(x).output
        size = float((before - before.mean(0)).square().mean().sqrt()) or float(before.square().mean().sqrt()) or 1.0
        network.refinement_change = float((after - before).square().mean().sqrt()) / size
        change = f", at the last input by {network.refinement_change:.1e} of the outputs' standard deviation (root mean square)"
    intervals = " to ".join(str(counts[0] if len(set(counts)) == 1 else counts) for counts in sizes)
    if coarser:
        warnings.warn(
            f"from {intervals} grid intervals is no refinement: the edges lose detail, and the function changes{change}.", stacklevel=5
        )
    elif warns and network.refinement_change is not None and network.refinement_change > MAX_SILENT_CHANGE:
        if not all(layer.has_knots for layer in network.numeric_layers):
            warnings.warn(
                f"the larger bases do not contain the functions of the smaller ones, so that the network changes{change}. Fit the refined "
                f"model again.",
                stacklevel=5,
            )
            return
        nested = all(new % old == 0 for old, new in zip(*sizes, strict=True))
        advice = "Samples lie outside of the present grids" if nested else "A multiple of the present number of intervals keeps it"
        warnings.warn(
            f"the splines on {intervals} grid intervals cannot be the same: the function changes{change}. {advice}; fit the refined model "
            f"again.",
            stacklevel=5,
        )
