"""pykan's import path of the model."""

from kan.model import KAN, MultKAN

__all__ = ["KAN", "MultKAN"]
