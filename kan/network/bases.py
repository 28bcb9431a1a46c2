"""The bases of a network's layers, read from arguments and from the descriptions in files.

An argument ``basis`` is the name of a registered basis, a `Basis`, or a list with one of these for every layer. A name says that a layer
of ``grid`` intervals and degree ``k`` has ``grid + k`` functions; a `Basis` has a number of functions of its own, from which ``grid`` and
``k`` follow. A file describes a `Basis` by the name of its class and the values of its fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from kan.bases.base import Basis
from kan.bases.bspline import BSpline
from kan.bases.registry import BASES, basis_class
from kan.layers.arguments import make_basis
from kan.layers.kan_layer import KANLayer, with_degree

__all__ = ["USUAL", "Bases", "bases_of", "described", "of_layers", "read", "resized", "spline_degree"]

Bases: TypeAlias = "str | Basis | Sequence[str | Basis]"
"""One basis for all layers, or a list with one per layer; each a name or a `Basis`."""

USUAL = "bspline"
"""The name of the basis that networks have unless they are given another one."""


def of_layers(basis: Bases, intervals: Sequence[int], degrees: Sequence[int], stated: bool) -> list[tuple[Basis, int, int]]:
    """For every layer its basis, grid intervals and degree.

    Args:
        basis: as stated.
        intervals, degrees: for every layer.
        stated: whether the user has stated these, so that a `Basis` with another number of functions contradicts them.

    Raises:
        TypeError: if an entry is neither a name nor a `Basis`.
        ValueError: if a name is not known, or the numbers contradict each other.
    """
    if isinstance(basis, (list, tuple)) and len(basis) != len(intervals):
        raise ValueError(f"basis must be one for all layers, or a list of {len(intervals)}, one per layer; got {len(basis)} entries.")
    found = []
    for l, (num, k) in enumerate(zip(intervals, degrees, strict=True)):
        one, degree = with_degree(make_basis(_of_layer(basis, l), num, k, None), k)
        if stated and (one.size - degree, degree) != (num, k):
            raise ValueError(
                f"{one} has {one.size} functions, and grid={num} with k={k} asks for {num + k}: write grid={one.size - degree} and "
                f"k={degree}, leave grid and k out, or give the basis by its name."
            )
        found.append((one, one.size - degree, degree))
    return found


def _of_layer(basis: Bases, l: int) -> str | Basis:
    """The entry of layer `l`; layers beyond the end of a list have the last one."""
    return basis[min(l, len(basis) - 1)] if isinstance(basis, (list, tuple)) else basis  # type: ignore[return-value]


def bases_of(layers: Sequence[KANLayer]) -> str | Basis | list[str | Basis]:
    """The argument that layers like `layers` are made with: names where these suffice, one entry where all layers have the same."""
    found = [_stated(layer) for layer in layers]
    return found[0] if all(one == found[0] for one in found[1:]) else found


def _stated(layer: KANLayer) -> str | Basis:
    basis = getattr(layer, "basis", None)  # a layer of the user's own class may have none
    if not isinstance(basis, Basis):
        return USUAL
    name = _name_of(basis)
    return name if name is not None and make_basis(name, layer.num, layer.k, None) == basis else basis


def _name_of(basis: Basis) -> str | None:
    """The name that the class of `basis` is registered by."""
    return next((name for name, cls in BASES.items() if cls is type(basis)), None)


def resized(basis: Bases, intervals: int | Sequence[int], degrees: int | Sequence[int], depth: int) -> str | Basis | list[str | Basis]:
    """`basis` for other numbers of functions: names as they are, and every `Basis` with ``grid + k`` functions of its kind.

    Raises:
        ValueError: if there is none with so many functions.
    """
    if isinstance(basis, str):
        return basis
    counts, ks = (list(each) if isinstance(each, Iterable) else [each] * depth for each in (intervals, degrees))
    found = []
    for l, (num, k) in enumerate(zip(counts, ks, strict=False)):
        one = _of_layer(basis, l)
        found.append(one if isinstance(one, str) else one.resized(num, k))
    return found[0] if all(one == found[0] for one in found[1:]) else found


def spline_degree(basis: Bases, l: int, size: int, knots: int, k: int | Sequence[int]) -> tuple[int, int]:
    """The degree that the shapes of layer `l` tell, and how many numbers per input its grid should have.

    Args:
        basis: as stated.
        l: the layer.
        size: number of functions ``n`` that its coefficients have.
        knots: numbers per input that its grid has.
        k: degree of the layers whose basis is not splines, where the shapes do not tell it.
    """
    one = _of_layer(basis, l)
    if issubclass(basis_class(one) if isinstance(one, str) else type(one), BSpline):
        degree = knots - 1 - size  # G + 2k + 1 knots and G + k functions
        return degree, size + degree + 1
    ks = list(k) if isinstance(k, Iterable) else [k]
    degree = min(ks[min(l, len(ks) - 1)], size - 1)
    num = size - degree
    if num < 1 or degree < 0:
        return degree, knots
    return degree, (make_basis(one, num, degree, None)).resized(num, degree).initial_grid(1, -1.0, 1.0).shape[1]


def described(basis: Bases) -> Any:
    """`basis` as plain data: names, and ``{"name": ..., "fields": {...}}`` of every `Basis`.

    The fields are left out of a basis that has others than numbers and texts; to read it takes the basis itself.
    """
    if isinstance(basis, (list, tuple)):
        return [described(one) for one in basis]
    if not isinstance(basis, Basis):
        return basis
    found: dict[str, Any] = {"name": _name_of(basis) or type(basis).__name__}
    values = {field.name: getattr(basis, field.name) for field in fields(basis) if field.init} if is_dataclass(basis) else None
    if values is not None and all(value is None or isinstance(value, (bool, int, float, str)) for value in values.values()):
        found["fields"] = values
    return found


def read(plain: Any, own: Mapping[str, Any] | None = None) -> str | Basis | list[str | Basis]:
    """The argument that `plain`, from `described`, stands for.

    Args:
        plain: the description, from a file perhaps.
        own: bases, or their classes, by names that are not registered.

    Raises:
        ValueError: if it describes no basis, or one that is not known; the message says what to do.
    """
    if isinstance(plain, list) and plain:
        return [one for entry in plain for one in [read(entry, own)] if not isinstance(one, list)]
    name = plain.get("name") if isinstance(plain, Mapping) else plain
    values = plain.get("fields") if isinstance(plain, Mapping) else {}
    if not isinstance(name, str) or not (values is None or isinstance(values, Mapping)):
        raise ValueError(f"a basis is described by a name, or by a name and fields; got {repr(plain)[:100]}.")
    known = (own or {}).get(name, BASES.get(name))
    if isinstance(known, Basis):
        return known
    if not (isinstance(known, type) and issubclass(known, Basis)):
        raise ValueError(
            f"the basis {name!r} is not known here: a file holds only its name. Import the module that registers it with "
            f"kan.bases.register_basis({name!r}) first, or hand it over: KAN.load and KAN.loadckpt take functions={{{name!r}: basis}}, and "
            f"from_state_dict takes basis=."
        )
    if not isinstance(plain, Mapping) and name in BASES and BASES[name] is known:
        return name
    try:
        if values is None:
            raise TypeError("its fields are not in the file")
        return known(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the basis {name!r} cannot be made from the file: {error}. Hand over the basis itself: KAN.load and KAN.loadckpt take "
            f"functions={{{name!r}: basis}}, and from_state_dict takes basis=."
        ) from error
