"""Memory that is used again and again.

A pass over a layer needs a few blocks of some hundred kilobytes for a moment. Fresh memory of that size is handed back to the system and
taken anew each time, and its first touch costs several times the arithmetic done in it.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

__all__ = ["scratch"]

LARGEST = 1 << 20
"""Most numbers in a kept block; larger ones are fresh."""


VIEWS = 256
"""Most shapes remembered; to make a view of a block costs as much as to use a small one."""


class _Blocks(threading.local):
    def __init__(self) -> None:
        self.known: dict[tuple[str, torch.dtype], Tensor] = {}
        self.views: dict[tuple[str, torch.dtype, tuple[int, ...]], Tensor] = {}


_blocks = _Blocks()


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uninitialised numbers of the dtype and on the device of `like`, the caller's until this thread asks for `name` again."""
    if like.device.type != "cpu":
        return like.new_empty(shape)
    view = _blocks.views.get((name, like.dtype, shape))
    if view is None:
        size = math.prod(shape)
        if size > LARGEST:
            return like.new_empty(shape)
        block = _blocks.known.get((name, like.dtype))
        with torch.inference_mode(False):  # it must be of use outside of that mode, too
            if block is None or block.numel() < size:
                block = _blocks.known[name, like.dtype] = torch.empty(size, dtype=like.dtype)
                _blocks.views.clear()  # they keep the former block
            elif len(_blocks.views) >= VIEWS:
                _blocks.views.clear()
            view = _blocks.views[name, like.dtype, shape] = block[:size].view(shape)
    return view
