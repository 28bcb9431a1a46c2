"""What a network that is made from another takes over of its user's own code: methods, hooks, attributes and modules beside the layers.

A subclass is built by the constructor of the library's class, without its own: a user's constructor may want other arguments, and what it
has made is taken over from the network that exists.
"""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Mapping
from functools import lru_cache
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kan.layers.computed import computed, take_apart_
from kan.network.layered import LayeredNetwork
from kan.network.user_code.attributes import STATED
from kan.network.user_code.own_code import LIBRARY, is_called, own_call

__all__ = ["alone", "built", "in_the_kind_of", "left_behind", "portable_call", "take_over_own_"]

N = TypeVar("N", bound=LayeredNetwork)
L = TypeVar("L", bound=nn.Module)

AFFINE = re.compile(r"(sub)?node_(bias|scale)_\d+")
HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_backward_pre_hooks", "_backward_hooks",
)  # fmt: skip
"""Attributes of a module that hold its hooks."""


def _library_class(kind: type[N]) -> type[N]:
    return next(base for base in kind.__mro__ if base.__module__.startswith(LIBRARY))


def built(network: N, settings: Mapping[str, Any]) -> N:
    """A network of the class of `network` with other `settings`, and with what it has of its user's own."""
    kind = type(network)
    base = _library_class(kind)
    if base is kind:
        new = kind(**settings)
    else:
        new = kind.__new__(kind)
        base.__init__(new, **settings)
    take_over_own_(new, network)
    return new


def alone(network: N) -> N:
    """A copy of `network` of the library's own class, which is called as its layers are: without another ``forward`` or hooks."""
    new = copy.deepcopy(network)
    new.__class__ = _library_class(type(network))
    new.__dict__.pop("forward", None)
    for name in HOOKS:
        getattr(new, name).clear()
    return new


@torch.no_grad()
def take_over_own_(new: LayeredNetwork, old: LayeredNetwork) -> None:
    """Give `new` the hooks of `old`, the methods that are set on it as far as they can be moved, and the attributes of a subclass."""
    for name in HOOKS:
        getattr(new, name).update(getattr(old, name))
    for name, value in old.__dict__.items():
        if isinstance(value, types.MethodType) and value.__self__ is old:
            setattr(new, name, types.MethodType(value.__func__, new))
    base = _library_class(type(old))
    if base is type(old) and not own_call(old):
        return
    known, modules, buffers = _library_attributes(base)  # type: ignore[arg-type]
    for name, module in old._modules.items():
        if name not in modules:
            new.add_module(name, copy.deepcopy(module))
    for name, parameter in old._parameters.items():
        if not AFFINE.fullmatch(name):
            new.register_parameter(name, None if parameter is None else nn.Parameter(parameter.clone(), parameter.requires_grad))
    for name, buffer in old._buffers.items():
        if name not in buffers:
            new.register_buffer(name, None if buffer is None else buffer.clone(), name not in old._non_persistent_buffers_set)
    for name, value in old.__dict__.items():
        if name not in known and name != STATED and name not in new.__dict__ and not hasattr(base, name):
            new.__dict__[name] = value.detach().clone() if isinstance(value, Tensor) else value


@lru_cache(maxsize=16)
def _library_attributes(base: type[LayeredNetwork]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names of the attributes, modules and buffers that networks of this library have."""
    quiet: dict[str, Any] = {"auto_save": False} if "auto_save" in signature(base.__init__).parameters else {}
    plain = base([1, 1], **quiet)
    known, modules = frozenset(vars(plain)), frozenset(plain._modules)
    return known | {"symbolic_acts", "symbolic_acts_premult"}, modules | {"base_fun", "base_fun_name"}, frozenset(plain._buffers)


def _replaces_a_method(network: nn.Module, name: str) -> bool:
    return callable(getattr(type(network), name, None))


def _unmoved(network: nn.Module) -> list[str]:
    """Functions that are set on `network` in the place of methods, and may refer to it in ways that nobody can tell."""
    return [
        name
        for name, value in network.__dict__.items()
        if callable(value) and _replaces_a_method(network, name) and not (isinstance(value, types.MethodType) and value.__self__ is network)
    ]


def portable_call(network: LayeredNetwork) -> bool:
    """Whether a network that is made from `network` is called in the same way."""
    return "forward" not in _unmoved(network)


def left_behind(old: LayeredNetwork, new: LayeredNetwork) -> list[str]:
    """Sentences on what `new`, which was made from `old`, lacks of its user's own code."""
    found = [
        f"the function that is set as model.{name} stays with the old model, which it may refer to: set it on the new one, or make it a "
        f"method of a subclass of {type(old).__name__}."
        for name in _unmoved(old)
    ]
    lost: dict[str, None] = {}
    for l, (before, after) in enumerate(zip(old.numeric_layers, new.numeric_layers, strict=False)):
        lost |= {f"act_fun[{l}].{name} ({how})": None for name, how in computed(before).items() if name not in computed(after)}
    if lost:
        found.append(f"{', '.join(lost)} has become an ordinary parameter with the same values: set up again what computed it.")
    return found


def in_the_kind_of(old: L, fresh: L) -> L:
    """The layer `fresh`, or if `old` is the user's own a copy of `old` with the parameters of `fresh`."""
    if not is_called(old):
        return fresh
    new = copy.deepcopy(old)
    take_apart_(new)
    for name, parameter in fresh.named_parameters(recurse=False):
        setattr(new, name, nn.Parameter(parameter.detach(), parameter.requires_grad))
    new.__dict__.update({name: value for name, value in fresh.__dict__.items() if name in ("k", "_table", "_named")})
    return new
