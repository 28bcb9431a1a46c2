"""Kolmogorov-Arnold networks: train, look, prune, and read the formula.

    >>> import kan
    >>> model = kan.KAN(width=[2, 5, 1], grid=3, k=3, auto_save=False)

``from kan import *`` gives the names of ``__all__``: the model, the layers, the tools, and the modules and sympy functions that notebooks
of this field take for granted.
sympy and matplotlib are imported when a name of theirs is first used.
"""

import copy
import os
import random
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

# pykan's import paths come first, as modules; the classes of the same names then take their places as attributes.
from kan import LBFGS, KANLayer, MultKAN, Symbolic_KANLayer, utils
from kan._version import __version__ as __version__
from kan.datasets.synthetic import create_dataset
from kan.discovery.formula import ex_round
from kan.layers.kan_conv import KANConv1d, KANConv2d, KANConv3d
from kan.layers.kan_layer import sparse_mask
from kan.layers.kan_linear import KANLinear, KANStack
from kan.model import KAN
from kan.symbolic.affine_fit import fit_params
from kan.symbolic.library import SYMBOLIC_LIB, add_symbolic

KANLayer = KANLayer.KANLayer  # type: ignore[assignment]
LBFGS = LBFGS.LBFGS  # type: ignore[assignment]
MultKAN = MultKAN.MultKAN  # type: ignore[assignment]
Symbolic_KANLayer = Symbolic_KANLayer.Symbolic_KANLayer  # type: ignore[assignment]

_LATER = {
    "plt": "matplotlib.pyplot",
    "sympy": "sympy",
    **dict.fromkeys(["Symbol", "cos", "exp", "expand", "lambdify", "latex", "log", "nsimplify", "pi", "simplify", "sin", "sqrt"], "sympy"),
    "symbols": "sympy",
}
"""Names that are imported when they are first used, and where they come from."""

__all__ = [
    "KAN", "KANConv1d", "KANConv2d", "KANConv3d", "KANLayer", "KANLinear", "KANStack", "LBFGS", "MultKAN",
    "SYMBOLIC_LIB", "Symbol", "Symbolic_KANLayer", "add_symbolic", "copy", "cos",
    "create_dataset", "ex_round", "exp", "expand", "fit_params", "lambdify", "latex", "log", "nn", "np", "nsimplify", "os", "pi",
    "plt", "random", "simplify", "sin", "sparse_mask", "sqrt", "symbols", "sympy", "torch", "tqdm", "utils",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'kan' has no attribute {name!r}")
    module = import_module(_LATER[name])
    value = module if name in ("plt", "sympy") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
