"""What all methods of training a stack of networks have in common, and the threads that they run in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from kan.network.network import Network
from kan.training.together.stack import Mapper, SharedSamples, Stack
from kan.training.together.stack_pass import losses

__all__ = ["BatchedMethod", "quietly", "workers"]

T = TypeVar("T")

TOGETHER_IN_KERNELS = 4
"""Number of networks whose losses, or gradients, a thread computes at a time with the kernels: a round choice."""


@contextmanager
def workers() -> Iterator[Mapper]:
    """A `map` over as many threads as torch may use; each of them runs its tensor operations without further threads."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(count)


class BatchedMethod(ABC):
    """A method of training all networks of a stack.

    Args:
        stack: the networks.
        lr: learning rate.
        mapper: the function like `map` that goes through the blocks.
    """

    def __init__(self, stack: Stack, lr: float, mapper: Mapper) -> None:
        self.stack, self.mapper = stack, mapper

    @staticmethod
    def dtype(network: Network) -> torch.dtype:
        """The data type in which the method computes."""
        return network.dtype

    @abstractmethod
    def step(self, shared: SharedSamples, active: Sequence[int]) -> Tensor:
        """Take one step with the networks `active`; returns the losses of all networks afterwards, ``(S,)``."""

    @abstractmethod
    def reset(self, ids: Sequence[int]) -> None:
        """Discard what is no longer valid after the grids of the networks `ids` have moved."""

    @abstractmethod
    def state_of(self, s: int) -> dict[str, Any]:
        """The state of the method for network `s`, as `Stepper.state_dict` returns it."""

    def losses(self, shared: SharedSamples) -> Tensor:
        """The losses of all networks, ``(S,)``."""
        stack, compiled = self.stack, self.stack.compiled
        if compiled is not None:
            return self._numbers(lambda s: compiled.loss(s, shared.batch))
        blocks = stack.blocks(stack.split(range(stack.count), len(shared)))
        return torch.cat(list(self.mapper(quietly(lambda block: losses(block, shared.features)), blocks)))

    def _numbers(self, function: Callable[[int], float]) -> Tensor:
        """A number of each network, ``(S,)``. A call of the `mapper` gets several networks, since it takes as long as some losses."""
        ids = list(range(self.stack.count))
        parts = [ids[start : start + TOGETHER_IN_KERNELS] for start in range(0, len(ids), TOGETHER_IN_KERNELS)]
        found = self.mapper(quietly(lambda part: [function(s) for s in part]), parts)
        return self.stack.parameters[0].new_tensor([value for values in found for value in values])


def quietly(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """`function` with gradients switched off, in whichever thread it is called."""

    def run(argument: Any) -> T:
        with torch.no_grad():
            return function(argument)

    return run
