"""Copies of the state of a network, to which it can be brought back: its tensors, or everything that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["restore_", "round_into_", "snapshot", "undone_on_error", "way_back"]

TABLES = ("_parameters", "_buffers", "_modules")
"""Names of the dictionaries of a torch module that are changed in place when a part of the module is replaced."""


def snapshot(network: nn.Module) -> list[Tensor]:
    """Copies of all parameters and buffers, grids and masks included."""
    return [values.detach().clone() for values in (*network.parameters(), *network.buffers())]


@torch.no_grad()
def restore_(network: nn.Module, saved: list[Tensor]) -> None:
    """Bring `network` back to its snapshot `saved`."""
    for values, before in zip((*network.parameters(), *network.buffers()), saved, strict=True):
        values.copy_(before)


def way_back(network: nn.Module) -> Callable[[], None]:
    """A function that makes `network` what it is now: tensors, their shapes, and attributes such as labels and the last input."""
    parts = [(part, dict(vars(part)), [dict(vars(part)[table]) for table in TABLES]) for part in network.modules()]
    tensors = [*network.parameters(), *network.buffers()]
    saved = snapshot(network)

    @torch.no_grad()
    def back() -> None:
        for part, attributes, tables in parts:
            vars(part).clear()
            vars(part).update(attributes)
            for name, table in zip(TABLES, tables, strict=True):
                attributes[name].clear()
                attributes[name].update(table)
        for values, before in zip(tensors, saved, strict=True):
            values.copy_(before)

    return back


@contextmanager
def undone_on_error(back: Callable[[], None]) -> Iterator[None]:
    """Call `back`, which `way_back` has made, if the body of the ``with`` block fails or is interrupted."""
    try:
        yield
    except BaseException:
        back()
        raise


@torch.no_grad()
def round_into_(network: nn.Module, exact: nn.Module) -> None:
    """Give `network` the values of `exact`, a copy of it in another floating-point format."""
    for ours, theirs in zip(network.state_dict().values(), exact.state_dict().values(), strict=True):
        ours.copy_(theirs)
