"""Parameters of a layer that torch computes from others, as ``torch.nn.utils.prune``, weight normalisation and parametrizations do.

A layer has no parameter ``coef`` then. Pruning and the older weight normalisation compute an attribute of that name in a forward pre-hook,
so that it is up to date only after a call of the layer; a parametrization computes it whenever it is read. What is written into it is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

__all__ = ["computed", "put_", "settle_", "settled", "take_apart_"]


def computed(layer: nn.Module) -> dict[str, str]:
    """Names of the computed parameters of `layer`, and what computes each of them."""
    found = {name: "parametrized" for name in _parametrizations(layer)}
    if layer._forward_pre_hooks:
        for name, hook in _hooks(layer):
            found[name] = "pruned by torch" if isinstance(hook, prune.BasePruningMethod) else type(hook).__name__
    return found


def _parametrizations(layer: nn.Module) -> dict[str, nn.Module]:
    """By the names of the parametrized parameters, the modules that compute them."""
    parts = layer._modules.get("parametrizations")
    return {} if parts is None else dict(parts.named_children())


def _hooks(layer: nn.Module) -> list[tuple[str, Callable[..., Any]]]:
    """The pre-hooks that compute parameters, with the names of these."""
    found = []
    for hook in layer._forward_pre_hooks.values():
        name = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
        if isinstance(name, str) and name not in layer._parameters and isinstance(layer.__dict__.get(name), Tensor):
            found.append((name, hook))
    return found


@torch.no_grad()
def settle_(layer: nn.Module) -> None:
    """Bring the attributes that pre-hooks compute up to date, as a call of `layer` would."""
    if layer._forward_pre_hooks:
        for _, hook in _hooks(layer):
            hook(layer, ())


def settled(layer: nn.Module, name: str) -> Tensor:
    """The parameter `name` of `layer` as it is now, without a graph."""
    settle_(layer)
    value: Tensor = getattr(layer, name).detach()
    return value


@torch.no_grad()
def put_(layer: nn.Module, name: str, value: Tensor) -> None:
    """Let the parameter `name` of `layer` be `value`, or what comes nearest where it is computed: pruned entries stay zero.

    A parametrization without an inverse takes `value` for what it is applied to, if that is a tensor of the same shape, or stays as it is.
    """
    if name in _parametrizations(layer):
        try:
            setattr(layer, name, value.detach())  # a parameter would take the place of the computed one
        except (NotImplementedError, RuntimeError):  # there is no right inverse
            original = getattr(_parametrizations(layer)[name], "original", None)
            if isinstance(original, Tensor) and original.shape == value.shape:
                original.copy_(value)
    elif f"{name}_g" in layer._parameters and f"{name}_v" in layer._parameters:  # weight normalisation by a pre-hook
        direction, size = layer._parameters[f"{name}_v"], layer._parameters[f"{name}_g"]
        assert direction is not None and size is not None
        axes = [axis for axis, length in enumerate(size.shape) if length == 1 < value.shape[axis]]
        direction.copy_(value)
        size.copy_(torch.linalg.vector_norm(value, dim=axes, keepdim=True) if size.dim() else torch.linalg.vector_norm(value))
    elif f"{name}_orig" in layer._parameters:
        layer._parameters[f"{name}_orig"].copy_(value)  # type: ignore[union-attr]
    else:
        getattr(layer, name).copy_(value)
    settle_(layer)


def take_apart_(layer: nn.Module) -> dict[str, Any]:
    """Make plain parameters of the computed ones, with their present values, in place.

    Returns:
        For every one of them what computed it: the mask of a pruning, as a tensor, or its name.
    """
    settle_(layer)
    found: dict[str, Any] = computed(layer)
    for name, hook in _hooks(layer):
        value = getattr(layer, name).detach().clone()
        for key in [key for key, known in layer._forward_pre_hooks.items() if known is hook]:
            del layer._forward_pre_hooks[key]
        parts = [part for part in (*layer._parameters, *layer._buffers) if part.startswith(f"{name}_")]
        if isinstance(hook, prune.BasePruningMethod):
            found[name] = layer._buffers[f"{name}_mask"]
            parts = [f"{name}_orig", f"{name}_mask"]
        trained = any(p.requires_grad for part in parts if (p := layer._parameters.get(part)) is not None)
        for part in parts:
            layer._parameters.pop(part, None)
            layer._buffers.pop(part, None)
        del layer.__dict__[name]
        layer.register_parameter(name, nn.Parameter(value, trained))
    # Not by torch's remove_parametrizations: it takes the properties away from the class, which copies of a layer share.
    parametrized = _parametrizations(layer)
    values = {name: getattr(layer, name).detach().clone() for name in parametrized}
    if parametrized:
        layer.__class__ = type(layer).__bases__[0]
        del layer._modules["parametrizations"]
    for name, value in values.items():
        layer.register_parameter(name, nn.Parameter(value, any(p.requires_grad for p in parametrized[name].parameters())))
    return found
