"""Symbolic functions and their fit to curves.

``library`` is the table of functions an edge can be replaced by, ``affine_fit`` finds the best ``c f(a x + b) + d``
for a batch of curves. This room imports nothing else of the package.
"""

from .affine_fit import SymbolicFit, canonicalise, fit_affine, fit_params
from .library import (
    SYMBOLIC_LIB,
    SymbolicFunction,
    Symmetries,
    add_symbolic,
    lookup,
    resolve_library,
)

__all__ = [
    "SYMBOLIC_LIB",
    "SymbolicFit",
    "SymbolicFunction",
    "Symmetries",
    "add_symbolic",
    "canonicalise",
    "fit_affine",
    "fit_params",
    "lookup",
    "resolve_library",
]
