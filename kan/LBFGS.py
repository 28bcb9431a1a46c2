"""pykan's import path of the optimiser."""

from kan.training.lbfgs import LBFGS

__all__ = ["LBFGS"]
