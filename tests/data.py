"""Samples and networks with random weights, for all tests. Every number comes from a generator with a seed of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from kan.network.network import Network

__all__ = ["proportions", "source", "uniform", "wild"]


def source(seed: int) -> torch.Generator:
    """A generator with this seed."""
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0, dtype: torch.dtype | None = torch.float64) -> Tensor:
    """Uniform numbers between `low` and `high`; in torch's default dtype if `dtype` is None."""
    return low + (high - low) * proportions(*shape, seed=seed, dtype=dtype)


def proportions(*shape: int, seed: int = 0, dtype: torch.dtype | None = torch.float64) -> Tensor:
    """Uniform numbers between 0 and 1."""
    return torch.rand(*shape, generator=source(seed), dtype=dtype)


@torch.no_grad()
def wild(width: list, seed: int = 0, alive: float = 0.8, **settings: object) -> Network:
    """A network with random parameters, in float64, of whose numeric edges a share `alive` is on, with masks of any size."""
    network, generator = Network(width, seed=seed, **settings), source(seed)  # type: ignore[arg-type]
    for name, p in network.named_parameters():
        if not name.endswith(("grid", "mask")):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    for layer in network.numeric_layers:
        size = torch.randn(layer.mask.shape, generator=generator, dtype=torch.float64)
        layer.mask.copy_(size * (torch.rand(layer.mask.shape, generator=generator, dtype=torch.float64) < alive))
        layer.mask[0, 0] = 0.7
    return network
