"""Additional layers and nodes, which do not change the function.

New edges are masked, and a new last layer passes its inputs on. Existing splines and symbolic functions are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from kan.analysis.indices import layer_index
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer
from kan.network.network import Network
from kan.network.structure import Structure
from kan.network.user_code.inheritance import in_the_kind_of

__all__ = ["expand_depth_", "expand_width_"]

IDENTITY = "x"
"""Name of the symbolic function of edges that pass their inputs on."""


@torch.no_grad()
def expand_depth_(network: Network) -> None:
    """Add a last layer that passes the outputs on, in place: its diagonal edges are symbolic identities, all others are masked.

    Raises:
        ValueError: if the symbolic edges of the network are switched off, since the identities are symbolic edges.
    """
    if not network.symbolic_enabled:
        raise ValueError("expand_depth adds symbolic edges, but symbolic_enabled is False; set it to True first.")
    old, size = network.structure, network.width_in[-1]
    structure = Structure((*old.n_sum, size), (*old.arities, ()))
    grid, k = (value if isinstance(value, int) else [*value, value[-1]] for value in (network.grid, network.k))
    fresh = network.replace(width=structure.width, mult_arity=_arity(network, structure), grid=grid, k=k)

    numeric, symbolic = fresh.numeric_layers[-1], fresh.symbolic_layers[-1]
    numeric.mask.zero_()
    if network.numeric_layers[-1].base_fun is network.base_fun:
        numeric.base_fun = network.base_fun  # which may have parameters
    _switch_off_(symbolic)
    for i in range(size):
        symbolic.set_function(i, i, IDENTITY)
    network.act_fun.append(numeric)
    network.symbolic_fun.append(symbolic)
    for name in ("node_bias", "node_scale", "subnode_bias", "subnode_scale"):
        last = getattr(network, f"{name}_{old.depth - 1}")
        network.register_parameter(f"{name}_{old.depth}", nn.Parameter(getattr(fresh, f"{name}_{old.depth}"), last.requires_grad))
    network.grid, network.k = fresh.grid, fresh.k
    network.structure, network.mult_arity = structure, fresh.mult_arity
    network.train(network.training)
    network.forget_pass()


@torch.no_grad()
def expand_width_(network: Network, l: int, n: int, arity: int | Sequence[int] | None = None, connected: bool = False) -> None:
    """Add nodes to a layer of nodes, in place: sum nodes in front of the others, multiplication nodes behind them.

    New inputs (``l = 0``) are new columns in front of the existing ones. The network forgets its last input, which lacks them. New outputs,
    in the last layer, are zero. Both get names and normalisations if the others have them, see `Labelled.inherit_labels`.

    Args:
        network: the network, which is changed in place.
        l: layer of nodes, 0 for the inputs; negative numbers count from the end.
        n: number of new nodes.
        arity: None for sum nodes; for multiplication nodes their arity, or one arity per node.
        connected: switch on the splines of the new edges, so that they can be trained. The scales of the edges that start at new nodes are
            0 at first, so that the function does not change.

    Raises:
        IndexError: if there is no such layer of nodes.
        ValueError: if the number or an arity is not a positive integer, or if multiplication nodes are requested for the inputs.
    """
    old = network.structure
    l = layer_index(old, l)
    structure = _wider(old, l, n, arity)
    fresh = network.replace(width=structure.width, mult_arity=_arity(network, structure))
    # Sum nodes come first, and new ones before all others; factors of new multiplication nodes come last.
    nodes, subnodes = (_places(size, n if arity is None else 0) for size in (old.width_in[l], old.width_out[l]))
    inputs, outputs = range(old.width_in[max(l - 1, 0)]), range(old.width_out[min(l + 1, old.depth)])
    if l > 0:
        _take_layer_(fresh, network, l - 1, list(inputs), subnodes, away=False, connected=connected)
        for name, places in (("node", nodes), ("subnode", subnodes)):
            for kind in ("bias", "scale"):
                parameter, before = getattr(fresh, f"{name}_{kind}_{l - 1}"), getattr(network, f"{name}_{kind}_{l - 1}")
                parameter[places] = before
                setattr(network, f"{name}_{kind}_{l - 1}", nn.Parameter(parameter.detach(), before.requires_grad))
    if l < old.depth:
        _take_layer_(fresh, network, l, nodes, list(outputs), away=True, connected=connected)
    if l == 0:
        added = torch.arange(n, device=network.input_id.device)
        network.input_id = torch.cat([added, network.input_id + n])
        network.input_width += n
        network.remember_input(None)
    network.structure, network.mult_arity = structure, fresh.mult_arity
    if l in (0, old.depth):
        before = range(network.input_width - n if l == 0 else old.width_in[-1])
        origins = [*[None] * n, *before] if arity is None else [*before, *[None] * n]
        network.inherit_labels(network, **{"inputs" if l == 0 else "outputs": origins})
    network.train(network.training)


def _wider(old: Structure, l: int, n: int, arity: int | Sequence[int] | None) -> Structure:
    """The structure with the new nodes."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n_added_nodes must be a positive integer; got {n!r}.")
    n_sum, arities = list(old.n_sum), list(old.arities)
    if arity is None:
        n_sum[l] += int(n)
        return Structure(tuple(n_sum), old.arities)
    if l == 0:
        raise ValueError("inputs are no multiplication nodes: leave sum_bool=True to add inputs.")
    added: list[Any] = [arity] * int(n) if isinstance(arity, Integral) else [*arity]
    if len(added) != n or any(isinstance(a, bool) or not isinstance(a, Integral) or a < 1 for a in added):
        raise ValueError(f"mult_arity must be a positive integer, or a list of {n} of them, one per added node; got {arity!r}.")
    arities[l] = (*arities[l], *map(int, added))
    return replace(old, arities=tuple(arities))


def _arity(network: Network, structure: Structure) -> int | list[list[int]]:
    """The value of ``mult_arity`` for a structure: the network's number if it has one that still holds for all nodes, else lists."""
    arity = network.mult_arity
    if isinstance(arity, Integral) and all(a == arity for layer in structure.arities for a in layer):
        return int(arity)
    return [list(layer) for layer in structure.arities]


def _places(size: int, shift: int) -> list[int]:
    """The new indices of the old nodes or sub-nodes."""
    return [i + shift for i in range(size)]


def _take_layer_(
    fresh: Network, network: Network, l: int, inputs: Sequence[int], outputs: Sequence[int], away: bool, connected: bool
) -> None:
    """Replace layer `l` of `network` by that of `fresh`, with the old edges at their new places and the new ones off.

    Args:
        fresh: a newly initialised network of the new structure.
        network: the network, which is changed in place.
        l: the layer.
        inputs, outputs: the new indices of the old inputs and outputs.
        away: whether the new edges start at new nodes.
        connected: whether the splines of the new edges are switched on.
    """
    numeric, symbolic = fresh.numeric_layers[l], fresh.symbolic_layers[l]
    _put_edges_(numeric, network.numeric_layers[l], inputs, outputs, away, connected)
    _put_functions_(symbolic, network.symbolic_layers[l], inputs, outputs)
    before = network.numeric_layers[l]
    network.act_fun[l] = layer = in_the_kind_of(before, numeric)
    layer.base_fun = before.base_fun
    network.symbolic_fun[l] = in_the_kind_of(network.symbolic_layers[l], symbolic)


def _put_edges_(new: KANLayer, old: KANLayer, inputs: Sequence[int], outputs: Sequence[int], away: bool, connected: bool) -> None:
    rows, columns = torch.tensor(inputs, device=new.device)[:, None], torch.tensor(outputs, device=new.device)[None, :]
    new.mask.fill_(float(connected))
    if connected and away:
        new.scale_base.zero_()
        new.scale_sp.zero_()
    for name in ("mask", "coef", "scale_base", "scale_sp"):
        parameter, before = getattr(new, name), getattr(old, name)
        parameter[rows, columns] = before
        parameter.requires_grad_(before.requires_grad)
    new.grid[rows[:, 0]] = old.grid


def _put_functions_(new: SymbolicLayer, old: SymbolicLayer, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    _switch_off_(new)
    for old_j, j in enumerate(outputs):
        for old_i, i in enumerate(inputs):
            name, function = old.function(old_i, old_j)
            new.set_function(i, j, name, function, old.affine[old_j, old_i])
            new.mask[j, i] = old.mask[old_j, old_i]
    new.affine.requires_grad_(old.affine.requires_grad)


def _switch_off_(layer: SymbolicLayer) -> None:
    """Make every edge symbolic and zero, in place, as pykan does: its mask is on, and it has no function."""
    layer.mask.fill_(1.0)
    identity: Tensor = layer.affine.new_tensor([1.0, 0.0, 1.0, 0.0])
    layer.affine.copy_(identity.expand_as(layer.affine))
