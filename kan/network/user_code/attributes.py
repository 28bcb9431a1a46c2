"""Attributes that are computed when they are read, and that programs may set nevertheless.

In pykan, the results of a pass, the scores and the structure of a network are plain attributes. Programs assign to them to free memory, to
steer later calls, or in a constructor of their own. An assignment to one of these descriptors takes effect or is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Generic, TypeVar, overload

from torch import nn

__all__ = ["STATED", "Derived", "Lasting", "Recorded", "being_built", "derived", "state"]

T = TypeVar("T")

STATED = "_stated"
"""Where a module keeps the attributes that its subclass has set before ``super().__init__``, or without calling it."""


def being_built(module: nn.Module) -> bool:
    """Whether the module builds itself: its class has not called ``super().__init__``, or not yet."""
    return STATED in module.__dict__ or "structure" not in module.__dict__


def state(module: nn.Module, name: str, value: Any) -> None:
    """Keep an attribute that a class that builds itself has set."""
    own = module.__dict__
    own.setdefault(STATED, {})[name] = value
    own.pop("structure", None)  # it is made of what is stated


class _Computed(Generic[T]):
    """A descriptor of a value that `compute` computes from a module."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, module: None, owner: type) -> _Computed[T]: ...

    @overload
    def __get__(self, module: nn.Module, owner: type | None = None) -> T: ...

    def __get__(self, module: nn.Module | None, owner: type | None = None) -> Any:
        if module is None:
            return self
        there = module.__dict__.get(self.table)
        return there[self.name] if there and self.name in there else self.compute(module)

    table: str

    def __set__(self, module: nn.Module, value: Any) -> None:
        raise NotImplementedError

    def _check(self, value: Any) -> None:
        if value is not None and not isinstance(value, (list, tuple)):
            raise TypeError(f"{self.name} must be a list with one tensor for every layer, or None; got {value!r}.")


class Recorded(_Computed[T]):
    """A result of the last pass: computed from the last input, or, until the next pass, what a program has set, which may be None."""

    table = "_records"

    def __set__(self, module: nn.Module, value: Any) -> None:
        self._check(value)
        there = module.__dict__.get(self.table)
        module.__dict__[self.table] = {**(there or {}), self.name: value}

    def __delete__(self, module: nn.Module) -> None:
        self.__set__(module, None)


class Lasting(_Computed[T]):
    """A score: computed, or what has been set, until it is set to None or computed anew by ``attribute``."""

    table = "_given"

    def __set__(self, module: nn.Module, value: Any) -> None:
        self._check(value)
        there = {name: scores for name, scores in module.__dict__.get(self.table, {}).items() if name != self.name}
        module.__dict__[self.table] = there if value is None else {**there, self.name: value}

    def __delete__(self, module: nn.Module) -> None:
        self.__set__(module, None)


class Derived(_Computed[T]):
    """What follows from how a network is built. It can be set to what it is; to something else only by a class that builds itself."""

    table = STATED

    def __init__(self, compute: Callable[[Any], T], remedy: str) -> None:
        super().__init__(compute)
        self.remedy = remedy

    def __set__(self, module: nn.Module, value: Any) -> None:
        if being_built(module):
            state(module, self.name, value)
        elif _pairs(value) != _pairs(now := self.compute(module)):
            raise AttributeError(f"{self.name} follows from the layers of the network and is {now!r} here, not {value!r}: {self.remedy}.")


def derived(remedy: str) -> Callable[[Callable[[Any], T]], Derived[T]]:
    """Decorator for what follows from how a network is built; `remedy` ends the message to those who set it to something else."""
    return lambda compute: Derived(compute, remedy)


def _pairs(value: Any) -> Any:
    """A width with pairs for numbers, or any other value with lists for tuples."""
    if isinstance(value, (list, tuple)) and all(isinstance(entry, (Integral, list, tuple)) for entry in value):
        return [[int(entry), 0] if isinstance(entry, Integral) else list(entry) for entry in value]
    return value
