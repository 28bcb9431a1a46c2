"""Modules whose parameters and buffers can be trained wherever they were made.

What is made in ``torch.inference_mode`` are tensors that torch lets nobody train or save for a backward pass, ever after. A module of
this kind makes ordinary ones of them when it is built, copied or moved there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

__all__ = ["OrdinaryModule", "ordinary"]

T = TypeVar("T", bound="OrdinaryModule")


def ordinary(x: Tensor) -> Tensor:
    """`x`, or a copy of it, parameter or not, if it was made in inference mode."""
    if not x.is_inference():
        return x
    with torch.inference_mode(False), torch.no_grad():
        found = x.clone()
        return nn.Parameter(found, x.requires_grad) if isinstance(x, nn.Parameter) else found


def _state(module: OrdinaryModule) -> Any:
    # The class that torch gives a module with parametrizations refuses to hand out its state, for fear of pickles.
    kind = type(module).__bases__[0] if "parametrizations" in module._modules else type(module)
    return cast("type[OrdinaryModule]", kind).__getstate__(module)


def _make_ordinary_(module: nn.Module) -> None:
    """Put ordinary tensors in the place of those that a module of the user's has from inference mode."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_inference():
                    table[name] = ordinary(tensor)  # type: ignore[assignment]


class OrdinaryModule(nn.Module):
    """The module."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As that of ``torch.nn.Module``."""
        super().register_parameter(name, None if param is None else ordinary(param))  # type: ignore[arg-type]

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """As that of ``torch.nn.Module``."""
        super().register_buffer(name, None if tensor is None else ordinary(tensor), persistent)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            _make_ordinary_(value)
        buffers = self.__dict__.get("_buffers")
        super().__setattr__(name, ordinary(value) if buffers and name in buffers and isinstance(value, Tensor) else value)

    def _apply(self: T, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> T:
        with torch.inference_mode(False), torch.no_grad():
            return super()._apply(fn, recurse)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        # Attributes that a pre-hook computes from parameters, as torch.nn.utils.prune does, have a graph, which nothing can copy.
        graphs = {name: value.detach() for name, value in self.__dict__.items() if isinstance(value, Tensor) and not value.is_leaf}
        return {**self.__dict__, **graphs} if graphs else self.__dict__

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        with torch.inference_mode(False), torch.no_grad():
            new.__setstate__(copy.deepcopy(_state(self), memo))
        return new
