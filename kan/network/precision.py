"""The precision in which a network computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["in_double"]


@contextmanager
def in_double(network: nn.Module) -> Iterator[None]:
    """Hold the numbers of `network` in float64 for the time of the block; they are rounded to their own types after it.

    A copy in float64 would do for most networks, but functions that are set on a network may refer to it, and not to the copy.
    """
    before = [(t, t.dtype) for t in (*network.parameters(), *network.buffers()) if t.is_floating_point() and t.dtype != torch.float64]
    try:
        for tensor, _ in before:
            tensor.grad, tensor.data = None, tensor.data.double()
        yield
    finally:
        for tensor, dtype in before:
            tensor.grad, tensor.data = None, tensor.data.to(dtype)
