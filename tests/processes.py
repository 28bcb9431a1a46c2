"""What the tests run in other processes, which import it by name."""

from typing import Any

import torch
from torch import Tensor

from kan.symbolic.library import SYMBOLIC_LIB


def outcome(model: Any, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of its sum with respect to input and parameters."""
    x = x.detach().clone().requires_grad_()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    y = model(x)
    found = torch.autograd.grad(y.square().sum() + 0 * x.sum(), [x, *parameters.values()], allow_unused=True)
    gradients = {name: g for name, g in zip(["x", *parameters], found, strict=True) if g is not None}
    return {"output": y.detach(), **gradients}


def answer(model: Any, x: Tensor) -> tuple[dict[str, Any], list[str], Any]:
    """`outcome` as arrays, which no process must keep alive for another; the user's rows of this process's table; the model."""
    return {name: value.numpy() for name, value in outcome(model, x).items()}, [name for name in SYMBOLIC_LIB if "own" in name], model
