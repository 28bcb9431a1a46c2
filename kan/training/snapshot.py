"""All tensors of a network at one time, to go back to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["restore_", "round_into_", "snapshot"]


def snapshot(network: nn.Module) -> list[Tensor]:
    """Copies of all parameters and buffers, grids and masks included."""
    return [values.detach().clone() for values in (*network.parameters(), *network.buffers())]


@torch.no_grad()
def restore_(network: nn.Module, saved: list[Tensor]) -> None:
    """Bring `network` back to a snapshot of it."""
    for values, before in zip((*network.parameters(), *network.buffers()), saved, strict=True):
        values.copy_(before)


@torch.no_grad()
def round_into_(network: nn.Module, exact: nn.Module) -> None:
    """Give `network` the values of a copy of it in another format."""
    for ours, theirs in zip(network.state_dict().values(), exact.state_dict().values(), strict=True):
        ours.copy_(theirs)
