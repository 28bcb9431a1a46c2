"""Symbolic functions and their fit to curves.

The files form three storeys, and a file imports only files of its own storey or of a lower one:

1. Functions. ``function`` defines a row of the table and ``symmetries`` its symmetries, ``singular`` has the versions that stay finite at
   singular points, ``families`` the functions with constants, and ``library`` the table in which names are looked up. ``user_function``,
   ``slopes``, ``evaluation``, ``augmentation`` and ``latex`` assign, differentiate, evaluate and print functions.
2. Parts of a fit. ``starts`` proposes starting points, ``linear_parameters`` computes c, d and R^2 of ``c f(a x + b) + d`` for given a, b.
3. Fits. ``search`` finds a and b, ``affine_fit`` fits functions and ``family_fit`` fits families to a batch of curves.

Of the package, this room imports only the ground floor.
"""

from .affine_fit import SymbolicFit, fit_affine, fit_params
from .function import SymbolicFunction
from .library import SYMBOLIC_LIB, add_symbolic, lookup, resolve_library
from .symmetries import Symmetries, canonicalise

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
