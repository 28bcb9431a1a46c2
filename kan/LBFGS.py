"""pykan's import path of the optimiser."""

from kan.solvers.lbfgs import LBFGS

__all__ = ["LBFGS"]
