"""pykan's import path of the layer."""

from kan.layers.kan_layer import KANLayer

__all__ = ["KANLayer"]
