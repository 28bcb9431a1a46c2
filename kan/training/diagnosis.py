"""Where a network's numbers stop being finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kan.network.perceptron import Perceptron
from kan.network.user_code.observed import observed
from kan.network.user_code.own_code import own_call
from kan.training.data.samples import Model

__all__ = ["bad_gradient", "where_not_finite"]


@torch.no_grad()
def where_not_finite(network: Model, x: Tensor, **evaluation: Any) -> str:
    """A clause that names the first layer whose sums are not finite for the inputs `x` ``(B, n)``; empty if all are.

    Args:
        network: is evaluated.
        x: the inputs.
        evaluation: goes to a KAN's `trace`.
    """
    if isinstance(network, Perceptron):
        trace = network.trace(x)
        sums = [*trace.acts[1:], trace.output]
    else:
        record = observed(network, x, **evaluation).trace if own_call(network) else network.trace(x, **evaluation)
        sums = [] if record is None else [layer.sums for layer in record.layers]
    for l, values in enumerate(sums):
        bad = ~torch.isfinite(values).all(dim=0)
        if bool(bad.any()):
            return f"layer {l} is the first whose sums are not finite, at its outputs {bad.nonzero()[:, 0].tolist()}"
    return ""


def bad_gradient(network: Model) -> str:
    """A clause that names the first parameter whose gradient is there and not finite; empty if none is."""
    for name, p in network.named_parameters():
        if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
            return f"the sums of all layers are finite, the loss or the gradient of {name} is not"
    return ""
