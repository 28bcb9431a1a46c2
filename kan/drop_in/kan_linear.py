r"""KAN layers with the manners of ``torch.nn.Linear``, and stacks of them.

    ``y_j = sum_i base_weight_ji b(x_i) + sum_i spline_scaler_ji sum_m spline_weight_jim f_im(x_i)``

with the base function ``b`` (SiLU) and basis functions ``f`` (B-splines, or any basis of `kan.bases.registry`).

References
    Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv:2404.19756. The parameters' names and shapes, and so the files, are those
    of efficient-kan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kan.bases.base import Basis, Extrapolation
from kan.bases.projection import fitted, refit
from kan.drop_in.edge_sparsity import edge_sparsity
from kan.drop_in.edge_sum import basis_values, edge_sum
from kan.drop_in.initialisation import Edges, Scales, initial_weights, initialise_, scheme
from kan.drop_in.linear_weight import LinearWeight
from kan.layers.arguments import base_function, interval, make_basis, share_of_equal_spacing
from kan.layers.base_functions import BaseFunction
from kan.layers.checks import check_dtype, check_margin, check_samples, warn_of_kept_grids
from kan.layers.ordinary_module import OrdinaryModule
from kan.layers.prepared_grid import PreparedGrid

__all__ = ["KANLinear", "KANStack"]


class KANLinear(OrdinaryModule):
    """``in_features * out_features`` learnable functions of one variable, summed over the inputs; see the module.

    Args:
        in_features, out_features: sizes of the last axis of inputs and outputs.
        grid_size: grid intervals ``G`` of the splines on `grid_range`.
        spline_order: degree ``k`` of the splines.
        scale_noise, scale_base, scale_spline: sizes of the initial weights under ``init="efficient-kan"``, where 0.01, 0.3 and 0.1 are
            taken when not given, and under ``init="pykan"``, with 0.5, 1 and 1. The other schemes work theirs out.
        enable_standalone_scale_spline: whether there is a `spline_scaler`, one factor per edge.
        base_activation: the base function: a module's class, as in efficient-kan, or any function of a tensor.
        grid_eps: grid updates mix `grid_eps` of equal spacing with ``1 - grid_eps`` of the samples' quantiles.
        grid_range: ``[low, high]`` of the initial grid.
        bias: whether a number is added to every output. Unlike ``torch.nn.Linear`` there is none by default, since the basis functions can
            represent constants.
        basis: a `Basis`, or the name of a registered one, which then has ``G + k`` functions.
        extrapolation: what the basis functions are outside of the grid, see `Extrapolation`; as the basis says when not given.
        init: ``"glorot"``, which keeps the sizes of values and gradients through many layers, ``"power-law"``, ``"efficient-kan"`` or
            ``"pykan"``; see `kan.drop_in.initialisation`. When not given, ``"efficient-kan"`` if one of its scales is, else ``"glorot"``.
        generator: source of the initial weights; the global state, as in ``torch.nn``, when not given.
        device, dtype: of the parameters.

    Attributes:
        base_weight: ``(out_features, in_features)``.
        spline_weight: ``(out_features, in_features, n)``, ``n = G + k``.
        spline_scaler: ``(out_features, in_features)``, or absent.
        bias: ``(out_features,)``, zero at the beginning, or None.
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
        scale_noise: float | None = None,
        scale_base: float | None = None,
        scale_spline: float | None = None,
        enable_standalone_scale_spline: bool = True,
        base_activation: type[nn.Module] | BaseFunction = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        *,
        bias: bool = False,
        basis: str | Basis = "bspline",
        extrapolation: Extrapolation | None = None,
        init: str | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(grid_size, bool):  # the place of nn.Linear's bias
            raise TypeError("grid_size, the third argument, is a number of intervals; a bias is asked for by name: bias=True.")
        for name, value, least in (("in_features", in_features, 1), ("out_features", out_features, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}.")
        low, high = interval(grid_range)
        self.in_features, self.out_features = in_features, out_features
        self.basis = make_basis(basis, grid_size, spline_order, extrapolation)
        self.grid_size, self.spline_order = grid_size, spline_order
        self.scale_noise, self.scale_base, self.scale_spline = scale_noise, scale_base, scale_spline
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.base_activation = base_function(base_activation)
        self.grid_eps, self.grid_range = share_of_equal_spacing(grid_eps), [low, high]
        self.init = scheme(init, Scales(scale_noise, scale_base, scale_spline))

        made: dict[str, Any] = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.register_buffer("grid", self.basis.initial_grid(in_features, low, high).to(**made))
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features, **made))
        self.spline_weight = nn.Parameter(torch.empty(out_features, in_features, self.basis.size, **made))
        self.spline_scaler: nn.Parameter | None
        if enable_standalone_scale_spline:
            self.spline_scaler = nn.Parameter(torch.empty(out_features, in_features, **made))
        else:
            self.register_parameter("spline_scaler", None)
        self.bias: nn.Parameter | None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features, **made))
        else:
            self.register_parameter("bias", None)
        self._prepared = PreparedGrid(in_features)
        initialise_(self, KANLinear, generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as `init` says."""
        if self.grid.is_meta:  # as with torch.nn's layers: there are no numbers yet
            return
        scales, ends = Scales(self.scale_noise, self.scale_base, self.scale_spline), (self.grid_range[0], self.grid_range[1])
        scaled = self.spline_scaler is not None
        edges = Edges(self.basis, self.grid, self.out_features, self.base_activation, ends, self.grid_size, scales, scaled)
        drawn = initial_weights(self.init, edges, generator)
        self.base_weight.copy_(drawn.base)
        self.spline_weight.copy_(drawn.spline)
        if self.spline_scaler is not None and drawn.scaler is not None:
            self.spline_scaler.copy_(drawn.scaler)
        if self.bias is not None:
            self.bias.zero_()

    def extra_repr(self) -> str:
        """Sizes, as shown by ``print(layer)``."""
        bias = "" if self.bias is None else ", bias=True"
        return f"in_features={self.in_features}, out_features={self.out_features}{bias}, basis={self.basis}"

    def forward(self, x: Tensor) -> Tensor:
        """``y`` ``(..., out_features)`` at `x` ``(..., in_features)``.

        Raises:
            ValueError: if the last axis of `x` has another size.
            TypeError: if the dtype of `x` is not the parameters', unless autocast is on.
        """
        if x.is_nested:  # torch's encoder makes one of a batch with padding
            rows = x.unbind()
            parts = self.forward(torch.cat(rows)).split([len(row) for row in rows])
            return torch.nested.as_nested_tensor(list(parts), layout=x.layout)
        return self.summed(x) if self.bias is None else self.summed(x) + self.bias

    def summed(self, x: Tensor) -> Tensor:
        """The sums of the edges, without the bias; as `forward` otherwise."""
        self._check_input(x)
        y = edge_sum(
            x if x.dim() == 2 else x.reshape(-1, self.in_features),
            self.base_weight,
            self.spline_weight,
            self.spline_scaler,
            self.base_activation,
            self.basis,
            self._prepared.of(self.grid, self.basis),
        )
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self.out_features)

    @property
    def weight(self) -> Tensor:
        """For code that reads it of a ``torch.nn.Linear``: `base_weight`, but the whole layer for ``F.linear``; see `LinearWeight`."""
        return LinearWeight.of(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(
                "the weight of a KANLinear cannot be replaced, and so not be shared with an embedding: its edges are functions. Their "
                "parameters are base_weight, spline_weight and spline_scaler."
            )
        super().__setattr__(name, value)

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
        return fitted(self.basis, self.grid, x, y).transpose(0, 1).contiguous()

    @property
    def scaled_spline_weight(self) -> Tensor:
        """``spline_scaler * spline_weight``, ``(out_features, in_features, n)``."""
        return self.spline_weight if self.spline_scaler is None else self.spline_weight * self.spline_scaler[..., None]

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> None:
        """Move the grid to where the samples are and refit the functions, in place.

        The layer's function is kept to round-off where the basis can represent it on the new grid; elsewhere the new function is its
        fit at the samples or, with few of them, on the whole interval. Inputs whose samples do not determine a grid
        (a constant column, fewer samples than grid points) keep their grid and weights, with a warning that names them.

        Args:
            x: ``(..., in_features)``, the samples.
            margin: how far the grid reaches beyond the samples.

        Raises:
            ValueError: if `x` has another last axis, no rows, or is not finite, or if `margin` is negative; nothing is changed then.
        """
        self._check_input(x)
        check_margin(margin)
        samples = x.detach().reshape(-1, self.in_features).to(self.grid.device)
        check_samples(samples)
        self._prepared.of(self.grid, self.basis)  # a grid that is none is found before anything is changed
        grid, usable = self.basis.adapted_grid(samples, self.grid, margin, self.grid_eps)
        found = refit(self.basis, self.spline_weight.transpose(0, 1), self.grid, grid, samples).transpose(0, 1)
        self.spline_weight.copy_(torch.where(usable[:, None], found, self.spline_weight))
        self.grid.copy_(grid)
        warn_of_kept_grids(usable, f"{len(samples)} samples", "input", self.basis)

    def regularization_loss(self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0) -> Tensor:
        """``regularize_activation * sum_ij a_ij - regularize_entropy * sum_ij p_ij log p_ij``, 0-dim.

        Here ``a_ij = mean_m |spline_weight_jim|`` and ``p_ij = a_ij / sum a``.
        """
        return edge_sparsity(self.spline_weight.abs().mean(-1), regularize_activation, regularize_entropy)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"expected an input of shape (..., {self.in_features}); got {tuple(x.shape)}.")
        check_dtype(x, self.spline_weight.dtype)


class KANStack(nn.Module):
    """`KANLinear` layers one after another, with the arguments of efficient-kan's ``KAN`` in their order.

    Args:
        layers_hidden: sizes ``[inputs, ..., outputs]``.
        grid_size, spline_order, scale_noise, scale_base, scale_spline, base_activation, grid_eps, grid_range: of every `KANLinear`.
        **options: further arguments of every `KANLinear`.

    Attributes:
        layers: the `KANLinear` layers.
        grid_size, spline_order: as given.

    >>> sum(p.numel() for p in KANStack([64, 128, 256, 128, 64, 32]).parameters())
    839680
    """

    def __init__(
        self,
        layers_hidden: Sequence[int],
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float | None = None,
        scale_base: float | None = None,
        scale_spline: float | None = None,
        base_activation: type[nn.Module] | BaseFunction = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        **options: Any,
    ) -> None:
        super().__init__()
        if len(layers_hidden) < 2:
            raise ValueError(f"layers_hidden must name at least the sizes of the input and of the output; got {list(layers_hidden)}.")
        self.grid_size, self.spline_order = grid_size, spline_order
        options |= {
            "scale_noise": scale_noise, "scale_base": scale_base, "scale_spline": scale_spline, "base_activation": base_activation,
            "grid_eps": grid_eps, "grid_range": grid_range,
        }  # fmt: skip
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
