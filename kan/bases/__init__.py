"""Spaces of functions of one variable: the bases that layers can use, and functions of tensors that evaluate and fit them.

>>> import kan.bases
>>> sorted(kan.bases.BASES)
['bspline', 'chebyshev', 'fourier', 'rbf', 'ricker']
"""

# Importing a basis registers it.
from kan.bases.base import Basis, IntervalBasis
from kan.bases.bspline import BSpline
from kan.bases.chebyshev import Chebyshev
from kan.bases.fourier import Fourier
from kan.bases.rbf import GaussianRBF
from kan.bases.registry import BASES, register_basis
from kan.bases.wavelet import Ricker

__all__ = ["BASES", "BSpline", "Basis", "Chebyshev", "Fourier", "GaussianRBF", "IntervalBasis", "Ricker", "register_basis"]
