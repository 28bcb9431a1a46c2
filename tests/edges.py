"""Samples, and numeric edges with given curves, for the tests of several rooms."""

from collections.abc import Callable

import torch
from torch import Tensor

from kan import KAN


@torch.no_grad()
def put(model: KAN, l: int, i: int, j: int, curve: Callable[[Tensor], Tensor]) -> None:
    """Let the numeric edge compute `curve` between -1 and 1, as nearly as its splines can."""
    layer = model.act_fun[l]
    x = torch.linspace(-1, 1, 400)
    features = layer.features(x[:, None].expand(-1, layer.in_dim))[:, i, 1:]
    layer.coef[i, j] = torch.linalg.lstsq(features, curve(x)[:, None]).solution[:, 0]
    layer.scale_base[i, j], layer.scale_sp[i, j] = 0.0, 1.0
