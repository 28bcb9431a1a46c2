"""The scales or biases of all layers as a list that can be written to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from kan.network.user_code.attributes import being_built

__all__ = ["AffineList", "affine_list"]


class AffineList(list[nn.Parameter]):
    """The parameters ``<name>_0, <name>_1, ...`` of a network; what is assigned to an entry takes the place of the parameter.

    Copies and pickles are plain lists.

    Args:
        network: the `Network` that has them.
        name: such as ``node_bias``.
    """

    def __init__(self, network: Any, name: str) -> None:
        self._network, self._name = network, name
        # A subclass that is building itself has some of the layers.
        there = network.__dict__.get("_parameters", ())
        count = sum(key.startswith(f"{name}_") for key in there) if being_built(network) else network.structure.depth
        super().__init__(getattr(network, f"{name}_{l}") for l in range(count))

    def write(self, values: Iterable[Any]) -> None:
        """Assign all entries, or, if one is refused, none."""
        new = list(values)
        if len(new) != len(self):
            raise ValueError(f"{self._name} has one entry for each of the {len(self)} layers; got {len(new)}.")
        checked = [self._checked(l, value) for l, value in enumerate(new)]
        for l, parameter in enumerate(checked):
            setattr(self._network, f"{self._name}_{l}", parameter)
            super().__setitem__(l, parameter)

    def __setitem__(self, index: SupportsIndex | slice, value: Any) -> None:
        entries: list[Any] = list(self)
        entries[index] = value
        self.write(entries)

    def append(self, value: Any) -> None:
        """Make `value` the next layer's parameter, as constructors do; nothing happens if it is the last one already."""
        if len(self) and value is self[-1]:
            return
        if not being_built(self._network):
            raise TypeError(f"{self._name} has one entry for each of the {len(self)} layers: assign to these, or call expand_depth().")
        setattr(self._network, f"{self._name}_{len(self)}", value)
        super().append(value)

    def _fixed(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError(f"{self._name} has one entry for each of the {len(self)} layers, neither more nor less: assign to its entries.")

    extend = insert = pop = remove = clear = sort = reverse = __delitem__ = __iadd__ = __imul__ = _fixed

    def _checked(self, l: int, value: Any) -> nn.Parameter:
        old: Tensor = getattr(self._network, f"{self._name}_{l}")
        wanted = f"{self._name}[{l}] must be a parameter or a tensor of shape {tuple(old.shape)}"
        new: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
        if new.shape != old.shape:
            raise ValueError(f"{wanted}, one number for each of the {len(old)} nodes; got {tuple(new.shape)}.")
        if isinstance(new, nn.Parameter):
            if (new.dtype, new.device) != (old.dtype, old.device):
                raise ValueError(f"{wanted}, with {old.dtype} on {old.device} as the network's; got {new.dtype} on {new.device}.")
            return new
        if new.requires_grad:
            raise ValueError(f"{wanted} that is not computed from others, since gradients end here; pass value.detach().")
        own = new.detach().to(old.device, old.dtype, copy=True)
        return nn.Parameter(own, old.requires_grad)

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


def affine_list(name: str, what: str) -> Any:
    """A property of a network, the `AffineList` of this name; `what` begins its docstring."""

    def read(network: Any) -> AffineList:
        return AffineList(network, name)

    def write(network: Any, parameters: Iterable[Any]) -> None:
        AffineList(network, name).write(parameters)

    return property(read, write, doc=f"{what} of layers ``1 ... L``; assigning to an entry replaces the parameter.")
