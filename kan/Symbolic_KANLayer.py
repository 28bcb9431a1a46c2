"""pykan's import path of the symbolic layer."""

from kan.layers.symbolic_layer import SymbolicLayer as Symbolic_KANLayer

__all__ = ["Symbolic_KANLayer"]
