"""The part of a network that remains when only some nodes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from kan.network.network import Network

__all__ = ["inherit", "select_nodes"]

N = TypeVar("N", bound=Network)


def select_nodes(network: N, keep: Sequence[Sequence[int]]) -> N:
    """A new network with the nodes `keep` of each layer of nodes, inputs first; the given network is not changed.

    The new network computes the same function if the dropped nodes contributed nothing. It has the settings of the old one, the remaining
    parameters, and the choice of which of them are trained. Dropped inputs remain columns of the data with which it is called.
    """
    old, structure = network.structure, network.structure.keep(keep)
    arity = network.mult_arity if isinstance(network.mult_arity, int) else structure.arities
    new = network.blank(width=structure.width, mult_arity=arity)
    subnodes = [[s for i in kept for s in old.subnodes(l, i)] for l, kept in enumerate(keep)]
    for l in range(network.depth):
        new.act_fun[l] = network.numeric_layers[l].get_subset(keep[l], subnodes[l + 1])
        new.symbolic_fun[l] = network.symbolic_layers[l].get_subset(keep[l], subnodes[l + 1])
        for name, ids in (("node", keep[l + 1]), ("subnode", subnodes[l + 1])):
            for kind in ("bias", "scale"):
                parameter = getattr(network, f"{name}_{kind}_{l}")
                setattr(new, f"{name}_{kind}_{l}", _taken(parameter, parameter.detach()[list(ids)]))
    inherit(new, network, keep[0], keep[-1])
    return new


def inherit(new: Network, old: Network, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None) -> None:
    """Pass the columns, the last input, the labels and the shared base function of a network on to a new one, in place.

    A base function that the layers of `old` share is shared in `new` as well, since it may have parameters.

    Args:
        new: the new network, which is changed in place.
        old: the network from which it was made.
        inputs: the inputs of `old` that `new` has; all of them when not given.
        outputs: the outputs of `old` that `new` has; all of them when not given.
    """
    for layer, before in zip(new.numeric_layers, old.numeric_layers, strict=True):
        if before.base_fun is old.base_fun:
            layer.base_fun = new.base_fun
    new.input_id = old.input_id.clone() if inputs is None else old.input_id[list(inputs)].clone()
    new.input_width = old.input_width
    new.inherit_labels(old, outputs=outputs)
    new.train(old.training)


def _taken(old: nn.Parameter, value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.clone(memory_format=torch.contiguous_format), old.requires_grad)
