"""Temporary memory that is reused.

A pass through a layer briefly needs a few blocks of some hundred kilobytes. Newly allocated memory of that size is returned to the system
each time, and the first access to it costs several times the arithmetic done in it.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from kan.devices import at_hand

__all__ = ["scratch"]

LARGEST = 1 << 20
"""Largest number of elements in a block that is kept; larger blocks are allocated each time."""

VIEWS = 256
"""Largest number of views that are kept; creating a view of a small block costs as much as using it."""


class _Blocks(threading.local):
    def __init__(self) -> None:
        self.known: dict[tuple[str, torch.dtype], Tensor] = {}
        self.views: dict[tuple[str, torch.dtype, tuple[int, ...]], Tensor] = {}


_blocks = _Blocks()


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uninitialised memory with the dtype and device of `like`, valid until this thread requests `name` again."""
    if not at_hand(like):
        return like.new_empty(shape)
    view = _blocks.views.get((name, like.dtype, shape))
    if view is None:
        size = math.prod(shape)
        if size > LARGEST:
            return like.new_empty(shape)
        block = _blocks.known.get((name, like.dtype))
        with torch.inference_mode(False):  # the block must be usable outside of inference mode, too
            if block is None or block.numel() < size:
                block = _blocks.known[name, like.dtype] = torch.empty(size, dtype=like.dtype)
                _blocks.views.clear()  # they refer to the old block
            elif len(_blocks.views) >= VIEWS:
                _blocks.views.clear()
            view = _blocks.views[name, like.dtype, shape] = block[:size].view(shape)
    return view
