"""pykan's import path of data sets, symbolic functions and formulas."""

from kan.datasets.synthetic import create_dataset
from kan.discovery.formula import ex_round
from kan.layers.kan_layer import sparse_mask
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic

__all__ = ["SYMBOLIC_LIB", "add_symbolic", "create_dataset", "ex_round", "fit_params", "sparse_mask"]
