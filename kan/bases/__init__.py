"""One-dimensional function spaces: pure tensor functions on knots and coefficients, and bases that layers can plug in.

>>> import kan.bases
>>> sorted(kan.bases.BASES)
['bspline']
"""

# Importing a basis registers it.
from kan.bases.base import Basis, IntervalBasis
from kan.bases.bspline import BSpline
from kan.bases.registry import BASES, register_basis

__all__ = ["BASES", "BSpline", "Basis", "IntervalBasis", "register_basis"]
