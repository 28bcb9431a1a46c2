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
    f_arccos,
    f_arcsin,
    f_arctanh,
    f_exp,
    f_inv,
    f_inv2,
    f_inv3,
    f_inv4,
    f_inv5,
    f_invsqrt,
    f_log,
    f_power1d5,
    f_sqrt,
    f_tan,
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
    "f_arccos",
    "f_arcsin",
    "f_arctanh",
    "f_exp",
    "f_inv",
    "f_inv2",
    "f_inv3",
    "f_inv4",
    "f_inv5",
    "f_invsqrt",
    "f_log",
    "f_power1d5",
    "f_sqrt",
    "f_tan",
    "fit_affine",
    "fit_params",
    "lookup",
    "resolve_library",
]
