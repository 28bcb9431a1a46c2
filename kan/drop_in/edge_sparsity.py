r"""A penalty that is small where few edges are large.

    ``regularize_activation * sum_e a_e - regularize_entropy * sum_e p_e log p_e``,  ``p_e = a_e / sum a``

with a size ``a_e >= 0`` for every edge, such as the mean magnitude of its coefficients.

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756, section 2.5.1, where a size is the mean magnitude of the
    edge's values.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["edge_sparsity"]


def edge_sparsity(size: Tensor, regularize_activation: float, regularize_entropy: float) -> Tensor:
    """The penalty of the module, 0-dim; zero if all edges are. Gradients are finite; edges without size have none from the entropy.

    Args:
        size: ``a``, of any shape.
        regularize_activation, regularize_entropy: factors of the two terms.

    >>> edge_sparsity(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), 0.5, 1.0)
    tensor(1.6931)
    """
    total = size.sum()
    share = size / total.clamp(min=torch.finfo(size.dtype).tiny)
    # Of x log x the slope at zero is infinite, and times that of the magnitude there, 0, no number.
    logarithm = torch.where(share > 0, share, 1.0).log()
    return regularize_activation * total - regularize_entropy * (share * logarithm).sum()
