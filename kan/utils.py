"""pykan's import path of data sets, derivatives, symbolic functions and formulas."""

from kan.analysis.derivatives import batch_hessian, batch_jacobian, get_derivative, model2param
from kan.datasets.arrays import create_dataset_from_data
from kan.datasets.synthetic import create_dataset
from kan.discovery.formulas.rounding import ex_round
from kan.layers.kan_layer import sparse_mask
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.augmentation import augment_input
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic
from kan.symbolic.singular import (
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
)

__all__ = [
    "SYMBOLIC_LIB", "add_symbolic", "augment_input", "batch_hessian", "batch_jacobian", "create_dataset", "create_dataset_from_data",
    "ex_round", "f_arccos", "f_arcsin", "f_arctanh", "f_exp", "f_inv", "f_inv2", "f_inv3", "f_inv4", "f_inv5", "f_invsqrt", "f_log",
    "f_power1d5", "f_sqrt", "f_tan", "fit_params", "get_derivative", "model2param", "sparse_mask",
]  # fmt: skip
