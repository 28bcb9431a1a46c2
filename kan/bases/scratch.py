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


class _Blocks(threading.local):
    def __init__(self) -> None:
        self.known: dict[tuple[str, torch.dtype], Tensor] = {}


_blocks = _Blocks()


def scratch(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uninitialised numbers of the dtype and on the device of `like`, the caller's until this thread asks for `name` again."""
    size = math.prod(shape)
    if like.device.type != "cpu" or size > LARGEST:
        return like.new_empty(shape)
    block = _blocks.known.get((name, like.dtype))
    if block is None or block.numel() < size:
        with torch.inference_mode(False):  # it must be of use outside of that mode, too
            block = _blocks.known[name, like.dtype] = torch.empty(size, dtype=like.dtype)
    return block[:size].view(shape)
