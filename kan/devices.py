"""Tensors on other devices than the CPU: which numbers can be read without waiting, and constants that need not be copied again.

A GPU works through a queue of operations. A program that only adds to the queue keeps it busy. A program that asks for a number, as
``bool(mask.any())`` or ``loss.item()`` do, waits until the queue is empty, and so does one that copies a list of Python's numbers to the
device. A small network spends most of its time that way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kan.modes import composed

__all__ = ["Remembered", "at_hand", "constant", "fingerprint", "number_like", "read"]

CONSTANTS = 256
"""Number of constants that are kept on devices: a round choice, more than the layers and symbolic edges of usual networks need."""


def at_hand(x: Tensor) -> bool:
    """Whether the numbers of `x` can be read without waiting for a device. If not, to compute with them costs less than to look at them."""
    return x.is_cpu


def read(*numbers: Tensor) -> list[float]:
    """The values of tensors with one number each, all in one transfer if they are on a device."""
    if all(map(at_hand, numbers)):
        return [float(number) for number in numbers]
    found: list[float] = torch.stack([number.detach().double().reshape(()) for number in numbers]).tolist()
    return found


class Remembered:
    """A tensor as it was, to be compared with what it has become: by its numbers where they are at hand, elsewhere as `fingerprint` does.

    Args:
        x: the tensor.
    """

    def __init__(self, x: Tensor) -> None:
        self._x, self._version = x, x._version
        self._numbers = x.detach().clone() if at_hand(x) else None

    def is_current(self, x: Tensor) -> bool:
        """Whether `x` is that tensor, and has not changed."""
        return x is self._x and (x._version == self._version if self._numbers is None else torch.equal(x, self._numbers))


def fingerprint(x: Tensor) -> object:
    """What changes with the numbers of `x`: they themselves, as a list, where they are at hand; elsewhere how often it has been changed.

    Changes through ``x.data`` are not counted by torch, and remain unnoticed on other devices.
    """
    return x.tolist() if at_hand(x) else (id(x), x._version)


def constant(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The tensor of some numbers, or of tuples of them. On other devices than the CPU it is copied there once; do not write into it."""
    if device.type == "cpu" or composed():
        return torch.tensor(numbers, dtype=dtype, device=device)
    return _constant(numbers, dtype, device)


@lru_cache(maxsize=CONSTANTS)
def _constant(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # to be of use outside of that mode, too
        return torch.tensor(numbers, dtype=dtype, device=device)


def number_like(value: float | Tensor, like: Tensor) -> Tensor:
    """A number, or a tensor of them, with the dtype and on the device of `like`; a number is written there instead of copied."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)
