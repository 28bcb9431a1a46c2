"""Initial weights of `KANLinear`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kan.errors import unknown_name

if TYPE_CHECKING:
    from kan.layers.kan_linear import KANLinear

__all__ = ["INITIALISATIONS", "initialise"]


@torch.no_grad()
def _efficient_kan(layer: KANLinear, generator: torch.Generator | None) -> None:
    nn.init.kaiming_uniform_(layer.base_weight, a=math.sqrt(5) * layer.scale_base, generator=generator)
    low, high = layer.grid_range
    exact: dict[str, Any] = {"dtype": torch.float64, "device": layer.grid.device}
    sites = torch.linspace(low, high, layer.grid_size + 1, **exact)[:, None].expand(-1, layer.in_features)
    noise = torch.rand(len(sites), layer.in_features, layer.out_features, generator=generator, **exact) - 0.5
    coef = layer.curve2coeff(sites.to(layer.grid), (noise * layer.scale_noise / layer.grid_size).to(layer.grid))
    layer.spline_weight.copy_(coef if layer.spline_scaler is not None else coef * layer.scale_spline)
    if layer.spline_scaler is not None:
        nn.init.kaiming_uniform_(layer.spline_scaler, a=math.sqrt(5) * layer.scale_spline, generator=generator)


INITIALISATIONS: dict[str, Callable[[KANLinear, torch.Generator | None], None]] = {"efficient-kan": _efficient_kan}
"""Every initialisation by name."""


def initialise(name: str, layer: KANLinear, generator: torch.Generator | None) -> None:
    """Draw the weights of `layer` by the scheme `name`."""
    if name not in INITIALISATIONS:
        raise unknown_name("initialisation", name, INITIALISATIONS)
    INITIALISATIONS[name](layer, generator)
