"""What of a network is its user's own code, which closed forms do not know.

Training, statistics and grid updates compute from the parameters of a network, without calling its modules one by one. That is right as
long as the modules are those of this library and nothing is hooked to them. This file is the one place that says whether it is so. Where it
is not, the network and its layers are called as modules, what they give is differentiated by autograd, and the statistics are those of the
values that were seen.

There are four kinds of such code:

- between a call of the network and the pass through its layers (`own_call`): another ``forward``, of a subclass or set on the instance, or
  hooks of the network;
- in a layer (`is_called`): a subclass, another ``forward``, hooks;
- parameters that are computed from others (`kan.layers.computed`): ``torch.nn.utils.prune``, weight normalisation, parametrizations;
- methods that a function of this library has to call instead of its own (`own_methods`).

The first two are asked for in every pass, and take some 100 ns each. A further condition is a line in one of these functions.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from kan.layers.computed import computed
from kan.layers.kan_layer import KANLayer
from kan.layers.symbolic_layer import SymbolicLayer

__all__ = ["PENALTY", "check_layer", "is_called", "own_call", "own_methods", "own_parts"]

NUMERIC = ("grid", "coef", "mask", "scale_base", "scale_sp", "num", "k", "in_dim", "out_dim", "base_fun")
SYMBOLIC = ("mask", "affine", "funs_name")
"""What is read from layers, whoever has made them."""
PENALTY = ("get_reg", "reg")
"""Methods that define the penalty of a fit."""
LIBRARY = "kan."
"""How the names of this library's modules begin."""


def own_call(network: nn.Module) -> str:
    """What stands between a call of `network` and the pass through its layers, as a noun phrase; empty if nothing does."""
    kind = type(network)
    if "forward" in network.__dict__:
        return "the forward that is set on the model"
    if not _is_ours(kind.forward):
        return f"the forward of {kind.__name__}"
    if kind.__call__ is not nn.Module.__call__:
        return f"the __call__ of {kind.__name__}"
    return f"{_hooks(network)} of the model" if _is_hooked(network) else ""


def is_called(layer: nn.Module) -> bool:
    """Whether a pass must call the numeric or symbolic `layer` as a module."""
    kind = type(layer)
    if "parametrizations" in layer._modules:  # torch has given it a class of its own, with the properties that compute the parameters
        kind = kind.__bases__[0]
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return True
    return (kind is not KANLayer and kind is not SymbolicLayer) or "forward" in layer.__dict__


def check_layer(layer: nn.Module, name: str) -> None:
    """Raise ``TypeError`` if `layer`, which is called `name`, lacks what is read from all layers, as modules of other kinds do."""
    kind, needed = (KANLayer, NUMERIC) if name.startswith("act_fun") else (SymbolicLayer, SYMBOLIC)
    if not isinstance(layer, kind) and (lacking := [attribute for attribute in needed if not hasattr(layer, attribute)]):
        raise TypeError(
            f"{name} is of the class {type(layer).__name__} and lacks {', '.join(lacking)}, which grids, statistics and checkpoints are "
            f"read from: make it a subclass of {'KANLayer' if kind is KANLayer else 'Symbolic_KANLayer'} with a forward of its own."
        )


def own_methods(module: nn.Module, *names: str) -> list[str]:
    """The names among `names` whose methods are the user's own: a subclass defines them, or they are set on the instance."""
    return [name for name in names if name in module.__dict__ or not _is_ours(getattr(type(module), name, own_methods))]


def own_parts(network: nn.Module) -> list[str]:
    """Everything on the way from a call of `network` to its outputs that closed forms do not know, as noun phrases; empty for most."""
    between = own_call(network)
    found = [between] if between else []
    for kind in ("act_fun", "symbolic_fun"):
        for l, layer in enumerate(getattr(network, kind)):
            check_layer(layer, f"{kind}[{l}]")
            if is_called(layer):
                what = _hooks(layer) if _is_hooked(layer) else "the forward that is set on it" if "forward" in layer.__dict__ else ""
                found.append(f"{kind}[{l}] ({what or type(layer).__name__})")
            found += [f"{kind}[{l}].{name} ({how})" for name, how in computed(layer).items()]
    return found


def _is_ours(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith(LIBRARY)


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _hooks(module: nn.Module) -> str:
    """The kinds of hooks that `module` has, as a noun phrase."""
    kinds = {
        "pre-hooks": module._forward_pre_hooks, "forward hooks": module._forward_hooks, "backward hooks": module._backward_hooks,
        "backward pre-hooks": module._backward_pre_hooks,
    }  # fmt: skip
    return "the " + " and ".join(name for name, hooks in kinds.items() if hooks)
