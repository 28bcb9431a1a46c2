r"""Levenberg-Marquardt steps from the matrix ``J J'`` of the residuals, for networks with more coordinates than residuals.

The step is ``p = -J'(J J' + mu/2 I)^-1 r``. The Jacobian of a layer's weights is the Khatri-Rao product of features ``Psi`` and
sensitivities ``Delta``, so that its part of ``J J'`` is the entrywise product of two Gram matrices,

    ``J_l J_l' = (Psi_l' Psi_l) * (Delta_l' Delta_l)``,

which takes ``O(R^2 (F + O))`` operations for ``F`` features and ``O`` sub-nodes instead of ``O(R^2 F O)``, and ``J_l' v`` is a product of
matrices, too. The Jacobian itself is computed only for the other trained parameters, and where ``J J'`` is ill-conditioned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from kan.network.layer_pass import LayerParts, LayerPass, Sensitivity
from kan.solvers.levenberg_marquardt import Linearisation, damped_cholesky
from kan.training.least_squares.coordinates import Columns

__all__ = ["ResidualSide"]


class ResidualSide:
    """The quadratic model of a sum of squares around the present parameters, solved by ``J J'``; see `kan.solvers.levenberg_marquardt`.

    Args:
        columns: the coordinates that are trained.
        layers, passes, back: see `Columns.write`.
        residual: the residuals, ``(K, B)``.
        exact: the model with the Jacobian itself, for ill-conditioned problems.
    """

    def __init__(
        self,
        columns: Columns,
        layers: Sequence[LayerParts],
        passes: Sequence[LayerPass],
        back: Sequence[Sensitivity],
        residual: Tensor,
        exact: Callable[[], Linearisation],
    ) -> None:
        self._columns, self._residual, self._exact = columns, residual, exact
        self._factors = [_factors(passes[l], back[l]) for l in columns.dense]
        self._rows = columns.write(layers, passes, back, sparing_dense=True).flatten(1)
        self.gradient = 2 * self._transposed_product(residual)
        squares = [(psi.square() @ delta.square().sum(1).t()).amax() for psi, delta in self._factors]
        squares += [self._rows.square().sum(1).amax()] if len(self._rows) else []
        self.largest = 2 * float(torch.stack(squares).amax())

    def step(self, mu: float) -> Tensor:
        """The step ``p`` ``(P,)`` with the damping `mu`."""
        factor = damped_cholesky(self._kernel, mu / 2)
        if factor is None:
            return self._linearisation.step(mu)
        return -self._transposed_product(torch.cholesky_solve(self._residual.reshape(-1, 1), factor).view_as(self._residual))

    @cached_property
    def _kernel(self) -> Tensor:
        """``J J'``, ``(K B, K B)``."""
        outputs, batch = self._residual.shape
        total = self._rows.t() @ self._rows
        for psi, delta in self._factors:
            flat = delta.flatten(1)
            of_features, of_sums = psi.t() @ psi, (flat.t() @ flat).view(outputs, batch, outputs, batch)
            total.view(outputs, batch, outputs, batch).addcmul_(of_sums, of_features[:, None])
        return total

    @cached_property
    def _linearisation(self) -> Linearisation:
        return self._exact()

    def _transposed_product(self, vector: Tensor) -> Tensor:
        """``J' v`` ``(P,)`` for `vector` ``(K, B)``."""
        weights = [psi @ (delta * vector).sum(1).t() for psi, delta in self._factors]
        return self._columns.assembled(weights, self._rows @ vector.reshape(-1))


def _factors(passed: LayerPass, back: Sensitivity) -> tuple[Tensor, Tensor]:
    """Features ``(F, B)`` and sensitivities ``(O, K, B)`` of a layer."""
    assert passed.features is not None
    return passed.features.rows.flatten(0, 1), back.sums.transpose(0, 1)
