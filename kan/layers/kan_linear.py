r"""KAN layers with the manners of ``torch.nn.Linear``, and stacks of them.

    ``y_j = sum_i base_weight_ji b(x_i) + sum_i spline_scaler_ji sum_m spline_weight_jim f_im(x_i)``

with the base function ``b`` (SiLU) and basis functions ``f`` (B-splines, or any basis of `kan.bases.registry`).

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756. The parameters' names and shapes, and so the files, are those
    of efficient-kan.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kan.bases.base import Basis, Extrapolation
from kan.bases.bspline import BSpline
from kan.bases.projection import refit, solve
from kan.bases.registry import basis_class
from kan.layers.edge_sum import basis_values, edge_sum
from kan.layers.initialisation import initialise
from kan.layers.prepared_grid import PreparedGrid

__all__ = ["KANLinear", "KANStack"]

BaseFunction = Callable[[Tensor], Tensor]


class KANLinear(nn.Module):
    """``in_features * out_features`` learnable functions of one variable, summed over the inputs; see the module.

    Args:
        in_features, out_features: sizes of the last axis of inputs and outputs.
        grid_size: grid intervals ``G`` of the splines on `grid_range`.
        spline_order: degree ``k`` of the splines.
        scale_noise, scale_base, scale_spline: sizes of the initial weights under ``init="efficient-kan"``.
        enable_standalone_scale_spline: whether there is a `spline_scaler`, one factor per edge.
        base_activation: the base function: a module's class, as in efficient-kan, or any function of a tensor.
        grid_eps: grid updates mix `grid_eps` of equal spacing with ``1 - grid_eps`` of the samples' quantiles.
        grid_range: ``[low, high]`` of the initial grid.
        basis: a `Basis`, or the name of a registered one, which then has ``G + k`` functions.
        extrapolation: what the basis functions are outside of the grid, see `Extrapolation`; as the basis says when not given.
        init: name of the initialisation, see `kan.layers.initialisation`.
        generator: source of the initial weights; the global state, as in ``torch.nn``, when not given.
        device, dtype: of the parameters.

    Attributes:
        base_weight: ``(out_features, in_features)``.
        spline_weight: ``(out_features, in_features, n)``, ``n = G + k``.
        spline_scaler: ``(out_features, in_features)``, or absent.
        grid: buffer with one row per input; for splines the knots, ``(in_features, G + 2k + 1)``.

    >>> layer = KANLinear(3, 2)
    >>> layer(torch.zeros(7, 5, 3)).shape
    torch.Size([7, 5, 2])
    """

    grid: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.01,
        scale_base: float = 0.3,
        scale_spline: float = 0.1,
        enable_standalone_scale_spline: bool = True,
        base_activation: type[nn.Module] | BaseFunction = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        *,
        basis: str | Basis = "bspline",
        extrapolation: Extrapolation | None = None,
        init: str = "efficient-kan",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (("in_features", in_features, 1), ("out_features", out_features, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}.")
        low, high = (float(end) for end in grid_range)
        if not low < high:
            raise ValueError(f"grid_range must be [low, high] with low < high; got {list(grid_range)}.")
        self.in_features, self.out_features = in_features, out_features
        self.basis = _basis(basis, grid_size, spline_order, extrapolation)
        self.grid_size, self.spline_order = grid_size, spline_order
        self.scale_noise, self.scale_base, self.scale_spline = scale_noise, scale_base, scale_spline
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.base_activation = base_activation() if isinstance(base_activation, type) else base_activation
        self.grid_eps, self.grid_range = grid_eps, [low, high]
        self.init = init

        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("grid", self.basis.initial_grid(in_features, low, high).to(**made))
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features, **made))
        self.spline_weight = nn.Parameter(torch.empty(out_features, in_features, self.basis.size, **made))
        self.spline_scaler: nn.Parameter | None
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.empty(out_features, in_features, **made))
        else:
            self.register_parameter("spline_scaler", None)
        self._prepared = PreparedGrid()
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as `init` says."""
        initialise(self.init, self, generator)

    def extra_repr(self) -> str:
        """Sizes, as shown by ``print(layer)``."""
        return f"in_features={self.in_features}, out_features={self.out_features}, basis={self.basis}"

    def forward(self, x: Tensor) -> Tensor:
        """``y`` ``(..., out_features)`` at `x` ``(..., in_features)``.

        Raises:
            ValueError: if the last axis of `x` has another size.
            TypeError: if the dtype of `x` is not the parameters', unless autocast is on.
        """
        self._check_input(x)
        y = edge_sum(
            x.reshape(-1, self.in_features),
            self.base_weight,
            self.spline_weight,
            self.spline_scaler,
            self.base_activation,
            self.basis,
            self._prepared.of(self.grid, self.basis),
        )
        return y.view(*x.shape[:-1], self.out_features)

    def b_splines(self, x: Tensor) -> Tensor:
        """Values of the basis functions at `x` ``(B, in_features)``: ``(B, in_features, n)``."""
        self._check_input(x)
        return basis_values(x, self.basis, self._prepared.of(self.grid, self.basis)).permute(2, 0, 1)

    def curve2coeff(self, x: Tensor, y: Tensor) -> Tensor:
        """Least-squares coefficients ``(out_features, in_features, n)`` of curves with the values `y` at `x`.

        Args:
            x: ``(B, in_features)``.
            y: ``(B, in_features, out_features)``.
        """
        self._check_input(x)
        if y.shape != (len(x), self.in_features, self.out_features):
            raise ValueError(f"values must have the shape {(len(x), self.in_features, self.out_features)}; got {tuple(y.shape)}.")
        design = self.basis.rows(x.double().t(), self.basis.prepare(self.grid.double())).mT
        return solve(design, y.double().transpose(0, 1)).permute(2, 0, 1).to(y.dtype).contiguous()

    @property
    def scaled_spline_weight(self) -> Tensor:
        """``spline_scaler * spline_weight``, ``(out_features, in_features, n)``."""
        return self.spline_weight if self.spline_scaler is None else self.spline_weight * self.spline_scaler[..., None]

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> None:
        """Move the grid to where the samples are and refit the functions, in place.

        The layer's function is kept to round-off where the basis can represent it on the new grid; elsewhere the new function is its
        least-squares fit at the samples. Inputs whose samples do not determine a grid (a constant column, fewer samples than grid points)
        keep their grid and weights, with a warning that names them.

        Args:
            x: ``(..., in_features)``, the samples.
            margin: how far the grid reaches beyond the samples.

        Raises:
            ValueError: if `x` has another last axis, no rows, or is not finite; nothing is changed then.
        """
        self._check_input(x)
        samples = x.detach().reshape(-1, self.in_features).to(self.grid.device)
        if len(samples) == 0:
            raise ValueError("a grid update needs samples; got none.")
        bad = (~torch.isfinite(samples)).any(dim=0)
        if bool(bad.any()):
            raise ValueError(f"samples must be finite; the columns {bad.nonzero()[:, 0].tolist()} hold NaN or infinity.")
        grid, usable = self.basis.adapted_grid(samples, self.grid, margin, self.grid_eps)
        found = refit(self.basis, self.spline_weight.transpose(0, 1), self.grid, grid, samples).transpose(0, 1)
        self.spline_weight.copy_(torch.where(usable[:, None], found, self.spline_weight))
        self.grid.copy_(grid)
        kept = (~usable).nonzero()[:, 0].tolist()
        if kept:
            warnings.warn(
                f"grid update: the {len(samples)} samples of input(s) {kept} do not determine a grid (constant or repeated values, or too "
                f"few for {self.basis}); their grid and weights are kept.",
                stacklevel=3,  # beyond the decorator
            )

    def regularization_loss(self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0) -> Tensor:
        """``regularize_activation * sum_ij a_ij - regularize_entropy * sum_ij p_ij log p_ij``, 0-dim.

        Here ``a_ij = mean_m |spline_weight_jim|`` and ``p_ij = a_ij / sum a``.
        """
        size = self.spline_weight.abs().mean(-1)
        total = size.sum()
        share = size / total.clamp(min=torch.finfo(size.dtype).tiny)
        return regularize_activation * total - regularize_entropy * torch.xlogy(share, share).sum()

    def _check_input(self, x: Tensor) -> None:
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"expected an input of shape (..., {self.in_features}); got {tuple(x.shape)}.")
        cast = torch.is_autocast_enabled(x.device.type) and x.is_floating_point() and x.dtype != torch.float64
        if x.dtype != self.spline_weight.dtype and not cast:
            raise TypeError(
                f"the layer's parameters are {self.spline_weight.dtype} and the input is {x.dtype}; convert one of them, "
                f"for example x.to(layer.spline_weight.dtype)."
            )


class KANStack(nn.Module):
    """`KANLinear` layers one after another.

    Args:
        layers_hidden: sizes ``[inputs, ..., outputs]``.
        **options: of every `KANLinear`.

    Attributes:
        layers: the `KANLinear` layers.

    >>> sum(p.numel() for p in KANStack([64, 128, 256, 128, 64, 32]).parameters())
    839680
    """

    def __init__(self, layers_hidden: Sequence[int], grid_size: int = 5, spline_order: int = 3, **options: Any) -> None:
        super().__init__()
        if len(layers_hidden) < 2:
            raise ValueError(f"layers_hidden must name at least the sizes of the input and of the output; got {list(layers_hidden)}.")
        sizes = zip(layers_hidden[:-1], layers_hidden[1:], strict=True)
        self.layers = nn.ModuleList(KANLinear(n_in, n_out, grid_size, spline_order, **options) for n_in, n_out in sizes)

    def forward(self, x: Tensor, update_grid: bool = False) -> Tensor:
        """Output ``(..., layers_hidden[-1])``; with `update_grid`, every layer's grid is moved to its inputs first."""
        layer: KANLinear
        for layer in self.layers:  # type: ignore[assignment]
            if update_grid:
                layer.update_grid(x)
            x = layer(x)
        return x

    def regularization_loss(self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0) -> Tensor:
        """The sum of the layers' losses, see `KANLinear.regularization_loss`."""
        layers: Any = self.layers
        return torch.stack([layer.regularization_loss(regularize_activation, regularize_entropy) for layer in layers]).sum()


def _basis(basis: str | Basis, grid_size: int, spline_order: int, extrapolation: Extrapolation | None) -> Basis:
    """The basis that `KANLinear`'s arguments mean."""
    found = basis
    if isinstance(found, str):
        cls: Any = basis_class(found)
        found = cls(grid_size, spline_order) if issubclass(cls, BSpline) else cls(grid_size + spline_order)
    if extrapolation is not None:
        found = replace(found, extrapolation=extrapolation)  # type: ignore[type-var]  # every basis is a dataclass
    assert isinstance(found, Basis)
    return found
