"""The registry of bases by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kan.bases.base import Basis
from kan.errors import unknown_name

__all__ = ["BASES", "basis_class", "register_basis"]

BASES: dict[str, type[Basis]] = {}
"""Registered bases, in which ``basis=name`` is looked up."""

AnyBasis = TypeVar("AnyBasis", bound=type[Basis])


def register_basis(name: str) -> Callable[[AnyBasis], AnyBasis]:
    """Class decorator that adds a basis to `BASES`.

    Raises:
        ValueError: if another class has the name already.
    """

    def register(cls: AnyBasis) -> AnyBasis:
        known = BASES.get(name)
        # The same class replaces its older version, as when a cell of a notebook is run twice.
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the basis name {name!r} is taken by {known.__module__}.{known.__qualname__}; choose another one.")
        BASES[name] = cls
        return cls

    return register


def basis_class(name: str) -> type[Basis]:
    """Return the class registered as `name`.

    Raises:
        ValueError: if the name is unknown; the message lists the known ones.
    """
    if name not in BASES:
        raise unknown_name("basis", name, sorted(BASES))
    return BASES[name]
