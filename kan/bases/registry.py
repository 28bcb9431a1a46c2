"""Bases by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kan.bases.base import Basis
from kan.errors import unknown_name

__all__ = ["BASES", "basis_class", "register_basis"]

BASES: dict[str, type[Basis]] = {}
"""Every registered basis; `KANLinear(..., basis=name)` looks it up here."""

AnyBasis = TypeVar("AnyBasis", bound=type[Basis])


def register_basis(name: str) -> Callable[[AnyBasis], AnyBasis]:
    """Class decorator that adds a basis to `BASES`.

    Raises:
        ValueError: if another class has the name already.
    """

    def register(cls: AnyBasis) -> AnyBasis:
        known = BASES.get(name)
        # The same class again, as when a notebook's cell is run twice, replaces the old one.
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the basis name {name!r} is taken by {known.__module__}.{known.__qualname__}; choose another one.")
        BASES[name] = cls
        return cls

    return register


def basis_class(name: str) -> type[Basis]:
    """The class registered as `name`.

    Raises:
        ValueError: for an unknown name, with the known ones.
    """
    if name not in BASES:
        raise unknown_name("basis", name, sorted(BASES))
    return BASES[name]
