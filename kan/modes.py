"""Ways in which torch runs a program other than one operation after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch.autograd import forward_ad

__all__ = ["composed", "composing", "in_own_precision", "threads"]

F = TypeVar("F", bound=Callable[..., Any])

_composing: ContextVar[bool] = ContextVar("composing", default=False)


def composed() -> bool:
    """Whether a computation must be made of torch's own differentiable operations, without branches that depend on data.

    That is so under the transforms of ``torch.func``, under forward-mode differentiation and in ``torch.compile``, ``torch.export`` and
    ``torch.jit.trace``: they look inside a computation, where our closed forms write into buffers.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()  # what torch.jit.is_tracing() asks, without its detours
        # No public function tells these two; torch's own autograd.Function asks the first of them.
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or _composing.get()
    )


@contextmanager
def composing() -> Iterator[None]:
    """Make every computation of the block of torch's own operations: what is differentiated in many directions at once must be."""
    token = _composing.set(True)
    try:
        yield
    finally:
        _composing.reset(token)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let this thread's tensor operations use `count` threads, for the time of the block.

    With few numbers one thread is quicker than several, which spend the time waiting for each other: on a busy machine ten times as much.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_own_precision(function: F) -> F:
    """Let `function` compute in the types of its tensors: what a fit solves for is no matter of the few digits that autocast leaves."""

    @wraps(function)
    def exact(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return cast("F", exact)
