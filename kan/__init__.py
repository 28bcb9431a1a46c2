"""Kolmogorov-Arnold networks: train, look, prune, and read the formula.

    >>> import kan
    >>> model = kan.KAN(width=[2, 5, 1], grid=3, k=3, auto_save=False)

``from kan import *`` gives the names of ``__all__``: the model, the layers, the tools, and the modules and sympy functions that notebooks
of this field take for granted.
sympy, matplotlib and pandas are imported when a name of theirs is first used.
"""

import copy
import os
import random
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

# pykan's import paths come first, as modules; the classes of the same names then take their places as attributes.
from kan import LBFGS, KANLayer, MultKAN, Symbolic_KANLayer, spline, utils
from kan._version import __version__ as __version__
from kan.analysis.derivatives import batch_hessian, batch_jacobian, get_derivative, model2param
from kan.datasets.arrays import create_dataset_from_data
from kan.datasets.synthetic import create_dataset
from kan.discovery.formulas.rounding import ex_round
from kan.drop_in.kan_conv import KANConv1d, KANConv2d, KANConv3d
from kan.drop_in.kan_linear import KANLinear, KANStack
from kan.layers.kan_layer import sparse_mask
from kan.model import KAN
from kan.output import set_verbosity
from kan.spline import curve2coef
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.augmentation import augment_input
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic
from kan.training.residuals import fit_residuals
from kan.versions import show_versions

KANLayer = KANLayer.KANLayer  # type: ignore[assignment]
LBFGS = LBFGS.LBFGS  # type: ignore[assignment]
MultKAN = MultKAN.MultKAN  # type: ignore[assignment]
Symbolic_KANLayer = Symbolic_KANLayer.Symbolic_KANLayer  # type: ignore[assignment]

_MODULES_LATER = {
    "plt": "matplotlib.pyplot", "sympy": "sympy",
    **{name: f"kan.{name}" for name in ("MLP", "compiler", "experiment", "feynman", "hypothesis")},
}  # fmt: skip
"""Modules that are imported when they are first used."""

_LATER = {
    **dict.fromkeys(["Symbol", "cos", "exp", "expand", "lambdify", "latex", "log", "nsimplify", "pi", "simplify", "sin", "sqrt"], "sympy"),
    "symbols": "sympy",
    "plot_tree": "kan.hypothesis",
    "discover": "kan.discovery.discover",
    **dict.fromkeys([name for name in utils.__all__ if name.startswith("f_")], "kan.utils"),
}
"""Names that are looked up when they are first used, and where."""


class _Pandas(ModuleType):
    """pandas, imported when something of it is first used: it is no dependency, and ``from kan import *`` must work without it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of every object that Python's own tools look at
            raise AttributeError(f"module 'pandas' has not been imported, so that it has no attribute {name!r}")
        try:
            return getattr(import_module("pandas"), name)
        except ModuleNotFoundError as error:
            message = f"pd.{name} needs pandas, which cannot be imported ({error}). Install it: pip install pandas."
            raise ModuleNotFoundError(message) from error

    def __dir__(self) -> list[str]:
        return dir(import_module("pandas"))


pd = _Pandas("pandas")

__all__ = [
    "KAN", "KANConv1d", "KANConv2d", "KANConv3d", "KANLayer", "KANLinear", "KANStack", "LBFGS", "MultKAN", "SYMBOLIC_LIB", "Symbol",
    "Symbolic_KANLayer", "add_symbolic", "augment_input", "batch_hessian", "batch_jacobian", "copy", "cos", "create_dataset",
    "create_dataset_from_data", "curve2coef", "discover", "ex_round", "exp", "expand", "fit_params", "fit_residuals", "get_derivative",
    "hypothesis", "lambdify", "latex", "log", "model2param", "nn", "np", "nsimplify", "os", "pd", "pi", "plot_tree", "plt", "random",
    "set_verbosity", "show_versions", "simplify", "sin", "sparse_mask", "spline", "sqrt", "symbols", "sympy", "torch", "tqdm", "utils",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES_LATER:
        value: Any = import_module(_MODULES_LATER[name])
    elif name in _LATER:
        value = getattr(import_module(_LATER[name]), name)
    else:
        raise AttributeError(f"module 'kan' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES_LATER, *_LATER})
